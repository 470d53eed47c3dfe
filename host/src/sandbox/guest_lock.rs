//! An open lock of a guest.

use std::future;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::basis::Basis;
use super::guest_acquire::{Admission, GuestAcquire};
use super::guest_guard::GuestGuard;
use super::hooks::Story;
use super::open::Open;
use super::quota::{Guest, HandlePermit, HeldGrant, OpenEntry};
use crate::acquire::Suspends;
use crate::error::Result;
use crate::lock_file::LockFile;
use crate::protocol::Protocol;
use crate::types::{Guarantee, Holder, LostReason, Mode, State};

/// An open lock of a guest. Dropping it releases the holds that it [keeps](GuestGuard::keep).
#[derive(Debug)]
pub struct GuestLock {
    open: Arc<Open>,
    _handle: HandlePermit,
}

impl Drop for GuestLock {
    fn drop(&mut self) {
        if self.open.guest.is_forked() {
            return;
        }
        let kept = |entry: &mut HeldGrant| entry.kept && entry.lock == self.open.id;
        let kept: Vec<_> = self.open.guest.books().holds.extract_if(.., kept).collect();
        drop(kept);
    }
}

impl GuestLock {
    pub(super) fn new(
        guest: &Arc<Guest>,
        path: &str,
        file: LockFile,
        basis: Basis,
        handle: HandlePermit,
    ) -> Self {
        let mut books = guest.books();
        let id = books.number();
        let story = Arc::new(Story::new(guest.listener(), path, file.protocol()));
        books.locks.push(OpenEntry {
            id,
            file: file.clone(),
            basis: basis.clone(),
            story: Arc::clone(&story),
        });
        drop(books);
        let open = Open {
            guest: Arc::clone(guest),
            id,
            file,
            basis,
            story,
        };
        Self {
            open: Arc::new(open),
            _handle: handle,
        }
    }

    /// The path, as the guest opened it.
    pub fn path(&self) -> &str {
        self.open.story.path()
    }

    pub(super) fn guest(&self) -> &Arc<Guest> {
        &self.open.guest
    }

    /// The protocol.
    pub fn protocol(&self) -> Protocol {
        self.open.story.protocol()
    }

    /// Acquires the lock on the calling thread; see [`LockFile::acquire`]. The guest is suspended
    /// meanwhile.
    ///
    /// # Errors
    ///
    /// As [`LockFile::acquire`]; [denied](crate::Error::is_denied) for a mode that is not granted;
    /// [limit exceeded](crate::Error::is_limit_exceeded); [deadlock](crate::Error::is_deadlock) if
    /// the wait could not end before the guest resumes, or closes a cycle of guests that wait for
    /// one another; [canceled](crate::Error::is_canceled) if the longest wait ends before the
    /// timeout.
    pub fn acquire(&self, mode: Mode, timeout: impl Into<Option<Duration>>) -> Result<GuestGuard> {
        let admission = Admission::new(&self.open, mode, timeout.into())?;
        let meanwhile = admission.suspended();
        let result = self.open.file.acquire_as(
            mode,
            admission.timeout,
            meanwhile,
            admission.cancellations,
            || admission.waiting(),
        );
        admission.settle(result)
    }

    /// Acquires the lock in a task, while the guest is suspended.
    ///
    /// # Errors
    ///
    /// The call fails with [denied](crate::Error::is_denied) and [limit
    /// exceeded](crate::Error::is_limit_exceeded) if that is known beforehand. The future fails as
    /// [`acquire`](Self::acquire).
    pub fn acquire_suspended(
        &self,
        mode: Mode,
        timeout: impl Into<Option<Duration>>,
    ) -> Result<GuestAcquire> {
        let admission = Admission::new(&self.open, mode, timeout.into())?;
        let meanwhile = admission.suspended();
        Ok(GuestAcquire::start(mode, admission, meanwhile))
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
        Ok(GuestAcquire::start(mode, admission, Suspends::Nothing))
    }

    /// Releases one hold of the guest on this file: one that was acquired through this lock if
    /// there is one, otherwise any. A lock on a server is as [`LockFile::release`] says; see
    /// [`release_async`](Self::release_async) for a task.
    ///
    /// # Errors
    ///
    /// As [`LockFile::release`].
    pub fn release(&self) -> Result<()> {
        self.open.refuse_forked()?;
        self.open.release(self.take_hold())
    }

