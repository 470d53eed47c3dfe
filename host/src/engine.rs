//! The engine: what belongs together in a process, and how locks are opened.

mod builder;
#[cfg(feature = "remote")]
mod remote;

use std::fmt;
use std::fs::File;
use std::path::Path;
use std::sync::{Arc, OnceLock};

#[cfg(feature = "sandbox")]
use crate::deadlock::Suspension;
use crate::error::{Error, ErrorKind, Result};
use crate::handle::{Context, Handle};
use crate::lock_file::LockFile;
#[cfg(feature = "sandbox")]
use crate::lock_path::Identity;
use crate::lock_path::LockPath;
use crate::object::OpenLock;
use crate::options::Options;
use crate::owner::Client;
#[cfg(feature = "sandbox")]
use crate::owner::{OwnerId, Profile};
use crate::protocol::Protocol;
use crate::types::OnRelease;

pub use self::builder::EngineBuilder;

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
#[derive(Clone)]
pub struct Engine {
    context: Arc<Context>,
}

/// Shows nothing of what is open: [`Engine::snapshot`] does.
impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
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

    /// The engine of this process that [`LockFile::open`] uses. A forked child has another one.
    pub fn shared() -> Self {
        static FIRST: OnceLock<Shared> = OnceLock::new();
        let mut shared = FIRST.get_or_init(Shared::default);
        while shared.engine.context.forked() {
            shared = shared.of_child.get_or_init(Box::default);
        }
        shared.engine.clone()
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
        self.open_target(lock_path, options, Client::PROCESS)
    }

    /// Opens a lock for an owner.
    pub(crate) fn open_target(
        &self,
        mut lock_path: LockPath,
        options: &Options,
        client: Client,
    ) -> Result<LockFile> {
        self.context.refuse_forked(lock_path.name())?;
        options.check(lock_path.name())?;
        let kept = lock_path.keep_by(options.protocol, options.database.as_deref());
        kept.map_err(|e| Error::os(e, lock_path.name()))?;
        #[cfg(feature = "sandbox")]
        if let Some(store) = lock_path.store() {
            let kept = self.context.registry.guests.keep_out(store);
            kept.map_err(|e| Error::os(e, lock_path.name()))?;
        }
        let open_lock = lock_path
            .open()
            .map_err(|e| Error::os(e, lock_path.name()))?;
        Ok(self.handle(open_lock, lock_path, options.clone(), client))
    }

    fn handle(
        &self,
        open_lock: OpenLock,
        lock_path: LockPath,
        mut options: Options,
        client: Client,
    ) -> LockFile {
        let queue = self.context.queue(open_lock, &lock_path);
        // Its two families are one there.
        if options.protocol == Protocol::Native && queue.network {
            options.protocol = Protocol::Flock;
        }
        let handle = Handle::new(&self.context, client, lock_path, options, queue);
        LockFile {
            handle: Arc::new(handle),
        }
    }

    /// The lock of a file that is open already, with default [`Options`]: see
    /// [`from_file_with`](Self::from_file_with).
    ///
    /// # Errors
    ///
    /// As [`from_file_with`](Self::from_file_with).
    pub fn from_file(&self, file: File) -> Result<LockFile> {
        self.from_file_with(file, &Options::default())
    }

    /// The lock of a file that is open already, whatever leads to it by now. It is the same lock as
    /// that of each path that leads to the file. On Unix the engine uses the open file description
    /// of `file` for it, unless the engine has the file open already; the description must not
    /// carry a lock. A wait takes a description of its own, so a file that may not be opened again
    /// is polled.
    ///
    /// The file is never created, checked for replacement, or removed: of the options, only
    /// [`protocol`](Options::protocol), [`max_hold`](Options::max_hold) and
    /// [`owner`](Options::owner) count.
    ///
    /// ```
    /// use locket::{Engine, Mode};
    ///
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("journal");
    /// let journal = std::fs::File::options().read(true).append(true).create(true).open(path)?;
    /// let lock = Engine::new().from_file(journal.try_clone()?)?;
    /// let guard = lock.acquire(Mode::Exclusive, None)?;
    /// // Append to `journal`.
    /// guard.release()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [Invalid path](Error::is_invalid_path) if it is not a regular file, except that on Unix
    /// [`Protocol::Flock`] locks a directory or a device, too;
    /// [unsupported](Error::is_unsupported) for an [existence lock](Protocol::is_existence_lock)
    /// and for [`OnRelease::Remove`]; or [another error](Error::is_io) of the system.
    pub fn from_file_with(&self, file: File, options: &Options) -> Result<LockFile> {
        let any_kind = cfg!(unix) && options.protocol == Protocol::Flock;
        let (lock_path, open_lock) =
            LockPath::adopt(file, any_kind).map_err(|e| Error::os(e, Path::new("an open file")))?;
        self.open_adopted(lock_path, open_lock, options, Client::PROCESS)
    }

    /// The lock of an open file, for an owner.
    pub(crate) fn open_adopted(
        &self,
        lock_path: LockPath,
        open_lock: OpenLock,
        options: &Options,
        client: Client,
    ) -> Result<LockFile> {
        self.context.refuse_forked(lock_path.name())?;
        if options.protocol.is_existence_lock() || options.on_release == OnRelease::Remove {
            return Err(Error::new(ErrorKind::Unsupported, lock_path.name()));
        }
        let options = options.clone().skip_identity_check(true);
        Ok(self.handle(open_lock, lock_path, options, client))
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

    /// Cancels every wait in this engine, of guests, too: each fails with
    /// [canceled](Error::is_canceled). Later acquires are not affected.
    pub fn cancel_all(&self) {
        if !self.context.forked() {
            self.context.cancel_all(false);
        }
    }

    /// Like [`cancel_all`](Self::cancel_all), and from now on each acquire that would have to wait
    /// fails with [canceled](Error::is_canceled), too. Free locks can still be acquired, and
    /// held ones released. For the end of a program.
    ///
    /// ```
    /// use locket::{Engine, Mode};
    ///
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("app.lock");
    /// let engine = Engine::new();
    /// let lock = engine.open(&path)?;
    /// engine.shut_down();
    /// let _guard = lock.acquire(Mode::Exclusive, None)?;
    /// assert!(lock.acquire(Mode::Exclusive, None).unwrap_err().is_canceled());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn shut_down(&self) {
        if !self.context.forked() {
            self.context.cancel_all(true);
        }
    }

    pub(crate) fn context(&self) -> &Arc<Context> {
        &self.context
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
    pub(crate) fn territory(&self, identity: Identity) -> std::io::Result<Territory> {
        self.context.refuse_forked(Path::new(""))?;
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

    /// Creates an owner.
    #[cfg(feature = "sandbox")]
    pub(crate) fn owner(&self, profile: Profile) -> OwnerId {
        // A forked child opens nothing with it, and another thread may hold the mutex of the owners.
        let profile = Some(profile).filter(|_| !self.context.forked());
        self.context.registry.owner(profile)
    }

    /// Records that an owner is suspended, unless that closes a cycle.
    #[cfg(feature = "sandbox")]
    pub(crate) fn suspend(&self, owner: OwnerId, suspension: Suspension) -> bool {
        let suspensions = &self.context.registry.suspensions;
        suspensions.suspend(owner, suspension, true)
    }

    /// Records that a suspension is over.
    #[cfg(feature = "sandbox")]
    pub(crate) fn resume(&self, owner: OwnerId, suspension: &Suspension) {
        self.context.registry.suspensions.resume(owner, suspension);
    }

    /// A number that no owner of the engine has.
    #[cfg(feature = "sandbox")]
    pub(crate) fn number(&self) -> u64 {
        self.context.registry.number()
    }

    /// Changes the host's tag of an owner.
    #[cfg(feature = "sandbox")]
    pub(crate) fn set_tag(&self, owner: OwnerId, tag: &str) {
        self.context.registry.set_tag(owner, tag);
    }

    /// Forgets an owner all of whose locks are closed.
    #[cfg(feature = "sandbox")]
    pub(crate) fn disown(&self, owner: OwnerId) {
        self.context.registry.disown(owner);
    }
}

/// The shared engine of a process, and that of a child that was forked from it.
#[derive(Default)]
struct Shared {
    engine: Engine,
    of_child: OnceLock<Box<Self>>,
}

impl LockFile {
    /// Opens the lock of the file at `path` in the [shared engine](Engine::shared) of this process,
    /// with default [`Options`]. Does not acquire it.
    ///
    /// ```
    /// use locket::{LockFile, Mode};
    ///
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("app.lock");
    /// let _guard = LockFile::open(path)?.acquire(Mode::Exclusive, None)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Engine::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Engine::shared().open(path)
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
