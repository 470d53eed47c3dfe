use crate::bindings::api;
use crate::time::to_millis;
use crate::{Error, Grant, Guarantee, Guard, Holder, Mode, Options, Result, State};
use alloc::sync::Arc;
use core::time::Duration;

/// A handle to the lock of one file.
///
/// A lock belongs to a file, not to a path: two spellings of one file are one
/// lock. Its owner is this guest, so two handles of the guest to one file are
/// also one lock. Dropping a handle releases the holds acquired through it.
///
/// There are two ways to hold a lock. A [`Guard`] releases it at the end of its
/// scope, on every way out. [`lock`](Self::lock) and [`release`](Self::release)
/// are for code that locks and releases explicitly. They borrow the handle
/// mutably, so that they cannot end the hold of a guard.
#[derive(Debug)]
pub struct LockFile {
    raw: api::LockFile,
    path: Arc<str>,
}

impl LockFile {
    /// Opens the lock of the file at `path` with the protocol that the host
    /// chooses, and creates the file if it is missing and may be created. Does
    /// not acquire the lock.
    ///
    /// # Errors
    ///
    /// [`AccessDenied`], [`NoEntry`], [`InvalidPath`], [`LimitExceeded`] or
    /// [`Io`].
    ///
    /// [`AccessDenied`]: crate::ErrorKind::AccessDenied
    /// [`InvalidPath`]: crate::ErrorKind::InvalidPath
    /// [`Io`]: crate::ErrorKind::Io
    /// [`LimitExceeded`]: crate::ErrorKind::LimitExceeded
    /// [`NoEntry`]: crate::ErrorKind::NoEntry
    pub fn open(path: impl AsRef<str>) -> Result<Self> {
        let path = path.as_ref();
        Self::opened(path, api::LockFile::open(path))
    }

    /// Like [`open`](Self::open), with a choice of protocol and of what happens
    /// to the file when the lock is released.
    ///
    /// # Errors
    ///
    /// Those of [`open`](Self::open); [`NotSupported`] for a protocol that the
    /// host lacks, and [`AccessDenied`] for one that it does not grant.
    ///
    /// [`AccessDenied`]: crate::ErrorKind::AccessDenied
    /// [`NotSupported`]: crate::ErrorKind::NotSupported
    pub fn open_with(path: impl AsRef<str>, options: &Options) -> Result<Self> {
        let path = path.as_ref();
        Self::opened(path, api::LockFile::open_with(path, *options))
    }

