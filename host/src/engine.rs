//! Acquire and release: an engine, its handles and their guards.
//!
//! [`AcquireState::step`] drives one acquire: enter the queue of the file, wait for the turn, check
//! that the path still leads to the file that was locked. Blocking callers and tasks take the same
//! route. They differ in what calls `step` again, and in which thread waits in the kernel.

use std::fmt;
use std::future::{self, Future};
#[cfg(unix)]
use std::os::fd::{AsFd, BorrowedFd};
#[cfg(windows)]
use std::os::windows::io::{AsHandle, BorrowedHandle};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::{Duration, Instant};

use crate::deadline::{Deadline, Timer, TimerEntry};
use crate::error::{Error, ErrorKind, Result};
use crate::fairness::Pause;
#[cfg(feature = "sandbox")]
use crate::lock_path::Identity;
use crate::lock_path::{LockPath, TRIES};
use crate::object::{LockObject, OpenLock};
use crate::protocol::Request;
use crate::queue::{
    Enqueued, Event, Failure, LockQueue, OwnerId, Requester, Services, Ticket, WaitStatus,
};
use crate::registry::Registry;
use crate::sync::{Mutex, Parker, lock};
use crate::waiter::{KernelWait, WaiterPool};
use crate::watch::Watcher;
use crate::{Guarantee, Holder, LostReason, Mode, OnRelease, Protocol, Scope, State, sys};

/// Locks files, and knows which owners in this process hold and await which lock.
///
/// Use one engine for everything in a process that must take turns: it treats two spellings of one
/// path as one lock and keeps the order of arrival. Two engines exclude each other like two
/// processes. Clones are the same engine.
///
/// ```
/// use locket::{Engine, Mode};
/// use std::time::Duration;
///
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("app.lock");
/// let engine = Engine::new();
/// let lock = engine.open(&path)?;
/// let guard = lock.acquire(Mode::Exclusive, Duration::from_secs(30))?;
/// assert!(lock.try_acquire(Mode::Exclusive)?.is_none());
/// guard.release()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Engine {
    context: Arc<Context>,
}

/// Settings of an [`Engine`].
#[derive(Clone, Debug)]
pub struct EngineBuilder {
    hand_off_limit: u32,
    hand_off_time: Duration,
    helper_threads: usize,
    fairness_pause: Option<Pause>,
    signal: Option<sys::Signal>,
}

impl Default for EngineBuilder {
    fn default() -> Self {
        Self {
            hand_off_limit: 32,
            hand_off_time: Duration::from_millis(1),
            helper_threads: 512,
            fairness_pause: None,
            signal: None,
        }
    }
}

impl EngineBuilder {
    /// How often in a row, and for how long, this engine hands a lock on among its own waiters
    /// before other processes get their turn: `limit` times, or until one of its waiters has been
    /// waiting for `time`, whichever comes first. If the bound is reached during a hold, one more
    /// follows. The default is 32 times or 1 ms; the maximum is 1,000 times or 1 s, since others
    /// would starve. Once the bound is reached, the next waiter takes its place in the kernel's
    /// queue before the lock goes back. With a limit of 0, every release does so.
    pub fn hand_off(mut self, limit: u32, time: Duration) -> Self {
        self.hand_off_limit = limit.min(1000);
        self.hand_off_time = time.min(Duration::from_secs(1));
        self
    }

    /// How many threads may wait in the kernel at a time on behalf of tasks: one for each file that
    /// a task of this engine awaits. The default is 512. Further files are polled every 10 ms, or
    /// less often if there are many: 1,000 of them every 110 ms, which uses 2 % of one processor.
    /// The same applies if no descriptor is available, or if the file may not be reopened.
    pub fn helper_threads(mut self, limit: usize) -> Self {
        self.helper_threads = limit;
        self
    }

    /// Leaves a lock alone for `length` each time this engine has had it for `after` without such a
    /// pause. This helps those that a fair queue does not: programs that poll for the lock, and a
    /// writer elsewhere that overlapping readers in this engine would keep out. Acquires wait for
    /// the end of the pause, except those with a timeout of zero, which try at once. Off by
    /// default; `length` is at most 1 s.
    pub fn fairness_pause(mut self, after: Duration, length: Duration) -> Self {
        let length = length.min(Duration::from_secs(1));
        self.fairness_pause = Some(Pause { after, length });
        self
    }

    /// The number of the signal that interrupts waits in the kernel. It is sent only to the waiting
    /// thread. This call installs its handler, which does nothing. The default is `SIGSTKFLT`, or
    /// the first free signal from `SIGRTMIN + 8` on if `SIGSTKFLT` has a handler when the first
    /// wait begins; the C library and Go reserve others. On macOS it is `SIGEMT`, else `SIGINFO`.
    /// Windows has no signals and needs none.
    ///
    /// # Errors
    ///
    /// [`AddrInUse`](std::io::ErrorKind::AddrInUse) if the signal already has a handler;
    /// [`InvalidInput`](std::io::ErrorKind::InvalidInput) if it cannot have one, and for a
    /// real-time signal, which cannot be sent while the user has too many of them pending.
    #[cfg(unix)]
    pub fn wake_signal(mut self, number: i32) -> std::io::Result<Self> {
        #[cfg(target_os = "linux")]
        if number >= libc::SIGRTMIN() {
            return Err(std::io::ErrorKind::InvalidInput.into());
        }
        self.signal = Some(sys::Signal::claim(number)?);
        Ok(self)
    }

