//! The locks of a guest: open, awaited and held.

use std::future::{self, Future};
use std::mem;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use super::limits::Limits;
use super::quota::{Guest, HandlePermit, HeldGrant};
use super::rights::Rights;
use crate::acquire::{Acquire, Suspends};
use crate::error::{Error, ErrorKind, Result};
use crate::guard::Guard;
use crate::lock_file::LockFile;
use crate::{Guarantee, Holder, LostReason, Mode, State};

/// An open lock of a guest. Dropping it releases the holds that it [keeps](GuestGuard::keep).
#[derive(Debug)]
pub struct GuestLock {
    open: Arc<Open>,
    _handle: HandlePermit,
}

/// The part of a lock that its waits and holds keep alive.
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
        let mut usage = self.guest.usage();
        let index = usage.locks.iter().position(|(id, _)| *id == self.id);
        let lock = index.map(|index| usage.locks.swap_remove(index));
        drop(usage);
        drop(lock);
    }
}

impl Drop for GuestLock {
    fn drop(&mut self) {
        if self.open.guest.is_forked() {
            return;
        }
        let kept = |entry: &mut HeldGrant| entry.kept && entry.lock == self.open.id;
        let kept: Vec<_> = self.open.guest.usage().holds.extract_if(.., kept).collect();
        drop(kept);
    }
}

impl GuestLock {
    pub(super) fn new(
        guest: &Arc<Guest>,
        file: LockFile,
        rights: Rights,
        handle: HandlePermit,
    ) -> Self {
        let mut usage = guest.usage();
        let id = usage.number();
        usage.locks.push((id, file.clone()));
        drop(usage);
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
        // The guest passed it as a string.
        self.open.file.path().to_str().unwrap_or_default()
    }

    /// Acquires the lock on the calling thread; see [`LockFile::acquire`]. The guest is suspended
    /// meanwhile.
    ///
    /// # Errors
    ///
    /// As [`LockFile::acquire`]; [denied](Error::is_denied) for a mode that is not granted; [limit
    /// exceeded](Error::is_limit_exceeded); [deadlock](Error::is_deadlock) if the wait could not
    /// end before the guest resumes, or closes a cycle of guests that wait for one another;
    /// [canceled](Error::is_canceled) if the longest wait ends before the timeout.
    pub fn acquire(&self, mode: Mode, timeout: impl Into<Option<Duration>>) -> Result<GuestGuard> {
        let admission = Admission::new(&self.open, mode, timeout.into())?;
        let meanwhile = admission.suspended();
        let result = self
            .open
            .file
            .acquire_as(mode, admission.timeout, meanwhile);
        admission.settle(result)
    }

    /// Acquires the lock in a task, while the guest is suspended.
    ///
    /// # Errors
    ///
    /// The call fails with [denied](Error::is_denied) and [limit
    /// exceeded](Error::is_limit_exceeded) if that is known beforehand. The future fails as
    /// [`acquire`](Self::acquire).
    pub fn acquire_suspended(
        &self,
        mode: Mode,
        timeout: impl Into<Option<Duration>>,
    ) -> Result<GuestAcquire> {
        let admission = Admission::new(&self.open, mode, timeout.into())?;
        let meanwhile = admission.suspended();
        Ok(self.start(mode, admission, meanwhile))
    }

    /// Acquires the lock in a task, while the guest keeps running: so it may wait for itself.
    ///
    /// # Errors
    ///
    /// As [`acquire_suspended`](Self::acquire_suspended), except for the deadlock.
    pub fn acquire_async(
        &self,
        mode: Mode,
        timeout: impl Into<Option<Duration>>,
    ) -> Result<GuestAcquire> {
        let admission = Admission::new(&self.open, mode, timeout.into())?;
        Ok(self.start(mode, admission, Suspends::Nothing))
    }

