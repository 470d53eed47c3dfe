//! Runs a history against Locket, and compares every answer with the model's.
//!
//! No wait depends on the clock: if the model says that a wait must be granted, the test waits for its
//! wake-up, and fails without it. Engines are to each other like processes.

use std::fmt::Debug;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

use locket::{Engine, Error, Guard, LockFile, LostReason, Mode, Options, Protocol, State};

use super::common::{STUCK, eventually};
use super::history::{Call, History};
use super::reference::Model;
use super::vocabulary::{Answer, Key, Ticket};
use super::waits::{Hold, Wait};

/// The timeout of an acquire that must not succeed.
pub(crate) const SHORT: Duration = Duration::from_micros(200);

/// The files: three of kernel locks, of which one is removed on release, and one of an existence lock.
pub(crate) const FILES: usize = 4;

pub(crate) const REMOVED: usize = 1;

pub(crate) const EXISTENCE: usize = 3;

/// Whether each engine hands locks on as often as it may, or never.
pub(crate) const ENGINES: [bool; 3] = [true, false, true];

pub(crate) struct System {
    pub(crate) model: Model,
    pub(crate) dir: PathBuf,
    pub(crate) existence_lock: Protocol,
    pub(crate) engines: Vec<Engine>,
    /// Numbered as in the model; none for a handle that was dropped.
    pub(crate) handles: Vec<Option<LockFile>>,
    pub(crate) waits: Vec<Wait>,
    pub(crate) holds: Vec<Hold>,
}

/// Runs a history to its end. Panics if Locket answers differently from the model.
pub(crate) fn run(history: &History) {
    let dir = tempfile::tempdir().expect("a folder can be made");
    run_in(dir.path(), history);
}

/// Runs a history in a folder in which no other process locks anything.
pub(crate) fn run_in(dir: &Path, history: &History) {
    let mut system = System::new(dir, history.existence_lock);
    for call in &history.calls {
        system.call(call);
        system.settle();
    }
    system.end();
}

/// The index that `number` chooses, of `of`.
pub(crate) fn pick(number: u8, of: usize) -> Option<usize> {
    usize::from(number).checked_rem(of)
}

pub(crate) fn mode(shared: bool) -> Mode {
    if shared {
        Mode::Shared
    } else {
        Mode::Exclusive
    }
}

/// Asks until the answer is `expected`. It must be so at once, unless that is `unclear`.
#[track_caller]
pub(crate) fn becomes<T: PartialEq + Debug>(
    unclear: bool,
    expected: &T,
    mut ask: impl FnMut() -> T,
) {
    let start = Instant::now();
    loop {
        let answer = ask();
        if answer == *expected {
            return;
        }
        assert!(
            unclear && start.elapsed() < STUCK,
            "answers {answer:?} instead of {expected:?}"
        );
        thread::yield_now();
    }
}

pub(crate) fn answer(result: &Result<(), Error>) -> Answer {
    match result {
        Ok(()) => Answer::Done,
        Err(e) if e.lost_reason() == Some(LostReason::Broken) => Answer::Lost,
        Err(e) if e.is_not_locked() => Answer::NotLocked,
        Err(e) if e.is_not_owner() => Answer::NotOwner,
        Err(e) if e.is_unsupported() => Answer::Unsupported,
        Err(e) => panic!("{e}"),
    }
}

impl System {
    pub(crate) fn new(dir: &Path, name: u8) -> Self {
        let row = cfg!(feature = "sqlite").then_some(Protocol::Sqlite);
        // A transaction waits for the disk, so there are fewer of them.
        let existence_lock = match (name, row) {
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
            Engine::builder()
                .hand_off(limit, STUCK)
                .fairness_pause(Duration::ZERO, Duration::ZERO)
                .build()
        };
        let names: Vec<_> = (0..FILES).map(|file| file == EXISTENCE).collect();
        Self {
            model: Model::new(&ENGINES, &names),
            dir: dir.to_owned(),
            existence_lock,
            engines: ENGINES.map(engine).into(),
            handles: Vec::new(),
            waits: Vec::new(),
            holds: Vec::new(),
        }
    }

    pub(crate) fn path(&self, file: usize) -> PathBuf {
        self.dir.join(format!("file{file}"))
    }

    /// The entry of the existence lock.
    pub(crate) fn entry(&self) -> PathBuf {
        match self.existence_lock {
            Protocol::PidFile | Protocol::Soft => self.path(EXISTENCE),
            _ => self.path(EXISTENCE).with_extension("lock"),
        }
    }

    pub(crate) fn handle(&self, number: u8) -> Option<(usize, LockFile)> {
        let open = self.handles.iter().enumerate();
        let open: Vec<_> = open
            .filter_map(|(index, lock)| Some((index, lock.as_ref()?)))
            .collect();
        let (index, lock) = open[pick(number, open.len())?];
        Some((index, lock.clone()))
    }

