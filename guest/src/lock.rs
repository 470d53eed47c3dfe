use crate::bindings::api;
use crate::time::{from_millis, to_millis};
use crate::{Error, Guard, Holder, LostReason, Mode, OnRelease, Options, Result, Scope};
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
    pub fn open(path: &str) -> Result<Self> {
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
    pub fn open_with(path: &str, options: Options) -> Result<Self> {
        Self::opened(path, api::LockFile::open_with(path, options))
    }

    /// The path that was opened.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Acquires the lock exclusively. Waits indefinitely.
    ///
    /// # Errors
    ///
    /// Those of [`lock`](Self::lock).
    pub fn acquire(&self) -> Result<Guard<'_>> {
        self.guard(Mode::Exclusive, None)
    }

    /// Acquires the lock exclusively. Waits for at most `timeout`.
    ///
    /// # Errors
    ///
    /// Those of [`lock`](Self::lock).
    pub fn acquire_timeout(&self, timeout: Duration) -> Result<Guard<'_>> {
        self.guard(Mode::Exclusive, Some(timeout))
    }

    /// Tries once to acquire the lock exclusively. Returns `None` if the lock is
    /// held.
    ///
    /// # Errors
    ///
    /// Those of [`lock`](Self::lock), except `WouldBlock`.
    pub fn try_acquire(&self) -> Result<Option<Guard<'_>>> {
        self.try_guard(Mode::Exclusive)
    }

    /// Acquires the lock in shared mode, with other readers. Waits indefinitely.
    ///
    /// # Errors
    ///
    /// Those of [`lock`](Self::lock).
    pub fn acquire_shared(&self) -> Result<Guard<'_>> {
        self.guard(Mode::Shared, None)
    }

    /// Acquires the lock in shared mode, with other readers. Waits for at most
    /// `timeout`.
    ///
    /// # Errors
    ///
    /// Those of [`lock`](Self::lock).
    pub fn acquire_shared_timeout(&self, timeout: Duration) -> Result<Guard<'_>> {
        self.guard(Mode::Shared, Some(timeout))
    }

    /// Tries once to acquire the lock in shared mode, with other readers. Returns
    /// `None` if a writer holds the lock or waits for it.
    ///
    /// # Errors
    ///
    /// Those of [`lock`](Self::lock), except `WouldBlock`.
    pub fn try_acquire_shared(&self) -> Result<Option<Guard<'_>>> {
        self.try_guard(Mode::Shared)
    }

    /// Acquires the lock without a guard: it stays held until
    /// [`release`](Self::release) is called or the handle is dropped.
    ///
    /// Waits for at most `timeout`. `None` waits indefinitely; zero tries once.
    /// Nothing else runs in this instance in the meantime.
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
    pub fn lock(&mut self, mode: Mode, timeout: Option<Duration>) -> Result<Grant> {
        self.acquire_one(mode, timeout)
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

    fn opened(path: &str, opened: Result<api::LockFile, api::Error>) -> Result<Self> {
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

    fn guard(&self, mode: Mode, timeout: Option<Duration>) -> Result<Guard<'_>> {
        let grant = self.acquire_one(mode, timeout)?;
        Ok(Guard::new(self, grant))
    }

    fn try_guard(&self, mode: Mode) -> Result<Option<Guard<'_>>> {
        match self.guard(mode, Some(Duration::ZERO)) {
            Ok(guard) => Ok(Some(guard)),
            Err(error) if error.is_would_block() => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn error(&self, kind: api::Error) -> Error {
        Error::new(kind, Arc::clone(&self.path))
    }
}

/// Acquiring without blocking the guest, in WASI 0.3.
#[cfg(feature = "async")]
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
    /// let guard = lock.acquire_async(Mode::Exclusive, Some(timeout)).await?;
    /// # guard.release()
    /// # }
    /// ```
    ///
    /// Await it in a function that is exported as `async`. In any other function,
    /// the guest traps if it has to wait.
    ///
    /// # Errors
    ///
    /// Those of [`lock`](Self::lock), but never
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
        timeout: Option<Duration>,
    ) -> Result<crate::OwnedGuard> {
        let timeout = timeout.map(to_millis);
        match crate::bindings::api_async::acquire(&self.raw, mode, timeout).await {
            Ok(guard) => Ok(crate::OwnedGuard::new(guard, Arc::clone(&self.path))),
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
        crate::bindings::api_async::lost(&self.raw).await
    }
}

