//! Locks as a guest has them: open, awaited and held.

use std::future::{self, Future};
use std::mem;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use super::limits::Limits;
use super::quota::{Entry, Guest, Handle};
use super::rights::Rights;
use crate::engine::{Acquire, Guard, LockFile, Meanwhile};
use crate::error::{Error, ErrorKind, Result};
use crate::{Guarantee, Holder, LostReason, Mode, State};

/// An open lock of a guest. Dropping it releases what it [keeps](Hold::keep).
#[derive(Debug)]
pub struct Lock {
    open: Arc<Open>,
    _handle: Handle,
}

/// What outlives a lock for as long as somebody waits for it or holds it.
#[derive(Debug)]
struct Open {
    guest: Arc<Guest>,
    id: u64,
    file: LockFile,
    rights: Rights,
}

impl Open {
    fn refuse(&self, kind: ErrorKind) -> Error {
        Error::new(kind, self.file.path())
    }

    fn refuse_forked(&self) -> Result<()> {
        self.guest.engine.refuse_forked(self.file.path())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if self.guest.is_forked() {
            return;
        }
        let mut ledger = self.guest.ledger();
        let index = ledger.locks.iter().position(|(id, _)| *id == self.id);
        let lock = index.map(|index| ledger.locks.swap_remove(index));
        drop(ledger);
        drop(lock);
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if self.open.guest.is_forked() {
            return;
        }
        let kept = |entry: &mut Entry| entry.kept && entry.lock == self.open.id;
        let kept: Vec<_> = self
            .open
            .guest
            .ledger()
            .holds
            .extract_if(.., kept)
            .collect();
        drop(kept);
    }
}

impl Lock {
    pub(super) fn new(guest: &Arc<Guest>, file: LockFile, rights: Rights, handle: Handle) -> Self {
        let mut ledger = guest.ledger();
        let id = ledger.number();
        ledger.locks.push((id, file.clone()));
        drop(ledger);
        let open = Open {
            guest: Arc::clone(guest),
            id,
            file,
            rights,
        };
        Self {
            open: Arc::new(open),
            _handle: handle,
        }
    }

    /// The path, as the guest opened it.
    pub fn path(&self) -> &str {
        // It came as a string.
        self.open.file.path().to_str().unwrap_or_default()
    }

    /// Acquires the lock on the calling thread; see [`LockFile::acquire`]. The guest does
    /// nothing meanwhile.
    ///
    /// # Errors
    ///
    /// As [`LockFile::acquire`]; [denied](Error::is_denied) for a mode that is not granted;
    /// [limit exceeded](Error::is_limit_exceeded); [deadlock](Error::is_deadlock) where the wait
    /// could not end before the guest goes on, or closes a circle of guests that wait for one
    /// another; [canceled](Error::is_canceled) where the longest wait ends before the timeout.
    pub fn acquire(&self, mode: Mode, timeout: impl Into<Option<Duration>>) -> Result<Hold> {
        let terms = Terms::new(&self.open, mode, timeout.into())?;
        let meanwhile = terms.suspended();
        let result = self.open.file.acquire_as(mode, terms.timeout, meanwhile);
        terms.settle(result)
    }

    /// Acquires the lock in a task, while the guest does nothing.
    ///
    /// # Errors
    ///
    /// Here: [denied](Error::is_denied) and [limit exceeded](Error::is_limit_exceeded) where that
    /// is known beforehand. From the future: as [`acquire`](Self::acquire).
    pub fn acquire_suspended(
        &self,
        mode: Mode,
        timeout: impl Into<Option<Duration>>,
    ) -> Result<Wait> {
        let terms = Terms::new(&self.open, mode, timeout.into())?;
        let meanwhile = terms.suspended();
        Ok(self.start(mode, terms, meanwhile))
    }

    /// Acquires the lock in a task, while the guest goes on: so it may wait for itself.
    ///
    /// # Errors
    ///
    /// As [`acquire_suspended`](Self::acquire_suspended), but for the deadlock.
    pub fn acquire_async(&self, mode: Mode, timeout: impl Into<Option<Duration>>) -> Result<Wait> {
        let terms = Terms::new(&self.open, mode, timeout.into())?;
        Ok(self.start(mode, terms, Meanwhile::GoesOn))
    }

    fn start(&self, mode: Mode, terms: Terms, meanwhile: Meanwhile) -> Wait {
        let acquire = self.open.file.start(mode, terms.timeout, meanwhile);
        Wait {
            acquire,
            terms: Some(terms),
        }
    }