    /// Builds the engine. It starts no thread until one is needed.
    pub fn build(self) -> Engine {
        Engine {
            context: Arc::new(Context {
                process: sys::Process::current(),
                registry: Registry::default(),
                services: Arc::new(Services {
                    timer: Arc::new(Timer::new(sys::keep_signals_away)),
                    waiter_pool: Arc::new(WaiterPool::new(self.helper_threads)),
                    watcher: Arc::new(Watcher::default()),
                    hand_off_limit: self.hand_off_limit,
                    hand_off_time: self.hand_off_time,
                    pause: self.fairness_pause,
                    signal: self.signal,
                    polled: AtomicUsize::new(0),
                    epoch: Instant::now(),
                }),
            }),
        }
    }
}

/// How to open a lock.
#[derive(Clone, Debug)]
pub struct Options {
    protocol: Protocol,
    on_release: OnRelease,
    create: bool,
    pinned: bool,
    max_hold: Option<Duration>,
    threaded: bool,
    stale_after: Option<Duration>,
    database: Option<PathBuf>,
    /// Opens the file for writing only when a lock needs it.
    late_write: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            protocol: Protocol::default(),
            on_release: OnRelease::Keep,
            create: true,
            pinned: false,
            max_hold: None,
            threaded: false,
            stale_after: None,
            database: None,
            late_write: false,
        }
    }
}

impl Options {
    /// The options of [`Engine::open`]: the native protocol; the file is created if it is missing,
    /// and stays.
    pub fn new() -> Self {
        Self::default()
    }

    /// The protocol. On a network file system [`Protocol::Native`] means [`Protocol::Flock`], since
    /// the two lock families are one there.
    pub fn protocol(mut self, protocol: Protocol) -> Self {
        self.protocol = protocol;
        self
    }

    /// What happens to the lock file on release.
    pub fn on_release(mut self, on_release: OnRelease) -> Self {
        self.on_release = on_release;
        self
    }

    /// Whether to create the file if it is missing; on by default. It is created empty, with mode
    /// 0666 less the umask. Has no effect on [existence locks](Protocol::is_existence_lock).
    pub fn create(mut self, create: bool) -> Self {
        self.create = create;
        self
    }

    /// Promises that no program removes or replaces the file while this lock is in use. This saves
    /// the check after every grant and before every release. Off by default. For an [existence
    /// lock](Protocol::is_existence_lock), the promise is about the entry that is the lock.
    pub fn pinned(mut self, pinned: bool) -> Self {
        self.pinned = pinned;
        self
    }

    /// Takes the lock away after this time if it has not been released; the holder then sees
    /// [`State::Lost`]. Unlimited by default.
    pub fn max_hold(mut self, max_hold: Option<Duration>) -> Self {
        self.max_hold = max_hold;
        self
    }

    /// Makes each thread an owner of its own, as pylockfile's `threaded` does: another thread can
    /// release a lock by its [`Guard`], but not by [`LockFile::release`]. Off by default: the
    /// process is the owner.
    pub fn threaded(mut self, threaded: bool) -> Self {
        self.threaded = threaded;
        self
    }

    /// Also takes over an [existence lock](Protocol::is_existence_lock) whose holder is alive, once
    /// the lock's last change is that long ago. By default, only the lock of a holder that is
    /// proven dead is taken over. Has no effect on kernel locks.
    pub fn stale_after(mut self, age: Option<Duration>) -> Self {
        self.stale_after = age;
        self
    }

    #[cfg(feature = "sandbox")]
    pub(crate) fn late_write(mut self) -> Self {
        self.late_write = true;
        self
    }

    #[cfg(feature = "sandbox")]
    pub(crate) fn creates(&self) -> bool {
        self.create
    }

    /// Whether the file must be open for writing from the start.
    pub(crate) fn writes(&self) -> bool {
        let removes = self.on_release == OnRelease::Remove;
        removes || self.protocol.backend().needs_write() && !self.late_write
    }

    /// The database for [`Protocol::Sqlite`], which has none by default. The database and its table
    /// are created if they are missing. Nothing in this process may open it through another copy of
    /// the SQLite library than this crate's. A table `locks` that is not pylockfile's, or has another
    /// program's index, is refused with an [I/O error](Error::is_io).
    pub fn database(mut self, path: impl Into<PathBuf>) -> Self {
        self.database = Some(path.into());
        self
    }
}

impl Engine {
    /// Creates an engine with default settings.
    pub fn new() -> Self {
        EngineBuilder::default().build()
    }

    /// Settings for an engine.
    pub fn builder() -> EngineBuilder {
        EngineBuilder::default()
    }

    /// Opens the lock of the file at `path` with default [`Options`]. Does not acquire it.
    ///
    /// # Errors
    ///
    /// [Not found](Error::is_not_found), [denied](Error::is_denied),
    /// [invalid path](Error::is_invalid_path), or [another error](Error::is_io) of the system.
    pub fn open(&self, path: impl AsRef<Path>) -> Result<LockFile> {
        self.open_with(path, &Options::default())
    }

