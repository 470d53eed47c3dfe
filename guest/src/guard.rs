#[cfg(any(feature = "async", feature = "poll"))]
use crate::{Error, bindings::api};
use crate::{Grant, LockFile, Result};
use core::mem;

/// A hold on a lock, which ends when the guard is dropped.
///
/// Made by [`LockFile::acquire`] and its kin. A guard that is forgotten
/// ([`mem::forget`]) leaves the lock held until its [`LockFile`] is dropped.
#[derive(Debug)]
#[must_use = "the lock is released as soon as its guard is dropped"]
pub struct Guard<'lock> {
    lock: &'lock LockFile,
    grant: Grant,
}

impl<'lock> Guard<'lock> {
    pub(crate) fn new(lock: &'lock LockFile, grant: Grant) -> Self {
        Self { lock, grant }
    }

    /// What was granted.
    pub fn grant(&self) -> Grant {
        self.grant
    }

    /// Releases the lock and says how it went; dropping the guard does the same
    /// and keeps silent.
    ///
    /// # Errors
    ///
    /// [`Lost`] where the hold had been lost. The lock is released all the same.
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
        // Whoever wants to know calls `release`.
        let _ = self.lock.release_one();
    }
}

/// A hold on a lock that outlives the [`LockFile`] it was acquired through, and
/// ends when the guard is dropped.
///
/// Made by `LockFile::acquire_async` and `Pending::finish`.
#[cfg(any(feature = "async", feature = "poll"))]
#[derive(Debug)]
#[must_use = "the lock is released as soon as its guard is dropped"]
pub struct OwnedGuard {
    raw: api::Guard,
    path: alloc::sync::Arc<str>,
}

#[cfg(any(feature = "async", feature = "poll"))]
impl OwnedGuard {
    pub(crate) fn new(raw: api::Guard, path: alloc::sync::Arc<str>) -> Self {
        Self { raw, path }
    }

    /// What was granted.
    pub fn grant(&self) -> Grant {
        self.raw.grant().into()
    }

    /// Releases the lock and says how it went; dropping the guard does the same
    /// and keeps silent.
    ///
    /// # Errors
    ///
    /// [`Lost`] where the hold had been lost, [`NotLocked`] where it was
    /// released by [`LockFile::release`]. The lock is released all the same.
    ///
    /// [`Lost`]: crate::ErrorKind::Lost
    /// [`NotLocked`]: crate::ErrorKind::NotLocked
    pub fn release(self) -> Result<()> {
        api::Guard::release(self.raw).map_err(|kind| Error::new(kind, self.path))
    }
}
