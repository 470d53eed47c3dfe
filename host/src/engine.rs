//! The engine: what belongs together in a process, and how locks are opened.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, Result};
use crate::fairness::Pause;
use crate::handle::{Context, Handle};
use crate::lock_file::LockFile;
#[cfg(feature = "sandbox")]
use crate::lock_path::Identity;
use crate::lock_path::LockPath;
use crate::options::Options;
use crate::owner::OwnerId;
use crate::protocol::Protocol;
use crate::registry::Registry;
use crate::services::Services;
use crate::sys;
use crate::timer::Timer;
use crate::waiter::WaiterPool;
use crate::watch::Watcher;

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
        if let Some(store) = lock_path.store() {
            let kept = self.context.registry.guests.keep_out(store);
            kept.map_err(|e| Error::os(e, &path))?;
        }
        let open_lock = lock_path.open().map_err(|e| Error::os(e, &path))?;
        let queue = self.context.queue(open_lock);
        if options.protocol == Protocol::Native && queue.network {
            options.protocol = Protocol::Flock;
        }
        let handle = Handle::new(&self.context, owner.0, lock_path, path, options, queue);
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
