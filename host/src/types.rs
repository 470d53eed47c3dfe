//! The words that the interface and the engine share.

use std::fmt;
use std::time::{Duration, SystemTime};

/// What a hold excludes.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Mode {
    /// One holder: excludes every other hold.
    Exclusive,
    /// Any number of holders: excludes exclusive holds only.
    Shared,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Exclusive => "exclusive",
            Self::Shared => "shared",
        })
    }
}

/// What becomes of the lock file when the lock is released.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum OnRelease {
    /// It stays. Safe with every peer.
    #[default]
    Keep,
    /// It is removed while the lock is still held, unless somebody in this engine waits for it.
    ///
    /// Waiters of Locket move on to the file that takes its place. Foreign programs that do not
    /// check for that end up with a lock on a file that nobody else sees, and must not be mixed
    /// with it: `flock(1)`, Rust's `File::lock`, fs4, fd-lock, Java, and of Python's libraries
    /// locket.py, portalocker's `Lock`, fasteners and oslo.concurrency. Python's filelock does check.
    /// Has no effect on an [existence lock](crate::Protocol::is_existence_lock). A symbolic link is
    /// not removed, nor is what it leads to. On Windows the file system must be able to remove the
    /// name of an open file at once, as NTFS is.
    Remove,
}

/// Why a lock that was held is held no more.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum LostReason {
    /// The time for which it was granted ran out.
    Expired,
    /// It was taken away by the host, or the lock file was removed.
    Broken,
}

impl fmt::Display for LostReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Expired => "its time ran out",
            Self::Broken => "it was taken away, or its file removed",
        })
    }
}

/// What the owner of a lock knows of its own hold.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum State {
    /// Does not hold it.
    Unlocked,
    /// Holds it.
    Held,
    /// Held it, has not released it, and holds it no more.
    Lost(LostReason),
}

/// Somebody who holds a lock.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Holder {
    /// The name that the embedder gave to the guest that holds it.
    pub label: Option<String>,
    /// The mode of the hold.
    pub mode: Mode,
    /// Whether the holder is the one who asks.
    pub is_self: bool,
    /// The number of its process, where the system or the lock tells, on its host. Guests are not
    /// told.
    pub pid: Option<u32>,
    /// The name of its host, where the lock tells.
    pub host: Option<String>,
    /// Since when the lock is held, where the lock tells.
    pub since: Option<SystemTime>,
}

/// Whom a lock excludes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Scope {
    /// Everybody on this host.
    Host,
    /// Everybody who mounts the same network file system, as far as its server keeps locks.
    ClusterFileSystem,
}

/// What a lock is worth.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Guarantee {
    /// Whom it excludes.
    pub scope: Scope,
    /// After which time a hold is taken away if it was not released.
    pub ttl: Option<Duration>,
    /// Whether grants follow the order of arrival.
    pub fifo: bool,
}