/// Acquiring without blocking the guest, in WASI 0.2.
#[cfg(feature = "poll")]
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
    /// granted. [`Pending::finish`](crate::Pending::finish) returns all others.
    pub fn start(&self, mode: Mode, timeout: Option<Duration>) -> Result<crate::Pending> {
        match crate::bindings::poll::start(&self.raw, mode, timeout.map(to_millis)) {
            Ok(pending) => Ok(crate::Pending::new(pending, Arc::clone(&self.path))),
            Err(kind) => Err(self.error(kind)),
        }
    }

    /// A pollable that is ready when this guest loses its hold on the lock. It is
    /// never ready for a lock that cannot be lost (see
    /// [`guarantee`](Self::guarantee)).
    pub fn lost(&self) -> wasip2::io::poll::Pollable {
        crate::bindings::poll::lost(&self.raw)
    }
}

/// Runs `f` while holding the lock of the file at `path` exclusively, and
/// releases the lock on every way out of `f`, including panics.
///
/// Waits for at most `timeout`. `None` waits indefinitely; [`Duration::ZERO`]
/// tries once.
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
/// Those of [`LockFile::open`] and [`LockFile::lock`], in which case `f` was not
/// called, and those of [`Guard::release`], in which case `f` was called and may
/// have run without protection.
pub fn with_lock<R>(
    path: &str,
    timeout: impl Into<Option<Duration>>,
    f: impl FnOnce() -> R,
) -> Result<R> {
    let lock = LockFile::open(path)?;
    let guard = lock.guard(Mode::Exclusive, timeout.into())?;
    let result = f();
    guard.release()?;
    Ok(result)
}

/// A granted hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Grant {
    /// The fencing token: strictly increasing over the exclusive grants of one
    /// lock. `None` if the lock does not provide tokens (see
    /// [`Guarantee::fencing`]).
    pub token: Option<u64>,
    /// How long the hold lasts, counted from the call. `None` if it lasts until
    /// it is released.
    pub valid_for: Option<Duration>,
}

impl From<api::Grant> for Grant {
    fn from(grant: api::Grant) -> Self {
        Self {
            token: grant.token,
            valid_for: grant.valid_for.map(from_millis),
        }
    }
}

/// The state of this guest's own hold on a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// This guest does not hold the lock.
    Unlocked,
    /// This guest holds the lock.
    Held(Grant),
    /// The host cannot determine whether this guest still holds the lock. The
    /// value is the time left before the lock counts as lost.
    Uncertain(Duration),
    /// This guest held the lock, did not release it, and no longer holds it.
    Lost(LostReason),
}

impl From<api::State> for State {
    fn from(state: api::State) -> Self {
        match state {
            api::State::Unlocked => Self::Unlocked,
            api::State::Held(grant) => Self::Held(grant.into()),
            api::State::Uncertain(left) => Self::Uncertain(from_millis(left)),
            api::State::Lost(reason) => Self::Lost(reason),
        }
    }
}

/// The guarantees that a lock provides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Guarantee {
    /// Which other programs the lock can exclude.
    pub scope: Scope,
    /// The time after which a hold can be lost without a release. `None` if it
    /// cannot be lost this way.
    pub ttl: Option<Duration>,
    /// Whether grants follow the order of arrival.
    pub fifo: bool,
    /// Whether grants carry a fencing token.
    pub fencing: bool,
}

impl From<api::Guarantee> for Guarantee {
    fn from(guarantee: api::Guarantee) -> Self {
        Self {
            scope: guarantee.scope,
            ttl: guarantee.ttl.map(from_millis),
            fifo: guarantee.fifo,
            fencing: guarantee.fencing,
        }
    }
}

/// Lets the host choose the protocol, and keeps the file.
impl Default for Options {
    fn default() -> Self {
        Self {
            protocol: None,
            on_release: OnRelease::Keep,
        }
    }
}