    /// The path that was opened.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Acquires the lock.
    ///
    /// Waits for at most `timeout`. `None` waits indefinitely; [`Duration::ZERO`]
    /// tries once. Nothing else runs in this instance in the meantime.
    ///
    /// ```no_run
    /// use locket_guest::{LockFile, Mode};
    /// use std::time::Duration;
    ///
    /// # fn main() -> locket_guest::Result<()> {
    /// let lock = LockFile::open("/jobs/app.lock")?;
    /// let guard = lock.acquire(Mode::Exclusive, Duration::from_secs(30))?;
    /// # guard.release()
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// - [`WouldBlock`] if another owner holds the lock and `timeout` is zero;
    ///   [`Timeout`] if a longer timeout ran out.
    /// - [`Deadlock`] if this guest itself holds the lock, or if guests of the
    ///   host would wait for one another in a cycle.
    /// - [`Canceled`] if the host canceled the wait.
    /// - [`AccessDenied`] or [`NotSupported`] if the mode is not available.
    /// - [`LimitExceeded`], [`Unavailable`], [`Io`], and those of
    ///   [`open`](Self::open) if the file has vanished in the meantime.
    ///
    /// [`AccessDenied`]: crate::ErrorKind::AccessDenied
    /// [`Canceled`]: crate::ErrorKind::Canceled
    /// [`Deadlock`]: crate::ErrorKind::Deadlock
    /// [`Io`]: crate::ErrorKind::Io
    /// [`LimitExceeded`]: crate::ErrorKind::LimitExceeded
    /// [`NotSupported`]: crate::ErrorKind::NotSupported
    /// [`Timeout`]: crate::ErrorKind::Timeout
    /// [`Unavailable`]: crate::ErrorKind::Unavailable
    /// [`WouldBlock`]: crate::ErrorKind::WouldBlock
    pub fn acquire(&self, mode: Mode, timeout: impl Into<Option<Duration>>) -> Result<Guard<'_>> {
        let grant = self.acquire_one(mode, timeout.into())?;
        Ok(Guard::new(self, mode, grant))
    }

    /// Tries once to acquire the lock. Returns `None` if the lock is held in a
    /// way that excludes `mode`, or a writer waits for it.
    ///
    /// # Errors
    ///
    /// Those of [`acquire`](Self::acquire), except `WouldBlock`.
    pub fn try_acquire(&self, mode: Mode) -> Result<Option<Guard<'_>>> {
        match self.acquire(mode, Duration::ZERO) {
            Ok(guard) => Ok(Some(guard)),
            Err(error) if error.is_would_block() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Runs `body` with the lock held exclusively, and releases the lock on every
    /// way out of `body`, including panics.
    ///
    /// # Errors
    ///
    /// Those of [`acquire`](Self::acquire), in which case `body` was not called,
    /// and those of [`Guard::release`], in which case `body` was called and may
    /// have run without protection.
    pub fn with_lock<R>(
        &self,
        timeout: impl Into<Option<Duration>>,
        body: impl FnOnce() -> R,
    ) -> Result<R> {
        let guard = self.acquire(Mode::Exclusive, timeout)?;
        let result = body();
        guard.release()?;
        Ok(result)
    }

    /// Acquires the lock without a guard: it stays held until
    /// [`release`](Self::release) is called or the handle is dropped. The timeout
    /// is that of [`acquire`](Self::acquire).
    ///
    /// # Errors
    ///
    /// Those of [`acquire`](Self::acquire).
    pub fn lock(&mut self, mode: Mode, timeout: impl Into<Option<Duration>>) -> Result<Grant> {
        self.acquire_one(mode, timeout.into())
    }

    /// Releases one hold of this guest on this file: a hold acquired through this
    /// handle if there is one, otherwise any hold.
    ///
    /// # Errors
    ///
    /// [`NotLocked`] if the lock has no holder, [`NotOwner`] if another owner
    /// holds it, and [`Lost`] if the hold had been lost. After [`Lost`], the hold
    /// is released nonetheless.
    ///
    /// [`Lost`]: crate::ErrorKind::Lost
    /// [`NotLocked`]: crate::ErrorKind::NotLocked
    /// [`NotOwner`]: crate::ErrorKind::NotOwner
    pub fn release(&mut self) -> Result<()> {
        self.release_one()
    }

    /// Whether the lock is held, by this guest or another holder. The answer is
    /// valid only at the moment of the call.
    ///
    /// # Errors
    ///
    /// Fails if the host cannot determine it, for example because it has no
    /// access to the file.
    pub fn is_locked(&self) -> Result<bool> {
        self.raw.is_locked().map_err(|kind| self.error(kind))
    }

    /// The state of this guest's own hold. Performs no I/O.
    pub fn state(&self) -> State {
        self.raw.state().into()
    }

    /// One of the current holders of the lock; `None` if it is free.
    ///
    /// # Errors
    ///
    /// Fails if the host cannot determine it, for example because it has no
    /// access to the file.
    pub fn holder(&self) -> Result<Option<Holder>> {
        self.raw.holder().map_err(|kind| self.error(kind))
    }

    /// The guarantees that this lock provides.
    pub fn guarantee(&self) -> Guarantee {
        self.raw.guarantee().into()
    }

    /// The interface resource of this handle, to pass to your own imports.
    pub fn as_raw(&self) -> &api::LockFile {
        &self.raw
    }

    pub(crate) fn opened(path: &str, opened: Result<api::LockFile, api::Error>) -> Result<Self> {
        match opened {
            Ok(raw) => Ok(Self {
                raw,
                path: path.into(),
            }),
            Err(kind) => Err(Error::new(kind, path)),
        }
    }

    fn acquire_one(&self, mode: Mode, timeout: Option<Duration>) -> Result<Grant> {
        match self.raw.acquire(mode, timeout.map(to_millis)) {
            Ok(grant) => Ok(grant.into()),
            Err(kind) => Err(self.error(kind)),
        }
    }

    pub(crate) fn release_one(&self) -> Result<()> {
        self.raw.release().map_err(|kind| self.error(kind))
    }

    #[cfg(any(feature = "async", feature = "poll"))]
    pub(crate) fn shared_path(&self) -> Arc<str> {
        Arc::clone(&self.path)
    }

    pub(crate) fn error(&self, kind: api::Error) -> Error {
        Error::new(kind, Arc::clone(&self.path))
    }
}

/// Opens the lock of the file at `path` and runs `body` with the lock held
/// exclusively. See [`LockFile::with_lock`].
///
/// ```no_run
/// # use std::time::Duration;
/// let count = locket_guest::with_lock("/jobs/app.lock", Duration::from_secs(5), || {
///     std::fs::read_dir("/jobs").map(Iterator::count)
/// })?;
/// # Ok::<(), locket_guest::Error>(())
/// ```
///
/// # Errors
///
/// Those of [`LockFile::open`] and [`LockFile::with_lock`].
pub fn with_lock<R>(
    path: impl AsRef<str>,
    timeout: impl Into<Option<Duration>>,
    body: impl FnOnce() -> R,
) -> Result<R> {
    LockFile::open(path)?.with_lock(timeout, body)
}
