use crate::bindings::api;
use crate::time::{from_millis, to_millis};
use crate::{Error, Guard, Holder, LostReason, Mode, OnRelease, Options, Result, Scope};
use alloc::sync::Arc;
use core::time::Duration;

/// A handle on the lock of one file.
///
/// A lock belongs to a file, not to a path: two spellings of one file are one
/// lock. Its owner is this guest, so two handles of the guest on one file are
/// one lock as well. Dropping a handle releases what was acquired through it.
///
/// There are two ways to hold a lock. A [`Guard`] releases it at the end of its
/// scope, on every way out. [`lock`](Self::lock) and [`release`](Self::release)
/// are for code that has no scope; they borrow the handle mutably, so that none
/// of them ends the hold of a guard.
#[derive(Debug)]
pub struct LockFile {
    raw: api::LockFile,
    path: Arc<str>,
}

impl LockFile {
    /// Opens the lock of the file at `path` in the protocol that the host
    /// chooses, and creates the file where it is missing and may be created.
    /// Does not acquire the lock.
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

    /// As [`open`](Self::open), with a choice of protocol and of what becomes of
    /// the file when the lock is released.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open); [`NotSupported`] for a protocol that the host
    /// does not have, and [`AccessDenied`] for one that it does not grant.
    ///
    /// [`AccessDenied`]: crate::ErrorKind::AccessDenied
    /// [`NotSupported`]: crate::ErrorKind::NotSupported
    pub fn open_with(path: &str, options: Options) -> Result<Self> {
        Self::opened(path, api::LockFile::open_with(path, options))
    }

    /// The path as it was opened.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Acquires the lock exclusively, and waits until it can.
    ///
    /// # Errors
    ///
    /// As [`lock`](Self::lock).
    pub fn acquire(&self) -> Result<Guard<'_>> {
        self.guard(Mode::Exclusive, None)
    }

    /// Acquires the lock exclusively, and waits at most for `timeout`.
    ///
    /// # Errors
    ///
    /// As [`lock`](Self::lock).
    pub fn acquire_timeout(&self, timeout: Duration) -> Result<Guard<'_>> {
        self.guard(Mode::Exclusive, Some(timeout))
    }

    /// Acquires the lock exclusively if that takes no waiting; `None` where it
    /// is held by another.
    ///
    /// # Errors
    ///
    /// As [`lock`](Self::lock), save for `WouldBlock`.
    pub fn try_acquire(&self) -> Result<Option<Guard<'_>>> {
        self.try_guard(Mode::Exclusive)
    }

    /// Acquires the lock together with other readers, and waits until it can.
    ///
    /// # Errors
    ///
    /// As [`lock`](Self::lock).
    pub fn acquire_shared(&self) -> Result<Guard<'_>> {
        self.guard(Mode::Shared, None)
    }

    /// Acquires the lock together with other readers, and waits at most for
    /// `timeout`.
    ///
    /// # Errors
    ///
    /// As [`lock`](Self::lock).
    pub fn acquire_shared_timeout(&self, timeout: Duration) -> Result<Guard<'_>> {
        self.guard(Mode::Shared, Some(timeout))
    }

    /// Acquires the lock together with other readers if that takes no waiting;
    /// `None` where it is held by a writer or one waits for it.
    ///
    /// # Errors
    ///
    /// As [`lock`](Self::lock), save for `WouldBlock`.
    pub fn try_acquire_shared(&self) -> Result<Option<Guard<'_>>> {
        self.try_guard(Mode::Shared)
    }

    /// Acquires the lock without a guard: it stays held until
    /// [`release`](Self::release) is called or the handle dropped.
    ///
    /// Waits at most for `timeout`: for ever without one, and not at all if it
    /// is zero. Meanwhile nothing else runs in this instance.
    ///
    /// # Errors
    ///
    /// - [`WouldBlock`] where the lock is held by another and `timeout` is zero,
    ///   [`Timeout`] where a longer one ran out.
    /// - [`Deadlock`] where this guest holds the lock itself, or guests of the
    ///   host would wait for one another in a circle.
    /// - [`Canceled`] where the host withdrew the wait.
    /// - [`AccessDenied`] or [`NotSupported`] where the mode is not to be had.
    /// - [`LimitExceeded`], [`Unavailable`], [`Io`], and those of
    ///   [`open`](Self::open) where the file vanished in the meantime.
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

    /// Releases one hold of this guest on this file: one that was acquired
    /// through this handle if there is one, otherwise any.
    ///
    /// # Errors
    ///
    /// [`NotLocked`] where nobody holds the lock, [`NotOwner`] where somebody
    /// else does, and [`Lost`] where the hold had been lost: then it is released
    /// all the same.
    ///
    /// [`Lost`]: crate::ErrorKind::Lost
    /// [`NotLocked`]: crate::ErrorKind::NotLocked
    /// [`NotOwner`]: crate::ErrorKind::NotOwner
    pub fn release(&mut self) -> Result<()> {
        self.release_one()
    }

    /// Whether anybody holds the lock, this guest included. True or false now,
    /// not a moment later.
    ///
    /// # Errors
    ///
    /// Where the host cannot tell, for instance for want of access to the file.
    pub fn is_locked(&self) -> Result<bool> {
        self.raw.is_locked().map_err(|kind| self.error(kind))
    }

    /// What this guest knows of its own hold. Does no input or output.
    pub fn state(&self) -> State {
        self.raw.state().into()
    }

    /// One of those who hold the lock now; `None` where nobody does.
    ///
    /// # Errors
    ///
    /// Where the host cannot tell, for instance for want of access to the file.
    pub fn holder(&self) -> Result<Option<Holder>> {
        self.raw.holder().map_err(|kind| self.error(kind))
    }

    /// What the lock is worth.
    pub fn guarantee(&self) -> Guarantee {
        self.raw.guarantee().into()
    }

    /// The resource of the interface behind this handle, to lend it to imports
    /// of one's own.
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

