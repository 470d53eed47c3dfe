//! Subjects that are threads of this process.

use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use locket::{Engine, LockFile, Options, Owner, Protocol};

use crate::dialogue::Session;
use crate::subject::{AnySubject, End, Site, Stand, Subject};
use crate::waits::waiters;

/// Threads with an engine each, which are to one another like processes: they meet in the kernel,
/// or in the directory.
#[derive(Debug)]
pub struct Engines(Site);

/// Threads of one engine, each an owner of its own: they meet in its queue.
#[derive(Debug)]
pub struct Threads {
    site: Site,
    engine: Engine,
}

const ENDS: [End; 3] = [End::Finish, End::Kill, End::Command("panic")];

impl Engines {
    /// A thread with an engine of its own, on whichever stand.
    pub fn start_in(site: &Site) -> AnySubject {
        Box::new(Thread::start(Engine::new(), site.options()))
    }
}

impl Stand for Engines {
    fn new(protocol: Protocol) -> Self {
        Self(Site::new(protocol))
    }

    fn site(&self) -> &Site {
        &self.0
    }

    fn start(&self) -> AnySubject {
        Self::start_in(&self.0)
    }

    fn waiting(&self) -> Option<usize> {
        super::kernel_waiters(&self.0)
    }

    fn ends(&self) -> Vec<End> {
        ENDS.to_vec()
    }
}

impl Stand for Threads {
    fn new(protocol: Protocol) -> Self {
        Self {
            site: Site::new(protocol),
            engine: Engine::new(),
        }
    }

    fn site(&self) -> &Site {
        &self.site
    }

    fn start(&self) -> AnySubject {
        let options = self.site.options().owner(Owner::Thread);
        Box::new(Thread::start(self.engine.clone(), options))
    }

    fn waiting(&self) -> Option<usize> {
        let lock = self
            .engine
            .open_with(self.site.lock_path(), &self.site.options());
        Some(waiters(&lock.expect("the lock can be opened")))
    }

    fn ends(&self) -> Vec<End> {
        ENDS.to_vec()
    }

    fn crowd(&self) -> usize {
        40
    }

    fn is_one_queue(&self) -> bool {
        true
    }
}

/// A thread that obeys.
#[derive(Debug)]
struct Thread {
    input: Option<Sender<String>>,
    output: Receiver<String>,
    /// What it has opened, so that its waits can be canceled from here.
    opened: Arc<Mutex<Vec<LockFile>>>,
    thread: Option<JoinHandle<()>>,
}

impl Thread {
    fn start(engine: Engine, options: Options) -> Self {
        let (input, lines) = mpsc::channel::<String>();
        let (answers, output) = mpsc::channel();
        let opened = Arc::<Mutex<Vec<LockFile>>>::default();
        let shared = Arc::clone(&opened);
        let obey = move || {
            let mut session = Session::new(engine, options);
            for line in lines {
                let answer = session.obey(&line);
                if let (["open", name, ..], "ok") = (&*words(&line), &*answer) {
                    let lock = session.lock(name).clone();
                    shared
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(lock);
                }
                if answers.send(answer).is_err() {
                    break;
                }
            }
        };
        Self {
            input: Some(input),
            output,
            opened,
            thread: Some(thread::spawn(obey)),
        }
    }

    /// Closes its input, and waits for its end; whether it did not panic.
    fn join(&mut self) -> bool {
        self.input = None;
        let thread = self.thread.take();
        thread.is_none_or(|thread| thread.join().is_ok())
    }

    /// A thread cannot be killed: its waits are canceled, and then it drops all that it has.
    fn abandon(&mut self) -> bool {
        self.input = None;
        let mut opened = self.opened();
        // Again and again, because it may be about to wait.
        while self
            .thread
            .as_ref()
            .is_some_and(|thread| !thread.is_finished())
        {
            opened.iter().for_each(LockFile::cancel_waits);
            thread::yield_now();
        }
        opened.clear();
        drop(opened);
        self.join()
    }

    fn opened(&self) -> MutexGuard<'_, Vec<LockFile>> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn words(line: &str) -> Vec<&str> {
    line.split(' ').collect()
}

impl Subject for Thread {
    fn send(&mut self, line: &str) {
        let input = self.input.as_ref().expect("the thread has not ended");
        input.send(line.into()).expect("the thread listens");
    }

    fn answer_within(&mut self, limit: Duration) -> Option<String> {
        self.output.recv_timeout(limit).ok()
    }

    fn pid(&self) -> u32 {
        std::process::id()
    }

    fn finish(mut self: Box<Self>) {
        self.opened().clear();
        assert!(self.join(), "the thread does not panic");
    }

    fn kill(mut self: Box<Self>) {
        assert!(self.abandon(), "the thread does not panic");
    }

    fn ended(mut self: Box<Self>) {
        self.opened().clear();
        self.join();
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.abandon();
    }
}
