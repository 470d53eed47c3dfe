#[cfg(any(feature = "async", feature = "poll"))]
use crate::{Error, bindings::api};
use crate::{Grant, LockFile, Mode, Result, State};
use core::mem;

/// A hold on a lock. Dropping the guard releases the lock.
///
/// Created by [`LockFile::acquire`] and its variants. If a guard is forgotten
/// ([`mem::forget`]), the lock stays held until its [`LockFile`] is dropped.
#[derive(Debug)]
#[must_use = "the lock is released as soon as its guard is dropped"]
pub struct Guard<'lock> {
    lock: &'lock LockFile,
    mode: Mode,
    grant: Grant,
}

impl<'lock> Guard<'lock> {
    pub(crate) fn new(lock: &'lock LockFile, mode: Mode, grant: Grant) -> Self {
        Self { lock, mode, grant }
    }

    /// The path with which the lock was opened.
    pub fn path(&self) -> &str {
        self.lock.path()
    }

    /// The mode in which the lock is held.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The grant of this hold.
    pub fn grant(&self) -> Grant {
        self.grant
    }

    /// Whether the lock is still held: it has not been lost, and the host is sure
    /// of that. Performs no I/O. A guest that works for long asks before each step
    /// that another holder could spoil.
    pub fn is_held(&self) -> bool {
        matches!(self.lock.state(), State::Held(_))
    }

    /// Releases the lock and reports errors. Dropping the guard releases it and
    /// ignores errors.
    ///
    /// # Errors
    ///
    /// [`Lost`] if the hold had been lost. The lock is released nonetheless.
    ///
    /// [`Lost`]: crate::ErrorKind::Lost
    pub fn release(self) -> Result<()> {
        let lock = self.lock;
        mem::forget(self);
        lock.release_one()
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        // `release` reports errors; `drop` cannot.
        let _ = self.lock.release_one();
    }
}

/// A hold on a lock that can outlive the [`LockFile`] through which it was
/// acquired. Dropping the guard releases the lock.
///
/// Created by `LockFile::acquire_async` and `Pending::finish`.
#[cfg(any(feature = "async", feature = "poll"))]
#[derive(Debug)]
#[must_use = "the lock is released as soon as its guard is dropped"]
pub struct OwnedGuard {
    raw: api::Guard,
    mode: Mode,
    path: alloc::sync::Arc<str>,
}

#[cfg(any(feature = "async", feature = "poll"))]
impl OwnedGuard {
    pub(crate) fn new(raw: api::Guard, mode: Mode, path: alloc::sync::Arc<str>) -> Self {
        Self { raw, mode, path }
    }

    /// The path with which the lock was opened.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The mode in which the lock is held.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The grant of this hold.
    pub fn grant(&self) -> Grant {
        self.raw.grant().into()
    }

    /// Releases the lock and reports errors. Dropping the guard releases it and
    /// ignores errors.
    ///
    /// # Errors
    ///
    /// [`Lost`] if the hold had been lost, [`NotLocked`] if
    /// [`LockFile::release`] had released it. Either way, the hold has ended.
    ///
    /// [`Lost`]: crate::ErrorKind::Lost
    /// [`NotLocked`]: crate::ErrorKind::NotLocked
    pub fn release(self) -> Result<()> {
        api::Guard::release(self.raw).map_err(|kind| Error::new(kind, self.path))
    }
}