    fn start(&self, mode: Mode, admission: Admission, meanwhile: Suspends) -> GuestAcquire {
        let acquire = self.open.file.start(mode, admission.timeout, meanwhile);
        GuestAcquire {
            acquire,
            admission: Some(admission),
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
        let mut usage = self.open.guest.usage();
        let mine = |entry: &HeldGrant| entry.lock == self.open.id;
        let holds = usage.holds.iter().enumerate();
        let found = holds
            .filter(|(_, entry)| mine(entry) || self.open.file.is_held_by(&entry.guard))
            .max_by_key(|(_, entry)| (mine(entry), entry.id))
            .map(|(index, _)| index);
        let entry = found.map(|index| usage.holds.remove(index));
        drop(usage);
        match entry {
            Some(entry) => entry.guard.release(),
            // Reports why not.
            None => self.open.file.release(),
        }
    }

    /// Whether the lock is held; see [`LockFile::is_locked`].
    ///
    /// # Errors
    ///
    /// Those of the system, with [`Error::is_io`].
    pub fn is_locked(&self) -> Result<bool> {
        self.open.file.is_locked()
    }

    /// One of the holders of the lock; see [`LockFile::holder`].
    ///
    /// # Errors
    ///
    /// Those of the system, with [`Error::is_io`].
    pub fn holder(&self) -> Result<Option<Holder>> {
        self.open.file.holder()
    }

    /// The state of the guest's own hold.
    pub fn state(&self) -> State {
        self.open.file.state()
    }

    /// For how long the guest still holds the lock, if its hold expires.
    pub fn valid_for(&self) -> Option<Duration> {
        // A hold that the guest has not been told of yet has its whole time.
        let longest = self.open.guest.limits.longest_hold?;
        if self.open.guest.is_forked() {
            return Some(Duration::ZERO);
        }
        let usage = self.open.guest.usage();
        let holds = usage
            .holds
            .iter()
            .filter(|entry| self.open.file.is_held_by(&entry.guard));
        Some(
            holds
                .filter_map(HeldGrant::valid_for)
                .max()
                .unwrap_or(longest),
        )
    }

    /// The guarantees that this lock provides.
    pub fn guarantee(&self) -> Guarantee {
        self.open.file.guarantee()
    }

    /// Reports when a hold of the guest on this file is lost. It counts as a handle until it is
    /// dropped. Since the guest's call for it cannot fail, these may go up to twice
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
    pub fn handle(&self) -> Result<HandlePermit> {
        self.open.guest.handle(self.open.file.path())
    }
}

/// Reports when a hold of a guest is lost. It does not keep the lock open: once the [`GuestLock`]
/// is dropped and no hold that was acquired through it is left, there is nothing to lose.
#[derive(Debug)]
pub struct Loss {
    open: Weak<Open>,
    _handle: HandlePermit,
}

impl Loss {
    /// Completes when the guest loses a hold on the file, a present or a later one; see
    /// [`LockFile::lost`].
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

/// The terms on which an acquire was admitted. It counts as a wait until it is dropped.
#[derive(Debug)]
struct Admission {
    open: Arc<Open>,
    timeout: Option<Duration>,
    /// The error if the time is up sooner than the guest asked for.
    cut_short: Option<ErrorKind>,
    waits: bool,
}

impl Drop for Admission {
    fn drop(&mut self) {
        if self.waits && !self.open.guest.is_forked() {
            self.open.guest.usage().waiters -= 1;
        }
    }
}

impl Admission {
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
        let mut admission = Self {
            open: Arc::clone(open),
            timeout: longest.or(timeout),
            cut_short: longest.and(Some(ErrorKind::Canceled)),
            waits: false,
        };
        let mut usage = open.guest.usage();
        if !open.guest.may_hold_another(&usage) {
            drop(usage);
            return Err(open.refuse(ErrorKind::LimitExceeded));
        }
        if admission.timeout != Some(Duration::ZERO) {
            admission.waits = usage.waiters < waiters;
            usage.waiters += usize::from(admission.waits);
            // A free lock may be acquired all the same.
            if !admission.waits {
                admission.timeout = Some(Duration::ZERO);
                admission.cut_short = Some(ErrorKind::LimitExceeded);
            }
        }
        Ok(admission)
    }

