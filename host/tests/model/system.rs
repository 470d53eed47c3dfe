//! Runs a history against Locket, and holds every answer against the model's.
//!
//! Nothing is waited for by the clock: where the model says that somebody must be granted the lock,
//! the wake-up is awaited, and its absence is the failure. Engines are to each other like processes.

use std::fmt::Debug;
use std::fs;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use locket::{
    Acquire, Engine, Error, Guard, LockFile, LostReason, Mode, OnRelease, Options, Protocol, State,
};

use crate::history::{Call, History, Patience};
use crate::reference::{Answer, Attempt, Key, Model, Seen, Ticket};

/// Long enough that something which has not happened is stuck.
const STUCK: Duration = Duration::from_secs(10);

/// How long an acquire waits that must not succeed.
const SHORT: Duration = Duration::from_micros(200);

/// Files: two of the kernel's, one of them removed on release; one of those that may be replaced;
/// and a name.
const FILES: usize = 4;
const REMOVED: usize = 1;
const NAME: usize = 3;

/// Whether each engine hands locks on, as far as it may, or never does.
const ENGINES: [bool; 3] = [true, false, true];

/// Told when a wait is over.
struct Bell {
    rung: AtomicBool,
    thread: Thread,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

impl Bell {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            rung: AtomicBool::new(false),
            thread: thread::current(),
        })
    }
}

fn block_on(mut future: Acquire) -> Result<Guard, Error> {
    let waker = Waker::from(Bell::new());
    loop {
        match Pin::new(&mut future).poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(result) => return result,
            Poll::Pending => thread::park(),
        }
    }
}

struct Wait {
    key: Key,
    ticket: Ticket,
    handle: usize,
    lock: LockFile,
    future: Acquire,
    bell: Arc<Bell>,
}

impl Wait {
    fn poll(&mut self) -> Poll<Result<Guard, Error>> {
        let waker = Waker::from(Arc::clone(&self.bell));
        Pin::new(&mut self.future).poll(&mut Context::from_waker(&waker))
    }
}

struct Hold {
    key: Key,
    ticket: Ticket,
    handle: usize,
    guard: Guard,
    /// The same handle as the guard's, to ask how its owner stands.
    lock: LockFile,
}

pub(crate) struct System {
    model: Model,
    dir: PathBuf,
    name: Protocol,
    engines: Vec<Engine>,
    /// By the same numbers as in the model; none for one that was dropped.
    handles: Vec<Option<LockFile>>,
    waits: Vec<Wait>,
    holds: Vec<Hold>,
}

/// Runs a history to its end. Panics where Locket does something else than the model.
pub(crate) fn run(history: &History) {
    let dir = tempfile::tempdir().expect("a folder");
    run_in(dir.path(), history);
}

/// Runs one in a folder in which nobody else may lock anything.
pub(crate) fn run_in(dir: &Path, history: &History) {
    let mut system = System::new(dir, history.name);
    for call in &history.calls {
        system.call(call);
        system.settle();
    }
    system.end();
}

/// What `number` chooses of so many.
fn pick(number: u8, of: usize) -> Option<usize> {
    usize::from(number).checked_rem(of)
}

fn mode(shared: bool) -> Mode {
    if shared {
        Mode::Shared
    } else {
        Mode::Exclusive
    }
}

/// Asks until the answer is the one, which it must be in the end. At once if nothing is `unclear`.
#[track_caller]
fn becomes<T: PartialEq + Debug>(unclear: bool, expected: &T, mut ask: impl FnMut() -> T) {
    let start = Instant::now();
    loop {
        let answer = ask();
        if answer == *expected {
            return;
        }
        assert!(
            unclear && start.elapsed() < STUCK,
            "answers {answer:?}, and should {expected:?}"
        );
        thread::yield_now();
    }
}

#[track_caller]
fn assert_answer(result: Result<(), Error>, expected: Answer) {
    let answer = match &result {
        Ok(()) => Answer::Done,
        Err(e) if e.lost_reason() == Some(LostReason::Broken) => Answer::Lost,
        Err(e) if e.is_not_locked() => Answer::NotLocked,
        Err(e) if e.is_not_owner() => Answer::NotOwner,
        Err(e) if e.is_unsupported() => Answer::Unsupported,
        Err(e) => panic!("{e}"),
    };
    assert_eq!(answer, expected);
}

