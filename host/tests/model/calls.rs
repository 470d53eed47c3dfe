//! Makes each call of a history, in Locket and in the model.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use locket::{Error, Guard, LockFile, Mode, OnRelease, Options, Protocol};

use super::common::{STUCK, block_on};
use super::history::Patience;
use super::system::*;
use super::vocabulary::{Answer, Attempt, Seen};
use super::waits::{Wait, WakeFlag};

impl System {
    pub(crate) fn open(&mut self, engine: u8, file: u8, protocol: u8, remove: bool) -> Option<()> {
        const KERNEL: [Protocol; 3] = [Protocol::Native, Protocol::Flock, Protocol::Fcntl];
        let engine = pick(engine, ENGINES.len())?;
        let file = pick(file, FILES)?;
        let protocol = match file {
            EXISTENCE => self.existence_lock,
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
        self.handles
            .push(Some(lock.expect("the lock file can be opened")));
        self.model.open(engine, file, protocol, remove);
        Some(())
    }

    pub(crate) fn acquire(
        &mut self,
        index: usize,
        lock: &LockFile,
        mode: Mode,
        patience: Patience,
    ) {
        // A wait that is given up must have moved to the file that took the other's place. Only a try is sure
        // to.
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

    /// Tries until it succeeds: at once, unless a thread is still returning from a wait.
    pub(crate) fn try_acquire(
        &self,
        lock: &LockFile,
        mode: Mode,
        file: usize,
    ) -> Result<Guard, Error> {
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

    pub(crate) fn start(&mut self, index: usize, lock: &LockFile, mode: Mode) {
        let name = self.model.handles[index].protocol.is_existence_lock();
        if name && mode == Mode::Shared || !self.model.may_wait(index) {
            return;
        }
        match self.model.acquire(index, mode) {
            Attempt::Granted(key, ticket) => {
                let guard = block_on(lock.acquire_async(mode, STUCK)).expect("the lock is free");
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
                    flag: WakeFlag::new(),
                };
                assert!(wait.poll().is_pending(), "a lock that is held was granted");
                self.waits.push(wait);
            }
        }
    }

    pub(crate) fn abandon(&mut self, number: u8) -> Option<()> {
        let index = pick(number, self.waits.len())?;
        let wait = self.waits.swap_remove(index);
        self.model.leave(wait.key, wait.ticket);
        Some(())
    }

    pub(crate) fn release(&mut self, number: u8, checked: bool) -> Option<()> {
        let index = pick(number, self.holds.len())?;
        let hold = self.holds.swap_remove(index);
        let expected = self
            .model
            .release(hold.key, hold.ticket, hold.handle, checked);
        if checked {
            assert_eq!(answer(&hold.guard.release()), expected);
        }
        Some(())
    }

    pub(crate) fn release_through(&mut self, index: usize, lock: &LockFile) {
        let expected = self.model.release_through(index);
        let file = self.model.handles[index].file;
        let unclear = self.model.disturbed[file] && expected == Answer::NotLocked;
        becomes(unclear, &expected, || answer(&lock.release()));
    }

    pub(crate) fn break_lock(&mut self, index: usize, lock: &LockFile) {
        let file = self.model.handles[index].file;
        let (expected, loser) = self.model.break_lock(index);
        // It may find the lock that a thread took just before it returned from a wait.
        becomes(self.model.disturbed[file], &expected, || {
            answer(&lock.break_lock())
        });
        self.learns(loser);
    }

    pub(crate) fn ask(&self, index: usize, lock: &LockFile) {
        let file = self.model.handles[index].file;
        assert_eq!(lock.state(), self.model.state(index));
        let expected = self.model.holder(index);
        becomes(self.model.disturbed[file], &expected, || {
            let holder = lock.holder().expect("the lock can be queried");
            holder.map(|holder| Seen {
                mode: holder.mode,
                is_self: holder.is_self,
            })
        });
        becomes(self.model.disturbed[file], &expected.is_some(), || {
            lock.is_locked().expect("the lock can be queried")
        });
    }

    pub(crate) fn delete(&mut self, file: usize) {
        if file == EXISTENCE {
            if self.existence_lock == Protocol::Sqlite {
                return;
            }
            let loser = self.model.take_away(file);
            // There may be the entry that a thread made just before it returned from a wait.
            becomes(
                self.model.disturbed[file],
                &loser.is_some(),
                || match self.existence_lock {
                    Protocol::Mkdir => fs::remove_dir_all(self.entry()).is_ok(),
                    _ => fs::remove_file(self.entry()).is_ok(),
                },
            );
            self.learns(loser);
        } else if self.model.waiters(file) <= 1 && self.model.paths[file].is_some() {
            fs::remove_file(self.path(file)).expect("the lock file can be removed");
            self.model.unlink(file, false);
        }
    }

    pub(crate) fn replace(&mut self, file: usize) {
        if file != EXISTENCE && self.model.waiters(file) <= 1 {
            let other = self.dir.join("other");
            fs::write(&other, "").expect("a file can be written");
            fs::rename(other, self.path(file)).expect("a file can be renamed");
            self.model.unlink(file, true);
        }
    }
}