    pub(crate) fn hold(
        &mut self,
        key: Key,
        ticket: Ticket,
        handle: usize,
        guard: Guard,
        lock: LockFile,
    ) {
        self.holds.push(Hold {
            key,
            ticket,
            handle,
            guard,
            lock,
        });
    }

    pub(crate) fn take_wait(&mut self, ticket: Ticket) -> Wait {
        let index = self.waits.iter().position(|wait| wait.ticket == ticket);
        self.waits
            .swap_remove(index.expect("the model knows no other waits"))
    }

    /// Makes one call. Does nothing if there is nothing to call.
    pub(crate) fn call(&mut self, call: &Call) -> Option<()> {
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
                assert!(
                    self.waits[index].poll().is_pending(),
                    "a wait was granted out of turn"
                );
            }
            Call::Abandon { wait } => self.abandon(wait)?,
            Call::Cancel { handle } => {
                let (index, lock) = self.handle(handle)?;
                lock.cancel_waits();
                for (key, ticket) in self.model.waits_of(index) {
                    let mut wait = self.take_wait(ticket);
                    match wait.poll() {
                        Poll::Ready(Err(e)) if e.is_canceled() => {}
                        other => panic!("{other:?} after a wait was canceled"),
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

    /// Waits until every wait that must be granted is granted.
    pub(crate) fn settle(&mut self) {
        for inode in std::mem::take(&mut self.model.unsure) {
            let there = self.path(self.model.path_of(inode)).exists();
            self.model.resolve(inode, there);
        }
        let start = Instant::now();
        loop {
            if let Some((key, ticket)) = self.model.undelivered() {
                self.deliver(key, ticket);
                continue;
            }
            let candidates = self.model.candidates();
            let woken = |(_, ticket): &&(Key, Ticket)| {
                let wait = self.waits.iter().find(|wait| wait.ticket == *ticket);
                wait.is_some_and(|wait| wait.flag.woken.load(Ordering::Acquire))
            };
            match candidates.iter().find(woken) {
                Some((key, ticket)) => {
                    self.model.granted(*key);
                    self.deliver(*key, *ticket);
                }
                None if candidates.is_empty() => return,
                None => {
                    let waited = start.elapsed();
                    assert!(
                        waited < STUCK,
                        "no waiter is granted a free lock: {:?}",
                        self.model
                    );
                    thread::park_timeout(STUCK - waited);
                }
            }
        }
    }

    /// Polls a wait that was granted.
    pub(crate) fn deliver(&mut self, key: Key, ticket: Ticket) {
        let mut wait = self.take_wait(ticket);
        wait.flag.woken.store(false, Ordering::Release);
        match (self.model.deliver(key, ticket), wait.poll()) {
            (Ok((key, ticket)), Poll::Ready(Ok(guard))) => {
                self.hold(key, ticket, wait.handle, guard, wait.lock);
            }
            // The file that took the place of the first is held.
            (Err((key, ticket)), Poll::Pending) => {
                let moved = Wait {
                    key,
                    ticket,
                    ..wait
                };
                self.waits.push(moved);
            }
            (expected, polled) => panic!("a granted wait: {polled:?}, {expected:?}"),
        }
    }

    /// A holder that lost its existence lock learns it.
    pub(crate) fn learns(&self, loser: Option<Key>) {
        let Some(loser) = loser else { return };
        let lost = State::Lost(LostReason::Broken);
        for hold in self.holds.iter().filter(|hold| hold.key == loser) {
            becomes(true, &lost, || hold.lock.state());
        }
    }

    /// Drops everything. Then another engine can acquire every lock, and no files are left.
    pub(crate) fn end(mut self) {
        self.waits.clear();
        self.holds.clear();
        self.handles.clear();
        let other = Engine::new();
        for file in 0..FILES {
            let protocol = if file == EXISTENCE {
                self.existence_lock
            } else {
                Protocol::Native
            };
            let options = Options::new().protocol(protocol);
            let options = options.database(self.dir.join("locks.db"));
            let lock = other
                .open_with(self.path(file), &options)
                .expect("the lock file can be opened");
            let guard = lock
                .acquire(Mode::Exclusive, STUCK)
                .expect("the lock is free");
            guard.release().expect("the lock can be released");
        }
        // A helper may still be cleaning up after a lock that was lost.
        eventually("nothing is left behind", || self.unknown_files().is_empty());
    }

    fn unknown_files(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.dir).expect("the folder can be read");
        let names = entries.map(|entry| {
            let name = entry.expect("the folder can be read").file_name();
            name.to_string_lossy().into_owned()
        });
        let is_known = |name: &String| {
            name.starts_with("locks.db")
                || (0..EXISTENCE).any(|file| *name == format!("file{file}"))
        };
        names.filter(|name| !is_known(name)).collect()
    }
}