    /// Releases the lock in a task, whose thread does not wait for a server or a file system. A lock
    /// of a file is given back by the time that the future completes. That of a server may be given
    /// back later: if the guest acquired it in a task, the future does not wait for the server, and
    /// a loss that is not known by then is no error.
    ///
    /// # Errors
    ///
    /// As [`LockFile::release`].
    ///
    /// # Cancel safety
    ///
    /// The release begins with this call. Dropping the future does not end it.
    pub fn release_async(&self) -> impl Future<Output = Result<()>> + Send + use<> + 'static {
        let taken = self.open.refuse_forked().map(|()| self.take_hold());
        self.open.elsewhere(|open| open.release(taken?))
    }

    /// The hold that a release ends, if the guest has one.
    fn take_hold(&self) -> Option<HeldGrant> {
        let mut books = self.open.guest.books();
        let mine = |entry: &HeldGrant| entry.lock == self.open.id;
        let holds = books.holds.iter().enumerate();
        let found = holds
            .filter(|(_, entry)| mine(entry) || self.open.file.is_held_by(&entry.guard))
            .max_by_key(|(_, entry)| (mine(entry), entry.id))
            .map(|(index, _)| index);
        let entry = found.map(|index| books.holds.remove(index));
        drop(books);
        entry.or_else(|| self.take_from_another())
    }

    /// Takes a hold on this file from another guest of the same owner.
    fn take_from_another(&self) -> Option<HeldGrant> {
        let tenant = self.open.guest.tenant.as_ref();
        let guests = tenant.filter(|tenant| tenant.owner.is_some())?.guests();
        guests.iter().find_map(|guest| {
            let mut books = guest.guest.books();
            let held = |entry: &HeldGrant| {
                self.open.file.is_held_by(&entry.guard) && entry.guard.is_held()
            };
            let index = books.holds.iter().rposition(held)?;
            Some(books.holds.remove(index))
        })
    }

    /// Whether the lock is held; see [`LockFile::is_locked`]. Asks the server of a lock on one.
    ///
    /// # Errors
    ///
    /// Those of the system, with [`Error::is_io`](crate::Error::is_io).
    pub fn is_locked(&self) -> Result<bool> {
        self.open.is_locked()
    }

    /// The same in a task, whose thread does not wait for a server or a file system.
    ///
    /// # Errors
    ///
    /// As [`is_locked`](Self::is_locked).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub fn is_locked_async(&self) -> impl Future<Output = Result<bool>> + Send + use<> + 'static {
        self.open.elsewhere(Open::is_locked)
    }

    /// One of the holders of the lock; see [`LockFile::holder`]. Asks the server of a lock on one.
    ///
    /// # Errors
    ///
    /// Those of the system, with [`Error::is_io`](crate::Error::is_io).
    pub fn holder(&self) -> Result<Option<Holder>> {
        self.open.holder()
    }

    /// The same in a task, whose thread does not wait for a server or a file system.
    ///
    /// # Errors
    ///
    /// As [`holder`](Self::holder).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub fn holder_async(
        &self,
    ) -> impl Future<Output = Result<Option<Holder>>> + Send + use<> + 'static {
        self.open.elsewhere(Open::holder)
    }

    /// The state of the guest's own hold.
    pub fn state(&self) -> State {
        self.open.file.state()
    }

    /// For how long the guest still holds the lock, if its hold expires.
    pub fn valid_for(&self) -> Option<Duration> {
        // A hold that the guest has not been told of yet has its whole time.
        let longest = self.guarantee().ttl?;
        if self.open.guest.is_forked() {
            return Some(Duration::ZERO);
        }
        let books = self.open.guest.books();
        let holds = books
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

    /// The fencing token of the guest's latest hold; see [`Guard::token`](crate::Guard::token).
    pub fn token(&self) -> Option<u64> {
        if self.open.guest.is_forked() {
            return None;
        }
        let books = self.open.guest.books();
        let mut holds = books.holds.iter().rev();
        let hold = holds.find(|entry| self.open.file.is_held_by(&entry.guard))?;
        hold.guard.token()
    }

    /// The guarantees that this lock provides.
    pub fn guarantee(&self) -> Guarantee {
        self.open.file.guarantee()
    }

    /// Reports when a hold of the guest on this file is lost. It counts as a handle until it is
    /// dropped. Since the guest's call for it cannot fail, these may go up to twice
    /// [`Limits::handles`](crate::sandbox::Limits::handles).
    ///
    /// # Errors
    ///
    /// [Limit exceeded](crate::Error::is_limit_exceeded).
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
    /// [Limit exceeded](crate::Error::is_limit_exceeded).
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