    /// Opens the lock of the file at `path`. Does not acquire it.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn open_with(&self, path: impl AsRef<Path>, options: &Options) -> Result<LockFile> {
        let path = path.as_ref();
        let lock_path = LockPath::ambient(path, options.create, options.writes())
            .map_err(|e| Error::os(e, path))?;
        self.open_target(lock_path, path.to_owned(), options, Owner(OwnerId::PROCESS))
    }

    /// Opens a lock for an owner; errors name it by `path`.
    pub(crate) fn open_target(
        &self,
        lock_path: LockPath,
        path: PathBuf,
        options: &Options,
        owner: Owner,
    ) -> Result<LockFile> {
        self.context.refuse_forked(&path)?;
        let mut options = options.clone();
        let lock_path = lock_path
            .kept_by(options.protocol, options.database.as_deref())
            .map_err(|e| Error::os(e, &path))?;
        #[cfg(feature = "sandbox")]
        if let (Protocol::Sqlite, Some(database)) = (options.protocol, &options.database) {
            let kept = self.context.registry.guests.keep_out(database);
            kept.map_err(|e| Error::os(e, &path))?;
        }
        let open_lock = lock_path.open().map_err(|e| Error::os(e, &path))?;
        let queue = self.context.queue(open_lock);
        if options.protocol == Protocol::Native && queue.network {
            options.protocol = Protocol::Flock;
        }
        let handle = Handle {
            context: Arc::clone(&self.context),
            owner: owner.0,
            number: self.context.registry.number(),
            lock_path: Arc::new(lock_path),
            path,
            options,
            queue: Mutex::new(queue),
            previous_queues: Mutex::default(),
            cancel_generation: AtomicU64::new(0),
        };
        Ok(LockFile {
            handle: Arc::new(handle),
        })
    }

    /// Takes the lock of the file at `path` away from its holder, in whatever protocol it is held,
    /// and returns that protocol. It leaves alone a lock that does not name its holder, and a file
    /// that contains only a number, which may be anything: use [`LockFile::break_lock`] with the
    /// right protocol for those.
    ///
    /// # Errors
    ///
    /// As [`LockFile::break_lock`].
    pub fn break_lock(&self, path: impl AsRef<Path>) -> Result<Protocol> {
        let path = path.as_ref();
        let open =
            |protocol| self.open_with(path, &Options::new().create(false).protocol(protocol));
        break_any(path, Protocol::ALL.iter().copied(), open)
    }

    /// Whether this is a fork of the process that built the engine.
    #[cfg(feature = "sandbox")]
    pub(crate) fn is_forked(&self) -> bool {
        self.context.forked()
    }

    #[cfg(feature = "sandbox")]
    pub(crate) fn refuse_forked(&self, path: &Path) -> Result<()> {
        self.context.refuse_forked(path)
    }

    /// Claims a directory for a guest, until the result is dropped. Fails if a database lies in it.
    #[cfg(feature = "sandbox")]
    pub(crate) fn territory(&self, dir: &cap_std::fs::Dir) -> std::io::Result<Territory> {
        self.context.refuse_forked(Path::new(""))?;
        use cap_std::fs::MetadataExt as _;
        let metadata = dir.dir_metadata()?;
        let identity = Identity::new(metadata.dev(), metadata.ino());
        self.context.registry.guests.claim(identity)?;
        Ok(Territory {
            context: Arc::clone(&self.context),
            identity,
        })
    }

    /// Records a database of the host. Fails if it lies in or below a guest's directory.
    #[cfg(feature = "sandbox")]
    pub(crate) fn keep_from_guests(&self, database: &Path) -> std::io::Result<()> {
        self.context.refuse_forked(database)?;
        self.context.registry.guests.keep_out(database)
    }

    /// Creates an owner, shown to others as `label`.
    #[cfg(feature = "sandbox")]
    pub(crate) fn owner(&self, label: Option<&str>) -> Owner {
        // A forked child opens nothing with it, and another thread may hold the mutex of the labels.
        let label = label.filter(|_| !self.context.forked());
        Owner(self.context.registry.owner(label))
    }

    /// Forgets an owner all of whose locks are closed.
    #[cfg(feature = "sandbox")]
    pub(crate) fn disown(&self, owner: Owner) {
        self.context.registry.disown(owner.0);
    }
}

/// Breaks the lock of a file in the first protocol in which it certainly is held.
pub(crate) fn break_any(
    path: &Path,
    protocols: impl Iterator<Item = Protocol>,
    open: impl Fn(Protocol) -> Result<LockFile>,
) -> Result<Protocol> {
    let (mut free, mut held, mut nothing) = (None, None, None);
    let mut locked = false;
    for protocol in protocols {
        // A file with a kernel lock belongs to a program, whatever is in it.
        if locked && matches!(protocol, Protocol::PidFile | Protocol::Soft) {
            continue;
        }
        match open(protocol).and_then(|lock| lock.break_if(true)) {
            Ok(true) => return Ok(protocol),
            Ok(false) => free = Some(Error::new(ErrorKind::NotLocked, path)),
            // There is no such file or database, or it is something else.
            Err(e) if e.is_not_found() || e.is_invalid_path() => _ = nothing.get_or_insert(e),
            Err(e) if e.is_unsupported() && protocol.is_existence_lock() => {}
            Err(e) => {
                locked |= e.is_unsupported();
                held.get_or_insert(e);
            }
        }
    }
    let error = held.or(free).or(nothing);
    Err(error.unwrap_or_else(|| Error::new(ErrorKind::NotLocked, path)))
}

impl Default for Engine {
    fn default() -> Self {
        Self::new()
    }
}

/// What the handles of an engine share.
#[derive(Debug)]
struct Context {
    registry: Registry,
    services: Arc<Services>,
    /// The process that built the engine.
    process: sys::Process,
}

impl Context {
    /// Whether this is a fork of the process that built the engine: its locks are the parent's,
    /// and so are the threads that its queues rely on.
    fn forked(&self) -> bool {
        self.process.is_parent()
    }

