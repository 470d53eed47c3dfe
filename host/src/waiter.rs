//! Waiting in the kernel: the one thread per file that does it, and how it is called back.
//!
//! A kernel waiter is either the thread of a blocking caller or a helper thread, borrowed from
//! [`Helpers`] for the sake of tasks that must not block. It waits on a descriptor of its own,
//! which shares the open file description, and so the lock, with that of the queue. That makes
//! interruption safe (see [`sys::interrupt`]): the waiter's descriptor is pointed elsewhere, a
//! signal ends the call, and whatever the waiter had got hold of in that moment is given back
//! through the queue's descriptor, before anybody else is served.

use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::deadline::{Deadline, IDLE};
use crate::protocol::Want;
use crate::sys;

/// One wait in the kernel.
#[derive(Debug)]
pub(crate) struct KernelWait {
    pub(crate) want: Want,
    file: File,
    progress: Mutex<Progress>,
}

#[derive(Debug, Default)]
struct Progress {
    thread: Option<sys::Thread>,
    interrupted: bool,
}

/// How a wait ended. Only [`Locked`](Self::Locked) is sure about what is held.
#[derive(Debug)]
pub(crate) enum Outcome {
    Locked,
    /// Called back.
    Interrupted,
    /// The deadline passed.
    TimedOut,
    Failed(io::Error),
}

impl KernelWait {
    /// Fails for want of descriptors or memory, so that nothing after it does.
    pub(crate) fn new(file: &File, want: Want) -> io::Result<Self> {
        sys::prepare_interrupts()?;
        Ok(Self {
            want,
            file: file.try_clone()?,
            progress: Mutex::default(),
        })
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits on the calling thread.
    pub(crate) fn run(&self, deadline: Deadline) -> Outcome {
        let outcome = self.wait(deadline).unwrap_or_else(Outcome::Failed);
        let mut progress = self.progress();
        progress.thread = None;
        if progress.interrupted {
            Outcome::Interrupted
        } else {
            outcome
        }
    }

    fn wait(&self, deadline: Deadline) -> io::Result<Outcome> {
        let thread = sys::Thread::current()?;
        {
            let mut progress = self.progress();
            if progress.interrupted {
                return Ok(Outcome::Interrupted);
            }
            progress.thread = Some(thread);
        }
        let _alarm = deadline
            .instant()
            .map(|at| sys::Alarm::set(thread, at))
            .transpose()?;
        loop {
            match self
                .want
                .protocol
                .kernel()
                .lock(&self.file, self.want.mode, true)
            {
                Ok(_) => return Ok(Outcome::Locked),
                Err(e) if e.kind() != io::ErrorKind::Interrupted => return Err(e),
                // A signal: ours, or one that the program takes for itself.
                Err(_) if self.progress().interrupted => return Ok(Outcome::Interrupted),
                Err(_) if deadline.passed() => return Ok(Outcome::TimedOut),
                Err(_) => {}
            }
        }
    }

    /// Calls the waiter back; it reports [`Outcome::Interrupted`] within microseconds.
    pub(crate) fn interrupt(&self) {
        let mut progress = self.progress();
        if progress.interrupted {
            return;
        }
        progress.interrupted = true;
        if let Some(thread) = progress.thread {
            // The thread cannot end: it takes this mutex before it lets go of the wait.
            let sent = sys::interrupt(thread, &self.file);
            debug_assert!(sent.is_ok(), "{sent:?}");
        }
    }
}

/// The threads that wait in the kernel on behalf of tasks: started when needed, kept a moment
/// for the next wait, limited in number.
pub(crate) struct Helpers {
    limit: usize,
    shared: Mutex<Pool>,
    work: Condvar,
}

/// A wait, and whom to tell how it ended.
struct Job {
    wait: Arc<KernelWait>,
    done: Box<dyn FnOnce(Outcome) + Send>,
}

#[derive(Default)]
struct Pool {
    jobs: VecDeque<Job>,
    idle: usize,
    threads: usize,
}

impl Helpers {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            shared: Mutex::default(),
            work: Condvar::new(),
        }
    }

    fn pool(&self) -> MutexGuard<'_, Pool> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits on a thread of its own. Answers `false`, and does nothing, where there is none left.
    pub(crate) fn run(
        self: &Arc<Self>,
        wait: Arc<KernelWait>,
        done: impl FnOnce(Outcome) + Send + 'static,
    ) -> bool {
        let job = Job {
            wait,
            done: Box::new(done),
        };
        let mut pool = self.pool();
        if pool.idle > pool.jobs.len() {
            pool.jobs.push_back(job);
            self.work.notify_one();
            return true;
        }
        if pool.threads == self.limit {
            return false;
        }
        let helpers = Arc::clone(self);
        let thread = thread::Builder::new()
            .name("locket-waiter".into())
            .stack_size(256 << 10);
        let started = thread.spawn(move || helpers.work(job)).is_ok();
        pool.threads += usize::from(started);
        started
    }

    fn work(&self, mut job: Job) {
        loop {
            let Job { wait, done } = job;
            let outcome = wait.run(Deadline::Never);
            // Its descriptor shall not stay open for as long as this thread idles.
            drop(wait);
            // Before the outcome is told, since that can call for the next wait.
            self.pool().idle += 1;
            done(outcome);
            let (mut pool, _) = self
                .work
                .wait_timeout_while(self.pool(), IDLE, |pool| pool.jobs.is_empty())
                .unwrap_or_else(PoisonError::into_inner);
            pool.idle -= 1;
            match pool.jobs.pop_front() {
                Some(next) => job = next,
                None => {
                    pool.threads -= 1;
                    return;
                }
            }
        }
    }
}

impl fmt::Debug for Helpers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Helpers")
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}