impl System {
    fn new(dir: &Path, name: u8) -> Self {
        let row = cfg!(feature = "sqlite").then_some(Protocol::Sqlite);
        // A transaction waits for the disk, so there are fewer of those.
        let name = match (name, row) {
            (250.., Some(row)) => row,
            _ => {
                let names = Protocol::ALL
                    .iter()
                    .copied()
                    .filter(|p| p.is_existence_lock());
                let names: Vec<_> = names.filter(|p| *p != Protocol::Sqlite).collect();
                names[usize::from(name) % names.len()]
            }
        };
        let engine = |hands_on: bool| {
            let limit = if hands_on { 1000 } else { 0 };
            Engine::builder().hand_off(limit, STUCK).build()
        };
        let names: Vec<_> = (0..FILES).map(|file| file == NAME).collect();
        Self {
            model: Model::new(&ENGINES, &names),
            dir: dir.to_owned(),
            name,
            engines: ENGINES.map(engine).into(),
            handles: Vec::new(),
            waits: Vec::new(),
            holds: Vec::new(),
        }
    }

    fn path(&self, file: usize) -> PathBuf {
        self.dir.join(format!("file{file}"))
    }

    /// What has the name that is the lock.
    fn name(&self) -> PathBuf {
        match self.name {
            Protocol::PidFile | Protocol::Soft => self.path(NAME),
            _ => self.path(NAME).with_extension("lock"),
        }
    }

    fn handle(&self, number: u8) -> Option<(usize, LockFile)> {
        let open = self.handles.iter().enumerate();
        let open: Vec<_> = open
            .filter_map(|(index, lock)| Some((index, lock.as_ref()?)))
            .collect();
        let (index, lock) = open[pick(number, open.len())?];
        Some((index, lock.clone()))
    }

    /// Does one call. One for which there is nothing to do it with is none.
    fn call(&mut self, call: &Call) -> Option<()> {
        match *call {
            Call::Open {
                engine,
                file,
                protocol,
                remove,
            } => self.open(engine, file, protocol, remove)?,
            Call::Acquire {
                handle,
                shared,
                patience,
            } => {
                let (index, lock) = self.handle(handle)?;
                self.acquire(index, &lock, mode(shared), patience);
            }
            Call::Start { handle, shared } => {
                let (index, lock) = self.handle(handle)?;
                self.start(index, &lock, mode(shared));
            }
            Call::Poll { wait } => {
                let index = pick(wait, self.waits.len())?;
                assert!(self.waits[index].poll().is_pending(), "granted out of turn");
            }
            Call::Abandon { wait } => self.abandon(wait)?,
            Call::Cancel { handle } => {
                let (index, lock) = self.handle(handle)?;
                lock.cancel_waits();
                for (key, ticket) in self.model.waits_of(index) {
                    let mut wait = self.take_wait(ticket);
                    match wait.poll() {
                        Poll::Ready(Err(e)) if e.is_canceled() => {}
                        other => panic!("{other:?} after a wait was withdrawn"),
                    }
                    self.model.leave(key, ticket);
                }
            }
            Call::Release { hold } => self.release(hold, true)?,
            Call::Drop { hold } => self.release(hold, false)?,
            Call::ReleaseAndAbandon { hold, wait } => {
                self.release(hold, true)?;
                self.abandon(wait)?;
            }
            Call::ReleaseThrough { handle } => {
                let (index, lock) = self.handle(handle)?;
                self.release_through(index, &lock);
            }
            Call::Close { handle } => {
                let (index, _) = self.handle(handle)?;
                self.handles[index] = None;
            }
            Call::Break { handle } => {
                let (index, lock) = self.handle(handle)?;
                self.break_lock(index, &lock);
            }
            Call::Ask { handle } => {
                let (index, lock) = self.handle(handle)?;
                self.ask(index, &lock);
            }
            Call::Delete { file } => self.delete(usize::from(file) % FILES),
            Call::Replace { file } => self.replace(usize::from(file) % FILES),
        }
        Some(())
    }

    fn open(&mut self, engine: u8, file: u8, protocol: u8, remove: bool) -> Option<()> {
        const KERNEL: [Protocol; 3] = [Protocol::Native, Protocol::Flock, Protocol::Fcntl];
        let engine = pick(engine, ENGINES.len())?;
        let file = pick(file, FILES)?;
        let protocol = match file {
            NAME => self.name,
            _ => KERNEL[pick(protocol, KERNEL.len())?],
        };
        let remove = remove && file == REMOVED;
        if remove && self.model.waiters(file) > 1 {
            return None;
        }
        let on_release = if remove {
            OnRelease::Remove
        } else {
            OnRelease::Keep
        };
        let options = Options::new().protocol(protocol).on_release(on_release);
        let options = options.database(self.dir.join("locks.db"));
        let lock = self.engines[engine].open_with(self.path(file), &options);
        self.handles.push(Some(lock.expect("a handle")));
        self.model.open(engine, file, protocol, remove);
        Some(())
    }