    fn refuse_forked(&self, path: &Path) -> Result<()> {
        if self.forked() {
            let why = "this process was forked from the one that built the engine; build another";
            let error = std::io::Error::new(std::io::ErrorKind::Unsupported, why);
            return Err(Error::os(error, path));
        }
        Ok(())
    }

    fn queue(&self, open_lock: OpenLock) -> Arc<LockQueue> {
        self.registry.queue(open_lock, &self.services)
    }
}

/// The owner of a set of locks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owner(OwnerId);

/// A directory that is granted to a guest: no database of the engine lies in it.
#[cfg(feature = "sandbox")]
#[derive(Debug)]
pub(crate) struct Territory {
    context: Arc<Context>,
    identity: Identity,
}

#[cfg(feature = "sandbox")]
impl Drop for Territory {
    fn drop(&mut self) {
        if !self.context.forked() {
            self.context.registry.guests.leave(self.identity);
        }
    }
}

/// What the owner of a lock does while it waits for it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Suspends {
    /// It keeps running, and may release what it waits for. This process does: any of its threads
    /// can release what another acquired, so none of its acquires is provably hopeless.
    Nothing,
    /// It is suspended. `may_block_others`: it holds or awaits something else, for which others may
    /// be waiting.
    #[cfg_attr(not(feature = "sandbox"), expect(dead_code, reason = "guests only"))]
    Owner { may_block_others: bool },
}

/// A handle on the lock of one file.
///
/// All handles that a process opens on one file through one [`Engine`] are one lock: any of them
/// may [`release`](Self::release) what another acquired, from any thread. Clones are the same
/// handle. Dropping a handle releases nothing; dropping a [`Guard`] does.
#[derive(Clone)]
pub struct LockFile {
    handle: Arc<Handle>,
}

struct Handle {
    context: Arc<Context>,
    /// The owner, unless each thread is one.
    owner: OwnerId,
    number: u64,
    lock_path: Arc<LockPath>,
    path: PathBuf,
    options: Options,
    queue: Mutex<Arc<LockQueue>>,
    /// The queues of the files to which the path led before, as long as they are in use.
    previous_queues: Mutex<Vec<Weak<LockQueue>>>,
    /// How often waits were canceled.
    cancel_generation: AtomicU64,
}

impl Drop for Handle {
    fn drop(&mut self) {
        if !self.context.forked() {
            self.queue().forget(self.number);
        }
    }
}

impl Handle {
    /// How the calling thread appears to this lock.
    fn requester(&self) -> Requester {
        let owner = if self.options.threaded {
            OwnerId::thread()
        } else {
            self.owner
        };
        Requester {
            owner,
            handle: self.number,
        }
    }

    fn queue(&self) -> Arc<LockQueue> {
        Arc::clone(&lock(&self.queue))
    }

    /// Opens the path again: because it leads to another file now, or to open it in another way.
    fn reopen(&self, open: impl Fn(&LockPath) -> std::io::Result<OpenLock>) -> Result<()> {
        let open_lock = open(&self.lock_path).map_err(|e| self.os(e))?;
        let queue = self.context.queue(open_lock);
        if Arc::ptr_eq(&queue, &self.queue()) {
            return Ok(());
        }
        // At every moment, each queue with a waiter is in one place or the other.
        let mut previous_queues = lock(&self.previous_queues);
        previous_queues.retain(|queue| queue.strong_count() > 0);
        previous_queues.push(Arc::downgrade(&self.queue()));
        let old = std::mem::replace(&mut *lock(&self.queue), queue);
        drop(previous_queues);
        drop(old);
        Ok(())
    }

    /// Cancels the waits that `concerns` selects, whichever file they are for. With a `reason`,
    /// also takes the selected holds away.
    fn revoke(&self, reason: Option<LostReason>, concerns: impl Fn(Requester) -> bool) {
        if self.context.forked() {
            return;
        }
        // An acquire that is between two queues at this moment sees it.
        self.cancel_generation.fetch_add(1, Ordering::SeqCst);
        let previous_queues = lock(&self.previous_queues);
        let mut queues: Vec<_> = previous_queues.iter().filter_map(Weak::upgrade).collect();
        queues.push(self.queue());
        drop(previous_queues);
        for queue in queues {
            queue.revoke(reason, |_, requester| concerns(requester));
        }
    }

    fn error(&self, kind: ErrorKind) -> Error {
        Error::new(kind, &self.path)
    }

    fn os(&self, error: std::io::Error) -> Error {
        Error::os(error, &self.path)
    }

    fn refuse_forked(&self) -> Result<()> {
        self.context.refuse_forked(&self.path)
    }

    fn release(&self, queue: &Arc<LockQueue>, ticket: Ticket) -> Result<()> {
        self.refuse_forked()?;
        match queue
            .release(ticket, self.remove(), !self.options.pinned)
            .map_err(|e| self.os(e))?
        {
            Some(Ok(())) => Ok(()),
            Some(Err(reason)) => Err(self.error(ErrorKind::Lost(reason))),
            None => Err(self.error(ErrorKind::NotLocked)),
        }
    }

    /// What to remove on release, unless the release removes it anyway.
    fn remove(&self) -> Option<&Arc<LockPath>> {
        let remove = self.options.on_release == OnRelease::Remove;
        (remove && !self.options.protocol.is_existence_lock()).then_some(&self.lock_path)
    }

