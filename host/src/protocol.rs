//! How a lock is kept.
//!
//! A protocol is a file of its own below this module and one line in the table of them. It
//! knows neither queues nor owners: by the time it is asked, at most one thread of this engine
//! waits for the lock, and nobody in this process holds it.
//!
//! There are two kinds. Locks that the kernel keeps for an open file are waited for in the
//! kernel, and are free when their holder is dead. Locks that are a name, made by whoever holds
//! them, are waited for by watching the directory, and stay when their holder dies; what those have
//! in common is in [`existence`].

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

/// The table of protocols: the enumeration, their names, and what implements them.
macro_rules! protocols {
    ($($(#[$doc:meta])* $protocol:ident = $name:literal;)*) => {
        /// How a lock is kept, and so who else takes part in it.
        #[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
        #[non_exhaustive]
        pub enum Protocol {
            $($(#[$doc])* $protocol,)*
        }

        impl Protocol {
            /// Every protocol there is.
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
    /// exclude each other, an open-file-description lock alone. On Windows `LockFileEx`.
    #[default]
    Native = "native";
    /// `flock(2)` alone, as `flock(1)`, `cargo` and Python's filelock have it. Permission to read
    /// the file is enough. A program that has classic POSIX locks on the same file itself, such as
    /// those of SQLite, loses them whenever this closes a descriptor of it: the kernel has it so
    /// with any `close`. On Windows what Rust's `File::lock` and fs4 do there: `LockFileEx` on
    /// the whole range.
    Flock = "flock";
    /// A record lock on the whole file, as Java, `dpkg` and Python's fasteners have it; owned by the
    /// open file description, so that no stray `close` drops it. An exclusive lock needs permission
    /// to write the file. On Windows the same as [`Flock`](Self::Flock).
    Fcntl = "fcntl";
    /// A hard link beside the file, named after it with `.lock`, as pylockfile's `LinkLockFile`
    /// makes it. Safe on network file systems.
    Link = "link";
    /// A symbolic link beside the file, named after it with `.lock`, as pylockfile's
    /// `SymlinkLockFile` makes it.
    Symlink = "symlink";
    /// A directory beside the file, named after it with `.lock`, as pylockfile's `MkdirLockFile`
    /// makes it.
    Mkdir = "mkdir";
    /// The file itself, which must not exist while the lock is free, with the holder's process
    /// identifier in it, as pylockfile's `PIDLockFile` makes it. Never for a path at which there may
    /// be a file of another kind: one with nothing in it but the number of a process that is gone is
    /// taken for a lock that was left behind, and removed.
    PidFile = "pid-file";
    /// The file itself, which must not exist while the lock is free, with a record of the holder in
    /// it, as filelock's `SoftFileLock` makes it and judges it.
    Soft = "soft";
    /// A row in the table of pylockfile's `SQLiteLockFile`, in the database that
    /// [`Options::database`](crate::Options::database) names. With the feature `sqlite`.
    Sqlite = "sqlite";
}

impl Protocol {
    /// Whether the lock is a name, made by whoever holds it, and not one of the kernel.
    ///
    /// Such a lock is exclusive only, and not fair between processes. It stays when its holder dies:
    /// one that is proven dead is displaced, and anybody can be by
    /// [`LockFile::break_lock`](crate::LockFile::break_lock).
    pub fn is_existence_lock(self) -> bool {
        !matches!(self, Self::Native | Self::Flock | Self::Fcntl)
    }

    /// Whether a lock in this protocol excludes everybody whom one in `other` excludes.
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

/// There is no protocol of that name here.
#[derive(Debug)]
pub struct UnknownProtocol(());

impl fmt::Display for UnknownProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = Protocol::ALL.iter().map(|p| p.name()).collect();
        write!(f, "unknown protocol; there are: {}", names.join(", "))
    }
}

impl std::error::Error for UnknownProtocol {}

/// Whether a name in a directory belongs to existence locks, whatever has it: it is one that Locket
/// gives to what it makes, or it is within a directory that is a lock itself, where it would say
/// whose lock that is.
#[cfg(all(unix, feature = "sandbox"))]
pub(crate) fn is_reserved(dir: &std::fs::File, name: &OsStr) -> bool {
    use std::os::unix::ffi::OsStrExt as _;
    let is_ours = |name: &OsStr| owner_record::OwnerRecord::of_own_name(name).is_some();
    let dir = crate::sys::path_of(dir).unwrap_or_default();
    let dir = dir.file_name().unwrap_or_default();
    is_ours(name) || is_ours(dir) || dir.as_bytes().ends_with(b".lock")
}

/// Whether the system knows but one sort of lock, or makes all sorts exclude each other.
pub(crate) const ALL_ONE: bool = !cfg!(target_os = "linux");

/// What is asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Request {
    pub(crate) mode: Mode,
    pub(crate) protocol: Protocol,
    /// From which age on a lock that is a name may be taken from its holder.
    pub(crate) stale_after: Option<Duration>,
}

impl Request {
    pub(crate) fn exclusive(self) -> Self {
        Self {
            mode: Mode::Exclusive,
            ..self
        }
    }

    /// Whether it takes a descriptor that is open for writing.
    pub(crate) fn needs_write(self) -> bool {
        self.mode == Mode::Exclusive && self.protocol.backend().needs_write()
    }

    /// Whether the kernel itself sees to it that this and `other` are not held at once through
    /// two open file descriptions.
    pub(crate) fn excludes(self, other: Self) -> bool {
        let (one, two) = (self.protocol, other.protocol);
        (self.mode == Mode::Exclusive || other.mode == Mode::Exclusive)
            && (one.covers(two) || two.covers(one))
    }
}

/// Somebody else who holds a lock, as far as the system tells.
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

/// A way to keep a lock.
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

    /// Takes the lock, or makes a shared one exclusive; answers `false` where somebody else is in
    /// the way, and then one that was shared may be lost. Displaces a holder that is proven dead.
    fn try_lock(&self, object: &LockObject, request: Request) -> io::Result<bool>;

    /// Blocks until the lock is had. Fails with [`io::ErrorKind::Interrupted`] when the thread is
    /// called back, when the deadline of `timed_wait` passes, and now and then for no reason. On
    /// failure nothing is held. For locks of the kernel only.
    fn wait(&self, object: &LockObject, request: Request, timed_wait: &TimedWait)
    -> io::Result<()>;

    /// Gives the lock back; no error if it was not held, or had been taken away.
    fn unlock(&self, object: &LockObject) -> io::Result<()>;

    /// Whether what was locked is still what everybody else sees.
    fn is_held(&self, object: &LockObject) -> bool {
        crate::sys::has_name(&object.file)
    }

    /// Somebody else who holds the lock, if anybody does. Asked only while nothing is held through
    /// `object`; may take the lock for a moment where there is no other way to know. By default by
    /// two tries, the first in shared mode so that readers are not disturbed by it.
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

    /// The process of this system whose end would leave the lock behind.
    fn holder_pid(&self, _: &LockObject) -> Option<u32> {
        None
    }

    /// Takes the lock away from whoever holds it, and leaves it free. Answers `false` where nobody
    /// did; if it must be `require_owner`, also where what is there does not name its holder. The
    /// kernel's locks cannot be taken away.
    fn break_lock(&self, _: &LockObject, require_owner: bool) -> io::Result<bool> {
        let _ = require_owner;
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// What becomes of an acquire in shared mode of a lock that is a name.
#[cfg(unix)]
fn no_sharing() -> io::Error {
    io::Error::new(
        io::ErrorKind::Unsupported,
        "this protocol has no shared mode",
    )
}

/// What this build or this system does not have.
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
