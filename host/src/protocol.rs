//! How a lock is kept.
//!
//! Each protocol has a file of its own below this module and one line in the table. It knows
//! neither queues nor owners: when the queue calls it, at most one thread of this engine waits for
//! the lock, and no owner in it holds the lock.
//!
//! There are two kinds. Kernel locks belong to an open file: waiters wait in the kernel, and the
//! lock is free once its holder is dead. An existence lock is a directory entry or a row that its
//! holder creates: waiters watch the directory, and the lock remains when its holder dies.
//! [`existence`] has what those in directories have in common.

#[cfg(unix)]
mod dir_lock;
#[cfg(unix)]
mod dirent;
#[cfg(unix)]
mod existence;
mod fcntl;
#[cfg(unix)]
mod flock;
#[cfg(unix)]
mod link;
#[cfg(unix)]
mod mkdir;
#[cfg(target_os = "linux")]
mod native;
#[cfg(unix)]
mod owner_record;
#[cfg(unix)]
mod pid_file;
#[cfg(unix)]
mod soft;
#[cfg(all(unix, feature = "sqlite"))]
mod sqlite;
#[cfg(unix)]
mod symlink;

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use crate::Mode;
use crate::object::{Location, LockObject};
use crate::sys::TimedWait;

#[cfg(not(all(unix, feature = "sqlite")))]
use Missing as Sqlite;
#[cfg(windows)]
use Missing as Link;
#[cfg(windows)]
use Missing as Symlink;
#[cfg(windows)]
use Missing as Mkdir;
#[cfg(windows)]
use Missing as PidFile;
#[cfg(windows)]
use Missing as Soft;
use fcntl::Fcntl;
#[cfg(windows)]
use fcntl::Fcntl as Flock;
#[cfg(not(target_os = "linux"))]
use fcntl::Fcntl as Native;
#[cfg(unix)]
use flock::Flock;
#[cfg(unix)]
use link::Link;
#[cfg(unix)]
use mkdir::Mkdir;
#[cfg(target_os = "linux")]
use native::Native;
#[cfg(unix)]
use pid_file::PidFile;
#[cfg(unix)]
use soft::Soft;
#[cfg(all(unix, feature = "sqlite"))]
use sqlite::Sqlite;
#[cfg(all(unix, feature = "sqlite"))]
pub(crate) use sqlite::{locate as locate_database, open as open_row};
#[cfg(unix)]
use symlink::Symlink;

