use crate::bindings::poll;
use crate::{Error, OwnedGuard, Result};
use alloc::sync::Arc;
use wasip2::io::poll::Pollable;

/// An acquire in progress, created by [`LockFile::start`].
///
/// Dropping it abandons the wait, and releases the lock if it was granted in
/// the meantime.
///
/// [`LockFile::start`]: crate::LockFile::start
#[derive(Debug)]
#[must_use = "the wait is abandoned when it is dropped"]
pub struct Pending {
    raw: poll::Pending,
    path: Arc<str>,
}

impl Pending {
    pub(crate) fn new(raw: poll::Pending, path: Arc<str>) -> Self {
        Self { raw, path }
    }

    /// A pollable that is ready as soon as [`finish`](Self::finish) has an
    /// answer. Pass it to [`wasip2::io::poll::poll`]. It remains usable after
    /// `self` is dropped, and is ready then.
    pub fn subscribe(&self) -> Pollable {
        self.raw.subscribe()
    }

    /// Takes the result of the acquire. Returns `None` while the wait continues,
    /// and again once the result has been taken.
    ///
    /// # Errors
    ///
    /// Those of [`LockFile::lock`](crate::LockFile::lock), but never
    /// [`Deadlock`](crate::ErrorKind::Deadlock) because this guest itself holds
    /// the lock: the guest keeps running and can release it.
    pub fn finish(&self) -> Option<Result<OwnedGuard>> {
        let answer = self.raw.finish()?;
        Some(match answer {
            Ok(guard) => Ok(OwnedGuard::new(guard, Arc::clone(&self.path))),
            Err(kind) => Err(Error::new(kind, Arc::clone(&self.path))),
        })
    }
}