/// Acquiring without standing still, in WASI 0.3.
#[cfg(feature = "async")]
impl LockFile {
    /// Acquires the lock while the other tasks of this guest go on.
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
    /// Await it in a function that is exported as `async`: elsewhere the guest
    /// traps where it would have to wait.
    ///
    /// # Errors
    ///
    /// As [`lock`](Self::lock), but never [`Deadlock`](crate::ErrorKind::Deadlock)
    /// on account of a lock that this guest holds itself, since another task can
    /// release it.
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

    /// Waits until this guest's hold on the lock is lost, and says why. Never
    /// returns for a lock that cannot be lost (see [`guarantee`](Self::guarantee)).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect on the lock.
    pub async fn lost_async(&self) -> LostReason {
        crate::bindings::api_async::lost(&self.raw).await
    }
}

/// Acquiring without standing still, in WASI 0.2.
#[cfg(feature = "poll")]
impl LockFile {
    /// Begins to acquire the lock, and returns at once.
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
    /// // Whichever comes first: the one lock, the other, or the end of a second.
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
    /// granted. All others come out of [`Pending::finish`](crate::Pending::finish).
    pub fn start(&self, mode: Mode, timeout: Option<Duration>) -> Result<crate::Pending> {
        match crate::bindings::poll::start(&self.raw, mode, timeout.map(to_millis)) {
            Ok(pending) => Ok(crate::Pending::new(pending, Arc::clone(&self.path))),
            Err(kind) => Err(self.error(kind)),
        }
    }

    /// A pollable that is ready when this guest's hold on the lock is lost. It
    /// is never ready for a lock that cannot be lost (see
    /// [`guarantee`](Self::guarantee)).
    pub fn lost(&self) -> wasip2::io::poll::Pollable {
        crate::bindings::poll::lost(&self.raw)
    }
}

/// Runs `f` while the lock of the file at `path` is held exclusively, and
/// releases it on every way out of `f`, panics included.
///
/// Waits for the lock at most for `timeout`; `None` waits for ever, and
/// [`Duration::ZERO`] tries once.
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
/// As [`LockFile::open`] and [`LockFile::lock`]: then `f` was not called. Or as
/// [`Guard::release`]: then `f` was called, and may not have been alone.
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

/// A hold that was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Grant {
    /// The fencing token: strictly increasing over the exclusive grants of one
    /// lock. `None` where the protocol has none (see [`Guarantee::fencing`]).
    pub token: Option<u64>,
    /// For how long the hold is granted, counted from the call. `None` where it
    /// lasts until it is released.
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

/// What this guest knows of its own hold on a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// This guest does not hold the lock.
    Unlocked,
    /// This guest holds the lock.
    Held(Grant),
    /// Whether it still holds the lock cannot be told; the time left before it
    /// counts as lost.
    Uncertain(Duration),
    /// This guest held the lock, did not release it, and holds it no more.
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

/// What a lock is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Guarantee {
    /// Whom it excludes.
    pub scope: Scope,
    /// After which time a hold can be lost without a release; `None` where it
    /// cannot.
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

/// The host's choice of protocol, and a file that stays.
impl Default for Options {
    fn default() -> Self {
        Self {
            protocol: None,
            on_release: OnRelease::Keep,
        }
    }
}