    fn acquire(&mut self, index: usize, lock: &LockFile, mode: Mode, patience: Patience) {
        // By when it is given up it must have come to wait for the file that took the other's place.
        let fresh = self.model.is_fresh(index);
        let patience = if fresh { patience } else { Patience::Try };
        let file = self.model.handles[index].file;
        let attempt = self.model.acquire(index, mode);
        let timeout = match (attempt, patience) {
            (Attempt::Granted(..), _) => STUCK,
            (_, Patience::Try) => Duration::ZERO,
            _ => SHORT,
        };
        let result = match (attempt, patience) {
            (Attempt::Granted(..), Patience::Try) => self.try_acquire(lock, mode, file),
            (_, Patience::Task) => block_on(lock.acquire_async(mode, timeout)),
            _ => lock.acquire(mode, timeout),
        };
        match (attempt, result) {
            (Attempt::Granted(key, ticket), Ok(guard)) => {
                assert_eq!(guard.mode(), mode);
                self.hold(key, ticket, index, guard, lock.clone());
            }
            (Attempt::Busy, Err(e)) if timeout.is_zero() && e.is_would_block() => {}
            (Attempt::Busy, Err(e)) if !timeout.is_zero() && e.is_timeout() => {
                self.model.disturbed[file] = true;
            }
            (Attempt::Unsupported, Err(e)) if e.is_unsupported() => {}
            (_, result) => panic!("acquired {mode} with {patience:?}: {result:?}, {attempt:?}"),
        }
    }

    /// Tries what must succeed; unless somebody is on his way back from a wait, at once.
    fn try_acquire(&self, lock: &LockFile, mode: Mode, file: usize) -> Result<Guard, Error> {
        let start = Instant::now();
        loop {
            match lock.acquire(mode, Duration::ZERO) {
                Err(e)
                    if e.is_would_block()
                        && self.model.disturbed[file]
                        && start.elapsed() < STUCK =>
                {
                    thread::yield_now();
                }
                result => return result,
            }
        }
    }

    fn hold(&mut self, key: Key, ticket: Ticket, handle: usize, guard: Guard, lock: LockFile) {
        self.holds.push(Hold {
            key,
            ticket,
            handle,
            guard,
            lock,
        });
    }

    fn start(&mut self, index: usize, lock: &LockFile, mode: Mode) {
        let name = self.model.handles[index].protocol.is_existence_lock();
        if name && mode == Mode::Shared || !self.model.may_wait(index) {
            return;
        }
        match self.model.acquire(index, mode) {
            Attempt::Granted(key, ticket) => {
                let guard = block_on(lock.acquire_async(mode, STUCK)).expect("a free lock");
                self.hold(key, ticket, index, guard, lock.clone());
            }
            _ => {
                let (key, ticket) = self.model.wait(index, mode);
                let mut wait = Wait {
                    key,
                    ticket,
                    handle: index,
                    lock: lock.clone(),
                    future: lock.acquire_async(mode, None),
                    bell: Bell::new(),
                };
                assert!(wait.poll().is_pending(), "granted what is held");
                self.waits.push(wait);
            }
        }
    }

    fn take_wait(&mut self, ticket: Ticket) -> Wait {
        let index = self.waits.iter().position(|wait| wait.ticket == ticket);
        self.waits
            .swap_remove(index.expect("the model knows no other waits"))
    }

    fn abandon(&mut self, number: u8) -> Option<()> {
        let index = pick(number, self.waits.len())?;
        let wait = self.waits.swap_remove(index);
        self.model.leave(wait.key, wait.ticket);
        Some(())
    }

    fn release(&mut self, number: u8, aloud: bool) -> Option<()> {
        let index = pick(number, self.holds.len())?;
        let hold = self.holds.swap_remove(index);
        let answer = self
            .model
            .release(hold.key, hold.ticket, hold.handle, aloud);
        if aloud {
            assert_answer(hold.guard.release(), answer);
        }
        Some(())
    }

    fn release_through(&mut self, index: usize, lock: &LockFile) {
        let expected = self.model.release_through(index);
        let unclear = self.model.disturbed[self.model.handles[index].file];
        let start = Instant::now();
        loop {
            let result = lock.release();
            let free = expected == Answer::NotLocked;
            if free
                && unclear
                && start.elapsed() < STUCK
                && result.as_ref().is_err_and(Error::is_not_owner)
            {
                thread::yield_now();
                continue;
            }
            return assert_answer(result, expected);
        }
    }

    fn break_lock(&mut self, index: usize, lock: &LockFile) {
        let file = self.model.handles[index].file;
        let (expected, robbed) = self.model.break_lock(index);
        let unclear = self.model.disturbed[file] && expected == Answer::NotLocked;
        let start = Instant::now();
        loop {
            let result = lock.break_lock();
            if unclear
                && start.elapsed() < STUCK
                && result.as_ref().is_err_and(Error::is_unsupported)
            {
                thread::yield_now();
                continue;
            }
            assert_answer(result, expected);
            break;
        }
        self.learns(robbed);
    }