    /// The queue of the file to which the path leads now, if there is one.
    fn current(&self) -> Result<Option<Arc<LockQueue>>> {
        self.refuse_forked()?;
        let queue = self.queue();
        let current = || self.lock_path.is(queue.identity).map_err(|e| self.os(e));
        if !queue.is_poisoned() && (self.options.pinned || current()?) {
            return Ok(Some(queue));
        }
        match self.lock_path.open_existing() {
            Ok(open_lock) => Ok(Some(self.context.queue(open_lock))),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(self.os(e)),
        }
    }
}

impl LockFile {
    /// The path, as it was opened.
    pub fn path(&self) -> &Path {
        &self.handle.path
    }

    /// The protocol in use.
    pub fn protocol(&self) -> Protocol {
        self.handle.options.protocol
    }

    /// Acquires the lock. If it is not free, waits for its turn for at most `timeout`. `None` waits
    /// indefinitely; zero tries once. The timeout covers the whole call and is measured on the
    /// monotonic clock. The wait blocks the calling thread and uses no processor time.
    ///
    /// The lock does not know which thread asks: a thread that waits for a lock that it holds
    /// itself waits until another thread releases it.
    ///
    /// # Errors
    ///
    /// [Would block](Error::is_would_block) with a timeout of zero, otherwise
    /// [timeout](Error::is_timeout); [canceled](Error::is_canceled); [denied](Error::is_denied) for
    /// an exclusive lock of a file that may only be read; and the errors of [`Engine::open`] if the
    /// file has been removed in the meantime.
    pub fn acquire(&self, mode: Mode, timeout: impl Into<Option<Duration>>) -> Result<Guard> {
        self.acquire_as(mode, timeout.into(), Suspends::Nothing)
    }

    /// Tries once; returns `None` if the lock is held. A wait that is canceled just as it is
    /// granted can hold the lock for a few microseconds.
    ///
    /// # Errors
    ///
    /// As [`acquire`](Self::acquire), except that it does not wait.
    pub fn try_acquire(&self, mode: Mode) -> Result<Option<Guard>> {
        match self.acquire(mode, Duration::ZERO) {
            Ok(guard) => Ok(Some(guard)),
            Err(e) if e.is_would_block() => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Like [`acquire`](Self::acquire), for tasks. It works in any runtime, and never blocks the
    /// thread that polls it.
    ///
    /// # Errors
    ///
    /// As [`acquire`](Self::acquire).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the place in the queue and leaves nothing behind. If the lock
    /// has just been granted, it goes to the next waiter.
    pub fn acquire_async(&self, mode: Mode, timeout: impl Into<Option<Duration>>) -> Acquire {
        self.start(mode, timeout.into(), Suspends::Nothing)
    }

    /// Acquires the lock on the calling thread.
    pub(crate) fn acquire_as(
        &self,
        mode: Mode,
        timeout: Option<Duration>,
        meanwhile: Suspends,
    ) -> Result<Guard> {
        let handle = &self.handle;
        AcquireState::new(handle, mode, timeout, meanwhile, true).block(handle)
    }

    /// Acquires the lock in a task.
    pub(crate) fn start(
        &self,
        mode: Mode,
        timeout: Option<Duration>,
        meanwhile: Suspends,
    ) -> Acquire {
        let handle = Arc::clone(&self.handle);
        let course = AcquireState::new(&handle, mode, timeout, meanwhile, false);
        Acquire { handle, course }
    }

    /// Runs `body` with the lock held exclusively, and releases it however `body` ends.
    ///
    /// # Errors
    ///
    /// Those of [`acquire`](Self::acquire), before `body` runs, and those of [`Guard::release`],
    /// after it has run.
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

    /// Releases one hold of this process on this file: one that was acquired through this handle if
    /// there is one, otherwise any. The corresponding guard no longer holds anything.
    ///
    /// # Errors
    ///
    /// [Not locked](Error::is_not_locked) if the lock is free, [not owner](Error::is_not_owner) if
    /// another process or guest holds it, [lost](Error::is_lost) if the hold was lost before, or
    /// the lock file was removed during the hold.
    pub fn release(&self) -> Result<()> {
        let handle = &self.handle;
        handle.refuse_forked()?;
        let queue = handle.queue();
        match queue.find(handle.requester()) {
            Some(ticket) => handle.release(&queue, ticket),
            None if self.is_locked()? => Err(handle.error(ErrorKind::NotOwner)),
            None => Err(handle.error(ErrorKind::NotLocked)),
        }
    }

    /// Whether the lock is held, by this process or another. On Windows, and if no process uses
    /// record locks on the file, this has to try the lock for a moment, and can make another
    /// program's try fail in that moment.
    ///
    /// # Errors
    ///
    /// Those of the system, with [`is_io`](Error::is_io); and [invalid
    /// path](Error::is_invalid_path) if something other than a lock has the lock's name.
    pub fn is_locked(&self) -> Result<bool> {
        Ok(self.holder()?.is_some())
    }

    /// One of the holders of the lock; the caller itself if it is one of them.
    ///
    /// # Errors
    ///
    /// As [`is_locked`](Self::is_locked).
    pub fn holder(&self) -> Result<Option<Holder>> {
        let handle = &self.handle;
        let Some(queue) = handle.current()? else {
            return Ok(None);
        };
        let me = handle.requester().owner;
        let holder = queue
            .holder(me, handle.options.protocol)
            .map_err(|e| handle.os(e))?;
        Ok(holder.map(|holder| Holder {
            label: holder
                .owner
                .and_then(|owner| handle.context.registry.label(owner)),
            is_self: holder.owner == Some(me),
            mode: holder.found.mode,
            pid: holder.found.pid,
            host: holder.found.host,
            since: holder.found.since,
        }))
    }

    /// The state of this process's own hold on the file. Performs no I/O.
    pub fn state(&self) -> State {
        if self.handle.context.forked() {
            return State::Unlocked;
        }
        match self.handle.queue().standing(self.handle.requester().owner) {
            Ok(true) => State::Held,
            Ok(false) => State::Unlocked,
            Err(reason) => State::Lost(reason),
        }
    }

    /// The guarantees that this lock provides.
    pub fn guarantee(&self) -> Guarantee {
        let network = self.handle.queue().network;
        Guarantee {
            scope: if network {
                Scope::ClusterFileSystem
            } else {
                Scope::Host
            },
            ttl: self.handle.options.max_hold,
            fifo: !self.handle.options.protocol.is_existence_lock(),
        }
    }

    /// Cancels every wait through this handle, in any thread or task: each fails with
    /// [canceled](Error::is_canceled).
    pub fn cancel_waits(&self) {
        let number = self.handle.number;
        self.handle
            .revoke(None, |requester| requester.handle == number);
    }

    /// Revokes every hold of this handle's owner on the file, and cancels its waits.
    #[cfg(feature = "sandbox")]
    pub(crate) fn revoke(&self) {
        let owner = self.handle.owner;
        self.handle.revoke(Some(LostReason::Broken), |requester| {
            requester.owner == owner
        });
    }

    /// Takes the lock away from its holders. Holders in this engine see [`State::Lost`]. So do
    /// holders of an [existence lock](Protocol::is_existence_lock) in other processes that use
    /// Locket. Nothing checks whether the holders are dead: call this only if you know that no
    /// program relies on the lock any more.
    ///
    /// # Errors
    ///
    /// [Not locked](Error::is_not_locked) if the lock is free; [unsupported](Error::is_unsupported)
    /// if another process holds a kernel lock, which never becomes stale, since the kernel frees it
    /// when that process ends; [invalid path](Error::is_invalid_path) for something that is not a
    /// lock of this protocol, or contains more than a lock does. Nothing is removed in that case.
    pub fn break_lock(&self) -> Result<()> {
        if self.break_if(false)? {
            Ok(())
        } else {
            Err(self.handle.error(ErrorKind::NotLocked))
        }
    }

    /// Returns `false` if the lock is free; with `require_owner`, also if it does not name its
    /// holder.
    pub(crate) fn break_if(&self, require_owner: bool) -> Result<bool> {
        let handle = &self.handle;
        let Some(queue) = handle.current()? else {
            return Ok(false);
        };
        let broken = queue.break_lock(handle.options.protocol, require_owner);
        broken.map_err(|e| handle.os(e))
    }

    /// Completes when this process loses a hold on the file (see [`State::Lost`]). Never completes
    /// for a lock that cannot be lost.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no other effect.
    pub fn lost(&self) -> impl Future<Output = LostReason> + Send + use<> + 'static {
        let context = Arc::clone(&self.handle.context);
        let owner = self.handle.requester().owner;
        let watch = (!context.forked()).then(|| LossWatch {
            queue: self.handle.queue(),
            number: context.registry.number(),
            context,
        });
        future::poll_fn(move |cx| match &watch {
            Some(watch) if !watch.context.forked() => {
                watch.queue.poll_lost(owner, watch.number, cx.waker())
            }
            _ => Poll::Pending,
        })
    }
}

impl fmt::Debug for LockFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.handle.fmt(f)
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lock = f.debug_struct("LockFile");
        lock.field("path", &self.path);
        lock.field("protocol", &self.options.protocol);
        if self.context.forked() {
            return lock.finish_non_exhaustive();
        }
        let (holding, waiting) = self.queue().len();
        lock.field("holding", &holding);
        lock.field("waiting", &waiting);
        lock.finish()
    }
}

