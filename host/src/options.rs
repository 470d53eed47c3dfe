//! How to open a lock.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::protocol::Protocol;
use crate::types::{OnRelease, Owner};

/// How to open a lock.
#[derive(Clone, Debug)]
pub struct Options {
    pub(crate) protocol: Protocol,
    pub(crate) on_release: OnRelease,
    pub(crate) create: bool,
    pub(crate) skip_identity_check: bool,
    pub(crate) max_hold: Option<Duration>,
    pub(crate) owner: Owner,
    pub(crate) stale_after: Option<Duration>,
    pub(crate) database: Option<PathBuf>,
    pub(crate) late_write: bool,
    pub(crate) fencing: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            protocol: Protocol::default(),
            on_release: OnRelease::Keep,
            create: true,
            skip_identity_check: false,
            max_hold: None,
            owner: Owner::Process,
            stale_after: None,
            database: None,
            late_write: false,
            fencing: false,
        }
    }
}

impl Options {
    /// The options of [`Engine::open`](crate::Engine::open): the native protocol; the file is
    /// created if it is missing, and stays.
    pub fn new() -> Self {
        Self::default()
    }

    /// The protocol, and thus which programs the lock excludes.
    ///
    /// ```
    /// use locket::{Engine, Mode, Options, Protocol};
    ///
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("data");
    /// // As pylockfile's `LinkLockFile` does.
    /// let options = Options::new().protocol(Protocol::Link);
    /// let guard = Engine::new().open_with(&path, &options)?.acquire(Mode::Exclusive, None)?;
    /// assert!(path.with_extension("lock").exists());
    /// guard.release()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// On a network file system [`Protocol::Native`] means [`Protocol::Flock`], since
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
    pub fn skip_identity_check(mut self, skip: bool) -> Self {
        self.skip_identity_check = skip;
        self
    }

    /// Takes the lock away after this time if it has not been released; the holder then sees
    /// [`State::Lost`](crate::State::Lost). Unlimited by default.
    pub fn max_hold(mut self, max_hold: Option<Duration>) -> Self {
        self.max_hold = max_hold;
        self
    }

    /// What owns the lock: by default the process. If each thread is an owner of its own, as with
    /// pylockfile's `threaded`, another thread can release a lock by its [`Guard`](crate::Guard), but
    /// not by [`LockFile::release`](crate::LockFile::release).
    pub fn owner(mut self, owner: Owner) -> Self {
        self.owner = owner;
        self
    }

    /// Also takes over an [existence lock](Protocol::is_existence_lock) whose holder is alive, once
    /// the lock's last change is that long ago. By default, only the lock of a holder that is
    /// proven dead is taken over. Has no effect on kernel locks.
    pub fn stale_after(mut self, age: Option<Duration>) -> Self {
        self.stale_after = age;
        self
    }

    /// Opens an existing file for reading, and for writing only once a lock needs that, as an exclusive
    /// record lock does. Off by default, which saves a second open. For a program file, since it cannot
    /// be executed while it is open for writing, and for files that others watch for writers.
    pub fn late_write(mut self, late: bool) -> Self {
        self.late_write = late;
        self
    }

    /// Gives each grant a [fencing token](crate::Guard::token), kept in the extended attribute
    /// `user.locket.token` of the file. Off by default. Acquiring is
    /// [unsupported](crate::Error::is_unsupported) if the file system has no such attributes or is not
    /// known to be a local one, as it is on Windows; opening is for an [existence lock](Protocol::is_existence_lock) and with
    /// [`OnRelease::Remove`]. A lock on a server has tokens in any case.
    ///
    /// ```
    /// use locket::{Engine, Mode, Options};
    ///
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("app.lock");
    /// let lock = Engine::new().open_with(path, &Options::new().fencing(true))?;
    /// let first = lock.acquire(Mode::Exclusive, None)?.token();
    /// let second = lock.acquire(Mode::Exclusive, None)?.token();
    /// assert!(first.is_some() && first < second);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn fencing(mut self, fencing: bool) -> Self {
        self.fencing = fencing;
        self
    }

    /// Refuses what does not go together.
    pub(crate) fn check(&self, path: &Path) -> Result<()> {
        let gone = self.protocol.is_existence_lock() || self.on_release == OnRelease::Remove;
        if self.fencing && gone {
            let why = "a lock file that is removed cannot keep a fencing token";
            return Err(Error::os(
                io::Error::new(io::ErrorKind::Unsupported, why),
                path,
            ));
        }
        Ok(())
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
    /// the SQLite library than this crate's. A table `locks` that is not pylockfile's, or has
    /// another program's index, is refused with an [I/O error](crate::Error::is_io).
    pub fn database(mut self, path: impl Into<PathBuf>) -> Self {
        self.database = Some(path.into());
        self
    }
}