    /// A holder from whom a name was taken learns it.
    fn learns(&self, robbed: Option<Key>) {
        let Some(robbed) = robbed else { return };
        let lost = State::Lost(LostReason::Broken);
        for hold in self.holds.iter().filter(|hold| hold.key == robbed) {
            becomes(true, &lost, || hold.lock.state());
        }
    }

    fn ask(&self, index: usize, lock: &LockFile) {
        let file = self.model.handles[index].file;
        assert_eq!(lock.state(), self.model.state(index));
        let expected = self.model.holder(index);
        becomes(self.model.disturbed[file], &expected, || {
            let holder = lock.holder().expect("an answer");
            holder.map(|holder| Seen {
                mode: holder.mode,
                is_self: holder.is_self,
            })
        });
        becomes(self.model.disturbed[file], &expected.is_some(), || {
            lock.is_locked().expect("an answer")
        });
    }

    fn delete(&mut self, file: usize) {
        if file == NAME {
            let path = self.name();
            let deleted = match self.name {
                Protocol::Sqlite => return,
                Protocol::Mkdir => fs::remove_dir_all(path),
                _ => fs::remove_file(path),
            };
            let robbed = self.model.rob(file);
            assert_eq!(deleted.is_ok(), robbed.is_some(), "{deleted:?}");
            self.learns(robbed);
        } else if self.model.waiters(file) <= 1 && self.model.paths[file].is_some() {
            fs::remove_file(self.path(file)).expect("a lock file");
            self.model.unlink(file, false);
        }
    }

    fn replace(&mut self, file: usize) {
        if file != NAME && self.model.waiters(file) <= 1 {
            let other = self.dir.join("other");
            fs::write(&other, "").expect("another file");
            fs::rename(other, self.path(file)).expect("its place");
            self.model.unlink(file, true);
        }
    }

    /// Waits until everybody has the lock who must get it.
    fn settle(&mut self) {
        for inode in std::mem::take(&mut self.model.unsure) {
            let there = self.path(self.model.path_of(inode)).exists();
            self.model.resolve(inode, there);
        }
        let start = Instant::now();
        loop {
            if let Some((key, ticket)) = self.model.untold() {
                self.tell(key, ticket);
                continue;
            }
            let candidates = self.model.candidates();
            let rung = |(_, ticket): &&(Key, Ticket)| {
                let wait = self.waits.iter().find(|wait| wait.ticket == *ticket);
                wait.is_some_and(|wait| wait.bell.rung.load(Ordering::Acquire))
            };
            match candidates.iter().find(rung) {
                Some((key, ticket)) => {
                    self.model.granted(*key);
                    self.tell(*key, *ticket);
                }
                None if candidates.is_empty() => return,
                None => {
                    let waited = start.elapsed();
                    assert!(
                        waited < STUCK,
                        "nobody is granted a free lock: {:?}",
                        self.model
                    );
                    thread::park_timeout(STUCK - waited);
                }
            }
        }
    }

    /// Polls a wait that was granted.
    fn tell(&mut self, key: Key, ticket: Ticket) {
        let mut wait = self.take_wait(ticket);
        wait.bell.rung.store(false, Ordering::Release);
        match (self.model.tell(key, ticket), wait.poll()) {
            (Ok((key, ticket)), Poll::Ready(Ok(guard))) => {
                self.hold(key, ticket, wait.handle, guard, wait.lock);
            }
            // The file that took the other's place is held.
            (Err((key, ticket)), Poll::Pending) => {
                let moved = Wait {
                    key,
                    ticket,
                    ..wait
                };
                self.waits.push(moved);
            }
            (expected, polled) => panic!("a wait that was granted: {polled:?}, {expected:?}"),
        }
    }

    /// Gives everything up; then every lock can be had by others, and nothing is left of it.
    fn end(mut self) {
        self.waits.clear();
        self.holds.clear();
        self.handles.clear();
        let other = Engine::new();
        for file in 0..FILES {
            let protocol = if file == NAME {
                self.name
            } else {
                Protocol::Native
            };
            let options = Options::new().protocol(protocol);
            let options = options.database(self.dir.join("locks.db"));
            let lock = other
                .open_with(self.path(file), &options)
                .expect("a handle");
            let guard = lock.acquire(Mode::Exclusive, STUCK).expect("a free lock");
            guard.release().expect("a release");
        }
        let names = fs::read_dir(&self.dir).expect("a folder");
        for name in names {
            let name = name.expect("a name").file_name();
            let name = name.to_string_lossy();
            let known = (0..NAME).any(|file| name == format!("file{file}"));
            assert!(known || name.starts_with("locks.db"), "left behind: {name}");
        }
    }
}
