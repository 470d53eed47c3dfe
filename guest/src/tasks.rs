use crate::bindings::api_async;
use crate::time::to_millis;
use crate::{LockFile, LostReason, Mode, OwnedGuard, Result};
use core::time::Duration;

/// Acquiring in tasks, in WASI 0.3.
impl LockFile {
    /// Acquires the lock while the other tasks of this guest keep running.
    ///
    /// ```no_run
    /// use locket_guest::{LockFile, Mode};
    /// use std::time::Duration;
    ///
    /// # async fn run() -> locket_guest::Result<()> {
    /// let lock = LockFile::open("/jobs/app.lock")?;
    /// let timeout = Duration::from_secs(30);
    /// let guard = lock.acquire_async(Mode::Exclusive, timeout).await?;
    /// # guard.release()
    /// # }
    /// ```
    ///
    /// Await it in a function that is exported as `async`. In any other function,
    /// the guest traps if it has to wait.
    ///
    /// # Errors
    ///
    /// Those of [`acquire`](Self::acquire), but never
    /// [`Deadlock`](crate::ErrorKind::Deadlock) because this guest itself holds
    /// the lock: another task can release it.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future abandons the wait and the place in the queue. It
    /// never leaves the lock held.
    pub async fn acquire_async(
        &self,
        mode: Mode,
        timeout: impl Into<Option<Duration>>,
    ) -> Result<OwnedGuard> {
        let timeout = timeout.into().map(to_millis);
        match api_async::acquire(self.as_raw(), mode, timeout).await {
            Ok(guard) => Ok(OwnedGuard::new(guard, mode, self.shared_path())),
            Err(kind) => Err(self.error(kind)),
        }
    }

    /// Waits until this guest loses its hold on the lock, and returns the reason.
    /// Never returns for a lock that cannot be lost (see
    /// [`guarantee`](Self::guarantee)).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect on the lock.
    pub async fn lost_async(&self) -> LostReason {
        api_async::lost(self.as_raw()).await
    }
}
