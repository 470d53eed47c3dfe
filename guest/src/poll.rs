use crate::bindings::poll;
use crate::{Error, OwnedGuard, Result};
use alloc::sync::Arc;
use wasip2::io::poll::Pollable;

/// An acquire under way, made by [`LockFile::start`].
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
    /// answer, for [`wasip2::io::poll::poll`]. It stays usable after this is
    /// dropped, and is ready then.
    pub fn subscribe(&self) -> Pollable {
        self.raw.subscribe()
    }

    /// The answer: `None` while the wait goes on, and after the answer was
    /// taken.
    ///
    /// # Errors
    ///
    /// As [`LockFile::lock`](crate::LockFile::lock), but never
    /// [`Deadlock`](crate::ErrorKind::Deadlock) on account of a lock that this
    /// guest holds itself, since it goes on running and can release it.
    pub fn finish(&self) -> Option<Result<OwnedGuard>> {
        let answer = self.raw.finish()?;
        Some(match answer {
            Ok(guard) => Ok(OwnedGuard::new(guard, Arc::clone(&self.path))),
            Err(kind) => Err(Error::new(kind, Arc::clone(&self.path))),
        })
    }
}