    /// Releases one hold of the guest on this file: one that was acquired through this lock if
    /// there is one, otherwise any.
    ///
    /// # Errors
    ///
    /// As [`LockFile::release`].
    pub fn release(&self) -> Result<()> {
        self.open.refuse_forked()?;
        let mut ledger = self.open.guest.ledger();
        let mine = |entry: &Entry| entry.lock == self.open.id;
        let holds = ledger.holds.iter().enumerate();
        let found = holds
            .filter(|(_, entry)| mine(entry) || entry.guard.is_on(&self.open.file))
            .max_by_key(|(_, entry)| (mine(entry), entry.id))
            .map(|(index, _)| index);
        let entry = found.map(|index| ledger.holds.remove(index));
        drop(ledger);
        match entry {
            Some(entry) => entry.guard.release(),
            // Says why not.
            None => self.open.file.release(),
        }
    }

    /// Whether anybody holds the lock; see [`LockFile::is_locked`].
    ///
    /// # Errors
    ///
    /// Those of the system, with [`Error::is_io`].
    pub fn is_locked(&self) -> Result<bool> {
        self.open.file.is_locked()
    }

    /// One of those who hold the lock; see [`LockFile::holder`].
    ///
    /// # Errors
    ///
    /// Those of the system, with [`Error::is_io`].
    pub fn holder(&self) -> Result<Option<Holder>> {
        self.open.file.holder()
    }

    /// What the guest knows of its own hold.
    pub fn state(&self) -> State {
        self.open.file.state()
    }

    /// For how long the guest still holds the lock, if there is an end to it.
    pub fn valid_for(&self) -> Option<Duration> {
        // One that the guest was not told of yet has its whole time.
        let longest = self.open.guest.limits.longest_hold?;
        if self.open.guest.is_forked() {
            return Some(Duration::ZERO);
        }
        let ledger = self.open.guest.ledger();
        let holds = ledger
            .holds
            .iter()
            .filter(|entry| entry.guard.is_on(&self.open.file));
        Some(holds.filter_map(Entry::valid_for).max().unwrap_or(longest))
    }

    /// What the lock is worth.
    pub fn guarantee(&self) -> Guarantee {
        self.open.file.guarantee()
    }

    /// Tells when a hold of the guest on this file is lost. It counts as a handle until it is
    /// dropped, and since what guests have for it cannot fail, it may go up to twice
    /// [`Limits::handles`].
    ///
    /// # Errors
    ///
    /// [Limit exceeded](Error::is_limit_exceeded).
    pub fn lost(&self) -> Result<Loss> {
        Ok(Loss {
            open: Arc::downgrade(&self.open),
            _handle: self.open.guest.extra_handle()?,
        })
    }

    /// Counts a handle of the guest that is not a lock, until the result is dropped.
    ///
    /// # Errors
    ///
    /// [Limit exceeded](Error::is_limit_exceeded).
    pub fn handle(&self) -> Result<Handle> {
        self.open.guest.handle(self.open.file.path())
    }
}

/// Tells when a hold of a guest is lost. It does not keep the lock open: once the [`Lock`] is dropped
/// and nothing that was acquired through it is held, there is nothing to lose.
#[derive(Debug)]
pub struct Loss {
    open: Weak<Open>,
    _handle: Handle,
}

impl Loss {
    /// Returns when a hold of the guest on the file is lost, be that a hold of now or a later one;
    /// see [`LockFile::lost`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no other effect.
    pub async fn wait(&self) -> LostReason {
        let lost = self.open.upgrade().map(|open| open.file.lost());
        match lost {
            Some(lost) => lost.await,
            None => future::pending().await,
        }
    }
}

/// On what terms an acquire was admitted. It counts as a wait until it is dropped.
#[derive(Debug)]
struct Terms {
    open: Arc<Open>,
    timeout: Option<Duration>,
    /// What it means where the time is up sooner than the guest asked for.
    cut_short: Option<ErrorKind>,
    waits: bool,
}

impl Drop for Terms {
    fn drop(&mut self) {
        if self.waits && !self.open.guest.is_forked() {
            self.open.guest.ledger().waiters -= 1;
        }
    }
}

impl Terms {
    fn new(open: &Arc<Open>, mode: Mode, timeout: Option<Duration>) -> Result<Self> {
        open.refuse_forked()?;
        if !open.rights.contains(Rights::to_hold(mode)) {
            return Err(open.refuse(ErrorKind::Denied));
        }
        let Limits {
            longest_wait,
            waiters,
            ..
        } = open.guest.limits;
        let longest = longest_wait.filter(|longest| timeout.is_none_or(|time| *longest < time));
        let mut terms = Self {
            open: Arc::clone(open),
            timeout: longest.or(timeout),
            cut_short: longest.and(Some(ErrorKind::Canceled)),
            waits: false,
        };
        let mut ledger = open.guest.ledger();
        if !open.guest.may_hold_another(&ledger) {
            drop(ledger);
            return Err(open.refuse(ErrorKind::LimitExceeded));
        }
        if terms.timeout != Some(Duration::ZERO) {
            terms.waits = ledger.waiters < waiters;
            ledger.waiters += usize::from(terms.waits);
            // A lock that is free may be had all the same.
            if !terms.waits {
                terms.timeout = Some(Duration::ZERO);
                terms.cut_short = Some(ErrorKind::LimitExceeded);
            }
        }
        Ok(terms)
    }