struct LossWatch {
    queue: Arc<LockQueue>,
    number: u64,
    context: Arc<Context>,
}

impl Drop for LossWatch {
    fn drop(&mut self) {
        if !self.context.forked() {
            self.queue.unwatch(self.number);
        }
    }
}

/// A hold on a lock. Dropping it releases the lock, in any thread.
#[must_use = "the lock is released as soon as the guard is dropped"]
pub struct Guard {
    handle: Arc<Handle>,
    queue: Arc<LockQueue>,
    ticket: Ticket,
    mode: Mode,
    released: bool,
    /// Rarely needed, so looked up on demand.
    object: OnceLock<Arc<LockObject>>,
}

impl Guard {
    /// The path of the lock, as it was opened.
    pub fn path(&self) -> &Path {
        &self.handle.path
    }

    /// The mode in which the lock is held.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Whether the lock is still held: neither lost nor released through a [`LockFile`]. A holder
    /// that works for long asks before each step that another holder could spoil. Performs no I/O.
    pub fn is_held(&self) -> bool {
        !self.handle.context.forked() && self.queue.holds(self.ticket)
    }

    /// When the hold expires (see [`Options::max_hold`]), unless it does not, or has been lost.
    pub fn expires(&self) -> Option<Instant> {
        if self.handle.context.forked() {
            return None;
        }
        self.queue.expires(self.ticket)
    }

    /// Releases the lock and reports errors. Dropping the guard releases it and ignores errors.
    ///
    /// # Errors
    ///
    /// [Lost](Error::is_lost) if the hold was lost before, or the lock file was removed during the
    /// hold; [not locked](Error::is_not_locked) if it was released through a [`LockFile`]; or an
    /// error of the system. A kernel lock is free in any case. An [existence
    /// lock](Protocol::is_existence_lock) may remain if its entry could not be removed. This engine
    /// can then still acquire it; others see a stale lock once this process ends.
    pub fn release(mut self) -> Result<()> {
        self.released = true;
        self.handle.release(&self.queue, self.ticket)
    }
}