    /// What waiting suspends if the guest stops until the acquire is over.
    fn suspended(&self) -> Suspends {
        let usage = self.open.guest.usage();
        let others = usage.waiters - usize::from(self.waits);
        Suspends::Owner {
            may_block_others: others > 0 || !usage.holds.is_empty(),
        }
    }

    /// Accounts for the result of the acquire.
    fn settle(mut self, result: Result<Guard>) -> Result<GuestGuard> {
        self.open.refuse_forked()?;
        let guard = match (result, self.cut_short) {
            (Err(e), Some(kind)) if e.is_would_block() || e.is_timeout() => {
                return Err(self.open.refuse(kind));
            }
            (result, _) => result?,
        };
        let guest = &self.open.guest;
        let mut usage = guest.usage();
        usage.waiters -= usize::from(mem::take(&mut self.waits));
        // Several acquires that began within the limit may end beyond it.
        if !guest.may_hold_another(&usage) {
            drop(usage);
            return Err(self.open.refuse(ErrorKind::LimitExceeded));
        }
        let id = usage.number();
        usage.holds.push(HeldGrant {
            id,
            lock: self.open.id,
            kept: false,
            guard,
        });
        drop(usage);
        Ok(GuestGuard {
            open: Arc::clone(&self.open),
            id,
        })
    }
}

/// An acquire of a guest in progress: the future of [`GuestLock::acquire_async`].
///
/// # Cancel safety
///
/// Dropping it abandons the wait, and releases the lock if it was granted in the meantime.
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct GuestAcquire {
    // In this order: the wait counts until it has ended.
    acquire: Acquire,
    admission: Option<Admission>,
}

impl Future for GuestAcquire {
    type Output = Result<GuestGuard>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let result = ready!(Pin::new(&mut self.acquire).poll(cx));
        let admission = self
            .admission
            .take()
            .expect("the future is not polled after completion");
        Poll::Ready(admission.settle(result))
    }
}

/// A hold of a guest. Dropping it releases the lock.
#[derive(Debug)]
#[must_use = "the lock is released as soon as the hold is dropped"]
pub struct GuestGuard {
    open: Arc<Open>,
    id: u64,
}

impl GuestGuard {
    /// For how long the hold lasts from now on, if it expires; zero if it is over.
    pub fn valid_for(&self) -> Option<Duration> {
        if self.open.guest.is_forked() {
            return Some(Duration::ZERO);
        }
        let usage = self.open.guest.usage();
        let entry = usage.index(self.id).map(|index| &usage.holds[index]);
        entry.map_or(Some(Duration::ZERO), HeldGrant::valid_for)
    }

    /// Releases the lock and reports errors. Dropping the guard releases it and ignores errors.
    ///
    /// # Errors
    ///
    /// [Not locked](Error::is_not_locked) if it was released through the [`GuestLock`], otherwise
    /// as [`Guard::release`].
    pub fn release(self) -> Result<()> {
        self.open.refuse_forked()?;
        let entry = self.open.guest.usage().take(self.id);
        entry
            .ok_or_else(|| self.open.refuse(ErrorKind::NotLocked))?
            .guard
            .release()
    }

    /// Hands the hold to the lock that it was acquired through. It lasts until it is
    /// [released](GuestLock::release) through that lock, or that lock is dropped. Holds that were
    /// kept before and have been lost since are forgotten.
    pub fn keep(self) {
        if self.open.guest.is_forked() {
            return;
        }
        let mut usage = self.open.guest.usage();
        let lock = self.open.id;
        let lost: Vec<_> = usage
            .holds
            .extract_if(.., |entry| {
                entry.kept && entry.lock == lock && !entry.guard.is_held()
            })
            .collect();
        if let Some(index) = usage.index(self.id) {
            usage.holds[index].kept = true;
        }
        drop(usage);
        drop(lost);
    }
}

impl Drop for GuestGuard {
    fn drop(&mut self) {
        if self.open.guest.is_forked() {
            return;
        }
        let mut usage = self.open.guest.usage();
        let kept = usage
            .index(self.id)
            .is_none_or(|index| usage.holds[index].kept);
        let entry = if kept { None } else { usage.take(self.id) };
        drop(usage);
        drop(entry);
    }
}