    /// What a guest does that stops until the acquire is over.
    fn suspended(&self) -> Meanwhile {
        let ledger = self.open.guest.ledger();
        let others = ledger.waiters - usize::from(self.waits);
        Meanwhile::Stops {
            blocks: others > 0 || !ledger.holds.is_empty(),
        }
    }

    /// Books what came of the acquire.
    fn settle(mut self, result: Result<Guard>) -> Result<Hold> {
        self.open.refuse_forked()?;
        let guard = match (result, self.cut_short) {
            (Err(e), Some(kind)) if e.is_would_block() || e.is_timeout() => {
                return Err(self.open.refuse(kind));
            }
            (result, _) => result?,
        };
        let guest = &self.open.guest;
        let mut ledger = guest.ledger();
        ledger.waiters -= usize::from(mem::take(&mut self.waits));
        // Several acquires that began within the limit may have ended beyond it.
        if !guest.may_hold_another(&ledger) {
            drop(ledger);
            return Err(self.open.refuse(ErrorKind::LimitExceeded));
        }
        let id = ledger.number();
        ledger.holds.push(Entry {
            id,
            lock: self.open.id,
            kept: false,
            guard,
        });
        drop(ledger);
        Ok(Hold {
            open: Arc::clone(&self.open),
            id,
        })
    }
}

/// An acquire of a guest under way: the future of [`Lock::acquire_async`].
///
/// # Cancel safety
///
/// Dropping it abandons the wait, and releases the lock if it was granted in the meantime.
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct Wait {
    // In this order: the wait counts until it has ended.
    acquire: Acquire,
    terms: Option<Terms>,
}

impl Future for Wait {
    type Output = Result<Hold>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let result = ready!(Pin::new(&mut self.acquire).poll(cx));
        let terms = self
            .terms
            .take()
            .expect("the future is not polled after its end");
        Poll::Ready(terms.settle(result))
    }
}

/// A hold of a guest. Dropping it releases the lock.
#[derive(Debug)]
#[must_use = "the lock is released as soon as the hold is dropped"]
pub struct Hold {
    open: Arc<Open>,
    id: u64,
}

impl Hold {
    /// For how long it lasts from now on, if there is an end to it; zero where it is over.
    pub fn valid_for(&self) -> Option<Duration> {
        if self.open.guest.is_forked() {
            return Some(Duration::ZERO);
        }
        let ledger = self.open.guest.ledger();
        let entry = ledger.index(self.id).map(|index| &ledger.holds[index]);
        entry.map_or(Some(Duration::ZERO), Entry::valid_for)
    }

    /// Releases the lock and says how it went. Dropping the hold does the same and keeps silent.
    ///
    /// # Errors
    ///
    /// [Not locked](Error::is_not_locked) where it was released through the [`Lock`], otherwise
    /// as [`Guard::release`].
    pub fn release(self) -> Result<()> {
        self.open.refuse_forked()?;
        let entry = self.open.guest.ledger().take(self.id);
        entry
            .ok_or_else(|| self.open.refuse(ErrorKind::NotLocked))?
            .guard
            .release()
    }

    /// Leaves it to the lock that it was acquired through: it is held until it is
    /// [released](Lock::release) through that, or that is dropped. What was kept before and has
    /// been lost since is forgotten.
    pub fn keep(self) {
        if self.open.guest.is_forked() {
            return;
        }
        let mut ledger = self.open.guest.ledger();
        let lock = self.open.id;
        let lost: Vec<_> = ledger
            .holds
            .extract_if(.., |entry| {
                entry.kept && entry.lock == lock && !entry.guard.is_held()
            })
            .collect();
        if let Some(index) = ledger.index(self.id) {
            ledger.holds[index].kept = true;
        }
        drop(ledger);
        drop(lost);
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if self.open.guest.is_forked() {
            return;
        }
        let mut ledger = self.open.guest.ledger();
        let kept = ledger
            .index(self.id)
            .is_none_or(|index| ledger.holds[index].kept);
        let entry = if kept { None } else { ledger.take(self.id) };
        drop(ledger);
        drop(entry);
    }
}