#[cfg(feature = "sandbox")]
impl Guard {
    /// Whether it is a hold on the file that `lock` is open on.
    pub(crate) fn is_on(&self, lock: &LockFile) -> bool {
        Arc::ptr_eq(&self.queue, &lock.handle.queue())
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if !self.released && !self.handle.context.forked() {
            let _ = self.queue.release(self.ticket, self.handle.remove(), false);
        }
    }
}

/// The descriptor that carries the lock. A child process that inherits it keeps the lock until it
/// is released here or all copies are closed. After the hold is lost, the descriptor carries no
/// lock, or that of the next hold.
#[cfg(unix)]
impl AsFd for Guard {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.object.get_or_init(|| self.queue.object()).file.as_fd()
    }
}

/// The handle that carries the lock, opened for overlapped operations. The lock belongs to the
/// process: a child that inherits the handle does not hold it.
#[cfg(windows)]
impl AsHandle for Guard {
    fn as_handle(&self) -> BorrowedHandle<'_> {
        self.object
            .get_or_init(|| self.queue.object())
            .file
            .as_handle()
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard")
            .field("path", &self.handle.path)
            .field("mode", &self.mode)
            .finish()
    }
}

/// An acquire in progress: the future of [`LockFile::acquire_async`].
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct Acquire {
    handle: Arc<Handle>,
    course: AcquireState,
}

/// The state machine of one acquire, blocking or async.
#[derive(Debug)]
struct AcquireState {
    request: Request,
    requester: Requester,
    deadline: Deadline,
    meanwhile: Suspends,
    blocking: bool,
    wait: Option<Wait>,
    /// How often the path led to another file after the grant.
    replaced: usize,
    /// The handle's `cancel_generation` when the acquire began.
    cancel_generation: u64,
}

/// A place in a queue. Dropping it abandons the wait.
#[derive(Debug)]
struct Wait {
    handle: Arc<Handle>,
    queue: Arc<LockQueue>,
    ticket: Ticket,
    /// Whether its owner is suspended until the wait is over, as noted in the registry.
    suspended: bool,
    /// Ends the wait at the deadline.
    alarm: Option<TimerEntry>,
    granted: bool,
}

impl Drop for Wait {
    fn drop(&mut self) {
        let context = &self.handle.context;
        if context.forked() {
            return;
        }
        if self.suspended {
            context.registry.resume(self.handle.owner);
        }
        if !self.granted {
            self.queue.abandon(self.ticket);
        }
    }
}

enum Progress {
    Done(Result<Guard>),
    Pending,
    WaitInKernel(Arc<LockQueue>, Arc<KernelWait>),
}

impl AcquireState {
    fn new(
        handle: &Handle,
        mode: Mode,
        timeout: Option<Duration>,
        meanwhile: Suspends,
        blocking: bool,
    ) -> Self {
        Self {
            request: Request {
                mode,
                protocol: handle.options.protocol,
                stale_after: handle.options.stale_after,
            },
            requester: handle.requester(),
            deadline: Deadline::after(timeout),
            meanwhile,
            blocking,
            wait: None,
            replaced: 0,
            cancel_generation: handle.cancel_generation.load(Ordering::SeqCst),
        }
    }

    /// Advances as far as possible. If the acquire is not done, `waker` is woken when to call
    /// again.
    fn step(&mut self, handle: &Arc<Handle>, waker: &Waker) -> Progress {
        if let Err(e) = handle.refuse_forked() {
            return Progress::Done(Err(e));
        }
        loop {
            let granted = match self.wait.take() {
                None => self.enter(handle),
                Some(mut wait) => match wait.queue.turn(wait.ticket, waker) {
                    WaitStatus::Granted => Ok(Some(self.granted(handle, wait))),
                    WaitStatus::Failed(failure) => failed(handle, failure).map(|()| None),
                    WaitStatus::Wait if self.deadline.passed() => {
                        Err(handle.error(ErrorKind::Timeout))
                    }
                    WaitStatus::Wait => match self.arm(&mut wait) {
                        Ok(()) => {
                            self.wait = Some(wait);
                            return Progress::Pending;
                        }
                        Err(e) => Err(handle.os(e)),
                    },
                    WaitStatus::WaitInKernel(kernel) => {
                        let queue = Arc::clone(&wait.queue);
                        self.wait = Some(wait);
                        return Progress::WaitInKernel(queue, kernel);
                    }
                },
            };
            match granted
                .and_then(|guard| guard.map(|guard| self.confirm(handle, guard)).transpose())
            {
                Ok(Some(Some(guard))) => return Progress::Done(Ok(guard)),
                Ok(_) => {}
                Err(e) => return Progress::Done(Err(e)),
            }
        }
    }