/// The table of protocols: the enum, their names and their backends.
macro_rules! protocols {
    ($($(#[$doc:meta])* $protocol:ident = $name:literal;)*) => {
        /// How a lock is kept, and thus which programs it excludes.
        #[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
        #[non_exhaustive]
        pub enum Protocol {
            $($(#[$doc])* $protocol,)*
        }

        impl Protocol {
            /// All protocols.
            pub const ALL: &[Self] = &[$(Self::$protocol),*];

            /// The name, as the interface and the command line spell it.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$protocol => $name,)*
                }
            }

            pub(crate) fn backend(self) -> &'static dyn Backend {
                match self {
                    $(Self::$protocol => &$protocol,)*
                }
            }
        }
    };
}

protocols! {
    /// `flock` and an open-file-description lock on one descriptor: excludes the users of either
    /// family. An exclusive lock needs permission to write the file. On macOS, where the families
    /// exclude each other, it is an open-file-description lock alone; on Windows, `LockFileEx`.
    #[default]
    Native = "native";
    /// `flock(2)` alone, as used by `flock(1)`, `cargo` and Python's filelock. Permission to read
    /// the file is enough. A program that has classic POSIX locks of its own on the same file, such
    /// as those of SQLite, loses them whenever this protocol closes a descriptor of the file, as
    /// with any `close`. On Windows it is what Rust's `File::lock` and fs4 use there: `LockFileEx`
    /// on the whole range.
    Flock = "flock";
    /// A record lock on the whole file, as used by Java, `dpkg` and Python's fasteners. The open
    /// file description owns it, so that no stray `close` drops it. An exclusive lock needs
    /// permission to write the file. On Windows it is the same as [`Flock`](Self::Flock).
    Fcntl = "fcntl";
    /// A hard link beside the file, named after it with `.lock`, as pylockfile's `LinkLockFile`
    /// creates it. Safe on network file systems.
    Link = "link";
    /// A symbolic link beside the file, named after it with `.lock`, as pylockfile's
    /// `SymlinkLockFile` creates it.
    Symlink = "symlink";
    /// A directory beside the file, named after it with `.lock`, as pylockfile's `MkdirLockFile`
    /// creates it.
    Mkdir = "mkdir";
    /// The file itself, which must not exist while the lock is free, with the holder's process
    /// number in it, as pylockfile's `PIDLockFile` creates it. Never use it for a path that may
    /// have a file of another kind: a file that contains only the number of a dead process counts
    /// as a stale lock, and is removed.
    PidFile = "pid-file";
    /// The file itself, which must not exist while the lock is free, with a record of the holder in
    /// it, as filelock's `SoftFileLock` creates and judges it.
    Soft = "soft";
    /// A row in the table of pylockfile's `SQLiteLockFile`, in the database that
    /// [`Options::database`](crate::Options::database) names. Needs the feature `sqlite`.
    Sqlite = "sqlite";
}

impl Protocol {
    /// Whether this is an existence lock, held for as long as an entry or a row exists, and not a
    /// kernel lock.
    ///
    /// An existence lock is exclusive only, and not fair between processes. It remains when its
    /// holder dies. It is taken over from a holder that is proven dead;
    /// [`LockFile::break_lock`](crate::LockFile::break_lock) takes it from any holder.
    pub fn is_existence_lock(self) -> bool {
        !matches!(self, Self::Native | Self::Flock | Self::Fcntl)
    }

    /// Whether a lock in this protocol excludes all programs that a lock in `other` excludes.
    pub(crate) fn covers(self, other: Self) -> bool {
        let kernel = !self.is_existence_lock() && !other.is_existence_lock();
        self == other || kernel && (self == Self::Native || ALL_ONE)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Protocol {
    type Err = UnknownProtocol;

    fn from_str(name: &str) -> Result<Self, UnknownProtocol> {
        let mut all = Self::ALL.iter().copied();
        all.find(|protocol| protocol.name() == name)
            .ok_or(UnknownProtocol(()))
    }
}

/// No protocol has that name.
#[derive(Debug)]
pub struct UnknownProtocol(());

impl fmt::Display for UnknownProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = Protocol::ALL.iter().map(|p| p.name()).collect();
        write!(f, "unknown protocol; known are: {}", names.join(", "))
    }
}

impl std::error::Error for UnknownProtocol {}

/// Whether a name in a directory is reserved for existence locks: because Locket uses such names
/// for its markers, or because the directory itself is a lock, and the name would tell its owner.
#[cfg(all(unix, feature = "sandbox"))]
pub(crate) fn is_reserved(dir: &std::fs::File, name: &OsStr) -> bool {
    use std::os::unix::ffi::OsStrExt as _;
    let is_ours = |name: &OsStr| owner_record::OwnerRecord::of_own_name(name).is_some();
    let dir = crate::sys::path_of(dir).unwrap_or_default();
    let dir = dir.file_name().unwrap_or_default();
    is_ours(name) || is_ours(dir) || dir.as_bytes().ends_with(b".lock")
}

/// Whether the system has only one kind of lock, or all kinds exclude each other.
pub(crate) const ALL_ONE: bool = !cfg!(target_os = "linux");

/// What an acquire asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Request {
    pub(crate) mode: Mode,
    pub(crate) protocol: Protocol,
    /// The age from which an existence lock may be taken from a live holder.
    pub(crate) stale_after: Option<Duration>,
}

impl Request {
    pub(crate) fn exclusive(self) -> Self {
        Self {
            mode: Mode::Exclusive,
            ..self
        }
    }

    /// Whether it needs a descriptor that is open for writing.
    pub(crate) fn needs_write(self) -> bool {
        self.mode == Mode::Exclusive && self.protocol.backend().needs_write()
    }

