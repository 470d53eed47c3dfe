//! The protocols: how a lock can be kept, and thus which programs it excludes.
//!
//! To add one, add a line here, a line to the table in [`backend`](crate::backend), and a file
//! below that module.

use std::fmt;
use std::str::FromStr;

/// The enum of the protocols, and their names.
macro_rules! protocols {
    ($($(#[$doc:meta])* $protocol:ident = $name:literal;)*) => {
        /// How a lock is kept, and thus which programs it excludes.
        #[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
        #[non_exhaustive]
        pub enum Protocol {
            $($(#[$doc])* $protocol,)*
            /// That of a lock server: a `Remote`, which the features `etcd` and `postgres` have. It
            /// belongs to a lock that was opened on one, and cannot be chosen for a file.
            Remote,
        }

        impl Protocol {
            /// All protocols of files.
            pub const ALL: &[Self] = &[$(Self::$protocol),*];

            /// The name, as the interface and the command line spell it.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$protocol => $name,)*
                    Self::Remote => "remote",
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
    /// creates it. Safe on network file systems. On Windows it needs NTFS.
    Link = "link";
    /// A symbolic link beside the file, named after it with `.lock`, as pylockfile's
    /// `SymlinkLockFile` creates it. On Windows it is [unsupported](crate::Error::is_unsupported)
    /// unless the process may create symbolic links.
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
        !matches!(
            self,
            Self::Native | Self::Flock | Self::Fcntl | Self::Remote
        )
    }

    fn is_kernel_lock(self) -> bool {
        matches!(self, Self::Native | Self::Flock | Self::Fcntl)
    }

    /// Whether a lock in this protocol excludes all programs that a lock in `other` excludes.
    pub(crate) fn covers(self, other: Self) -> bool {
        let kernel = self.is_kernel_lock() && other.is_kernel_lock();
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

/// Whether the system has only one kind of lock, or all kinds exclude each other.
pub(crate) const ALL_ONE: bool = !cfg!(target_os = "linux");