    /// Enters the queue. Without a guard, the caller continues with the wait.
    fn enter(&mut self, handle: &Arc<Handle>) -> Result<Option<Guard>> {
        let mut queue = handle.queue();
        if self.request.needs_write() && !queue.is_writable() {
            if handle.options.late_write {
                handle.reopen(LockPath::open_for_writing)?;
                queue = handle.queue();
            }
            if !queue.is_writable() {
                return Err(handle.error(ErrorKind::Denied));
            }
        }
        let waits = !matches!(self.deadline, Deadline::Now);
        let max_hold = handle.options.max_hold;
        match queue.enter(self.request, self.requester, max_hold, waits, self.blocking) {
            Enqueued::Granted(ticket) => Ok(Some(self.guard(handle, queue, ticket))),
            Enqueued::Failed(failure) => failed(handle, failure).map(|()| None),
            // It was canceled between two queues, where no queue could tell it so.
            Enqueued::Queued(ticket)
                if handle.cancel_generation.load(Ordering::SeqCst) != self.cancel_generation =>
            {
                queue.abandon(ticket);
                Err(handle.error(ErrorKind::Canceled))
            }
            Enqueued::Queued(ticket) => {
                let owner = self.requester.owner;
                let registry = &handle.context.registry;
                let (suspended, hopeless) = match self.meanwhile {
                    Suspends::Nothing => (false, false),
                    Suspends::Owner { may_block_others } => {
                        let suspended = registry.suspend(owner, &queue, ticket, may_block_others);
                        (suspended, !suspended)
                    }
                };
                let wait = Wait {
                    handle: Arc::clone(handle),
                    queue,
                    ticket,
                    suspended,
                    alarm: None,
                    granted: false,
                };
                if hopeless {
                    return Err(handle.error(ErrorKind::Deadlock));
                }
                self.wait = Some(wait);
                Ok(None)
            }
        }
    }

    fn granted(&self, handle: &Arc<Handle>, mut wait: Wait) -> Guard {
        wait.granted = true;
        self.guard(handle, Arc::clone(&wait.queue), wait.ticket)
    }

    fn guard(&self, handle: &Arc<Handle>, queue: Arc<LockQueue>, ticket: Ticket) -> Guard {
        Guard {
            handle: Arc::clone(handle),
            queue,
            ticket,
            mode: self.request.mode,
            released: false,
            object: OnceLock::new(),
        }
    }

    /// Checks that the path leads to the file that was locked. If it does not, releases that file
    /// and opens the path again.
    fn confirm(&mut self, handle: &Handle, mut guard: Guard) -> Result<Option<Guard>> {
        let current = handle.options.pinned
            || handle
                .lock_path
                .is(guard.queue.identity)
                .map_err(|e| handle.os(e))?;
        if !current {
            guard.released = true;
            let _ = guard.queue.release(guard.ticket, None, false);
            if self.deadline.passed() {
                return Err(handle.error(ErrorKind::Timeout));
            }
            // Other programs lock and remove the file over and over; a single try must end.
            self.replaced += 1;
            if matches!(self.deadline, Deadline::Now) && self.replaced == TRIES {
                return Err(handle.error(ErrorKind::WouldBlock));
            }
            return handle.reopen(LockPath::open).map(|()| None);
        }
        Ok(Some(guard))
    }

    /// Sets a timer that ends the wait of a task at the deadline, whether or not the task is
    /// polled. A thread ends its own wait.
    fn arm(&self, wait: &mut Wait) -> std::io::Result<()> {
        if let Some(at) = self.deadline.instant()
            && !self.blocking
            && wait.alarm.is_none()
        {
            let over = wait.queue.teller(Event::WaitOver(wait.ticket));
            let timer = &wait.handle.context.services.timer;
            wait.alarm = Some(timer.wake_at(at, over)?);
        }
        Ok(())
    }

    /// Acquires on the calling thread.
    fn block(mut self, handle: &Arc<Handle>) -> Result<Guard> {
        let mut parker: Option<(Arc<Parker>, Waker)> = None;
        loop {
            let waker = parker.as_ref().map_or(Waker::noop(), |(_, waker)| waker);
            match self.step(handle, waker) {
                Progress::Done(result) => return result,
                Progress::WaitInKernel(queue, wait) => {
                    queue.settle(&wait, wait.run(self.deadline)).wake();
                }
                Progress::Pending => match &parker {
                    Some((parker, _)) => parker.sleep(self.deadline.instant()),
                    // Most acquires never get here, so the parker is made on demand.
                    None => {
                        let created = Arc::new(Parker::default());
                        parker = Some((Arc::clone(&created), Waker::from(created)));
                    }
                },
            }
        }
    }
}

/// What a wait without a grant means for the caller. Success means: try again.
fn failed(handle: &Handle, failure: Failure) -> Result<()> {
    match failure {
        Failure::Replaced => {
            let before = handle.queue();
            handle.reopen(LockPath::open)?;
            // A guest's directory can be opened again even after it was removed. A removed database
            // may have been replaced by one with the same inode number.
            let object = before.object();
            let row = object
                .as_marker()
                .is_some_and(|name| name.database.is_some());
            if !row && Arc::ptr_eq(&before, &handle.queue()) {
                return Err(handle.error(ErrorKind::NotFound));
            }
            Ok(())
        }
        Failure::WouldBlock => Err(handle.error(ErrorKind::WouldBlock)),
        Failure::TimedOut => Err(handle.error(ErrorKind::Timeout)),
        Failure::Canceled => Err(handle.error(ErrorKind::Canceled)),
        Failure::Broken => Ok(()),
        Failure::Io(e) => Err(handle.os(e)),
    }
}

impl Future for Acquire {
    type Output = Result<Guard>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let Self { handle, course } = &mut *self;
        match course.step(handle, cx.waker()) {
            Progress::Done(result) => Poll::Ready(result),
            Progress::Pending => Poll::Pending,
            Progress::WaitInKernel(..) => {
                unreachable!("only blocking callers are sent to the kernel")
            }
        }
    }
}