    /// Whether the kernel keeps this and `other` from being held at once through two open file
    /// descriptions.
    pub(crate) fn excludes(self, other: Self) -> bool {
        let (one, two) = (self.protocol, other.protocol);
        (self.mode == Mode::Exclusive || other.mode == Mode::Exclusive)
            && (one.covers(two) || two.covers(one))
    }
}

/// A foreign holder of a lock, as far as the system tells.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct ForeignHolder {
    pub(crate) mode: Mode,
    pub(crate) pid: Option<u32>,
    pub(crate) host: Option<String>,
    pub(crate) since: Option<SystemTime>,
}

impl ForeignHolder {
    pub(crate) fn new(mode: Mode) -> Self {
        Self {
            mode,
            pid: None,
            host: None,
            since: None,
        }
    }
}

/// The implementation of a protocol.
pub(crate) trait Backend: fmt::Debug + Send + Sync {
    /// Where the lock of the file called `file` is kept.
    fn place(&self, file: &OsStr) -> io::Result<Location> {
        let _ = file;
        Ok(Location::File)
    }

    /// Whether the file must be open for writing for an exclusive lock.
    fn needs_write(&self) -> bool {
        false
    }

    /// Acquires the lock or upgrades a shared one. Returns `false` if another holder is in the way;
    /// a shared lock may then be lost. Takes the lock over from a holder that is proven dead.
    fn try_lock(&self, object: &LockObject, request: Request) -> io::Result<bool>;

    /// Blocks until the lock is acquired. Fails with [`io::ErrorKind::Interrupted`] if the thread
    /// is interrupted, when the deadline of `timed_wait` passes, and sometimes spuriously. On
    /// failure nothing is held. For kernel locks only.
    fn wait(&self, object: &LockObject, request: Request, timed_wait: &TimedWait)
    -> io::Result<()>;

    /// Gives the lock back. It is not an error if the lock was not held, or had been taken away.
    fn unlock(&self, object: &LockObject) -> io::Result<()>;

    /// Whether the locked object is still the one that other processes see.
    fn is_held(&self, object: &LockObject) -> bool {
        crate::sys::has_name(&object.file)
    }

    /// A foreign holder of the lock, if there is one. Called only while nothing is held through
    /// `object`. May take the lock for a moment if there is no other way to know. The default makes
    /// two tries, the first in shared mode so that it does not disturb readers.
    fn holder(&self, object: &LockObject) -> io::Result<Option<ForeignHolder>> {
        let request = |mode| Request {
            mode,
            protocol: Protocol::default(),
            stale_after: None,
        };
        if !self.try_lock(object, request(Mode::Shared))? {
            return Ok(Some(ForeignHolder::new(Mode::Exclusive)));
        }
        let alone = self.try_lock(object, request(Mode::Exclusive));
        self.unlock(object)?;
        Ok(if alone? {
            None
        } else {
            Some(ForeignHolder::new(Mode::Shared))
        })
    }

    /// The process of this system whose end makes the lock stale.
    fn holder_pid(&self, _: &LockObject) -> Option<u32> {
        None
    }

    /// Takes the lock away from its holder, and leaves it free. Returns `false` if it was free;
    /// with `require_owner`, also if it does not name its holder. Kernel locks cannot be taken
    /// away.
    fn break_lock(&self, _: &LockObject, require_owner: bool) -> io::Result<bool> {
        let _ = require_owner;
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// The error of a shared acquire of an existence lock.
#[cfg(unix)]
fn no_sharing() -> io::Error {
    io::Error::new(
        io::ErrorKind::Unsupported,
        "this protocol has no shared mode",
    )
}

/// A protocol that this build or this system lacks.
#[derive(Debug)]
#[allow(dead_code, reason = "some builds have them all")]
struct Missing;

impl Backend for Missing {
    fn place(&self, _: &OsStr) -> io::Result<Location> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn try_lock(&self, _: &LockObject, _: Request) -> io::Result<bool> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn wait(&self, _: &LockObject, _: Request, _: &TimedWait) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn unlock(&self, _: &LockObject) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
