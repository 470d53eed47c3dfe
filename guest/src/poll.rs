use crate::bindings::poll;
use crate::time::to_millis;
use crate::{Error, LockFile, Mode, OwnedGuard, Result};
use alloc::sync::Arc;
use core::time::Duration;
use wasip2::io::poll::Pollable;

/// Acquiring in a poll, in WASI 0.2.
impl LockFile {
    /// Begins to acquire the lock, and returns immediately.
    ///
    /// ```no_run
    /// use locket_guest::{LockFile, Mode};
    /// use wasip2::{clocks::monotonic_clock, io::poll};
    ///
    /// # fn main() -> locket_guest::Result<()> {
    /// let [a, b] = [LockFile::open("/a.lock")?, LockFile::open("/b.lock")?];
    /// let [a, b] = [a.start(Mode::Exclusive, None)?, b.start(Mode::Exclusive, None)?];
    /// let timer = monotonic_clock::subscribe_duration(1_000_000_000);
    ///
    /// // Wait for either lock, for at most one second.
    /// let _ready = poll::poll(&[&a.subscribe(), &b.subscribe(), &timer]);
    /// if let Some(guard) = a.finish() {
    ///     let _guard = guard?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`LimitExceeded`](crate::ErrorKind::LimitExceeded), or
    /// [`AccessDenied`](crate::ErrorKind::AccessDenied) for a mode that is not
    /// granted. [`Pending::finish`] returns all others.
    pub fn start(&self, mode: Mode, timeout: impl Into<Option<Duration>>) -> Result<Pending> {
        let timeout = timeout.into().map(to_millis);
        match poll::start(self.as_raw(), mode, timeout) {
            Ok(raw) => Ok(Pending {
                raw,
                mode,
                path: self.shared_path(),
            }),
            Err(kind) => Err(self.error(kind)),
        }
    }

    /// A pollable that is ready when this guest loses its hold on the lock. It is
    /// never ready for a lock that cannot be lost (see
    /// [`guarantee`](Self::guarantee)).
    pub fn lost(&self) -> Pollable {
        poll::lost(self.as_raw())
    }
}

/// An acquire in progress, created by [`LockFile::start`].
///
/// Dropping it abandons the wait, and releases the lock if it was granted in
/// the meantime.
#[derive(Debug)]
#[must_use = "the wait is abandoned when it is dropped"]
pub struct Pending {
    raw: poll::Pending,
    mode: Mode,
    path: Arc<str>,
}

impl Pending {
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
    /// Those of [`LockFile::acquire`], but never
    /// [`Deadlock`](crate::ErrorKind::Deadlock) because this guest itself holds
    /// the lock: the guest keeps running and can release it.
    pub fn finish(&self) -> Option<Result<OwnedGuard>> {
        let answer = self.raw.finish()?;
        Some(match answer {
            Ok(guard) => Ok(OwnedGuard::new(guard, self.mode, Arc::clone(&self.path))),
            Err(kind) => Err(Error::new(kind, Arc::clone(&self.path))),
        })
    }
}
