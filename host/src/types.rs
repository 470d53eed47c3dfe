//! The types that the interface and the engine share.

use std::fmt;
use std::ops::AddAssign;
use std::time::{Duration, SystemTime};

/// What a hold excludes.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize),
    serde(rename_all = "kebab-case")
)]
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

/// What happens to the lock file when the lock is released.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum OnRelease {
    /// It stays. Safe with every peer.
    #[default]
    Keep,
    /// It is removed while the lock is still held, unless a waiter of this engine is queued.
    ///
    /// Waiters of Locket move on to the file that takes its place. Foreign programs that do not
    /// check for a new file end up with a lock on a file that no other program sees, so do not
    /// combine them with removal: `flock(1)`, Rust's `File::lock`, fs4, fd-lock, Java, and Python's
    /// locket.py, portalocker's `Lock`, fasteners and oslo.concurrency. Python's filelock does
    /// check. Has no effect on an [existence lock](crate::Protocol::is_existence_lock). Neither a
    /// symbolic link nor its target is removed. On Windows the file system must be able to remove
    /// the name of an open file at once, as NTFS can.
    Remove,
}

/// What owns the locks that are acquired through a handle.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Owner {
    /// This process: any of its threads may release.
    #[default]
    Process,
    /// The thread that acquires.
    Thread,
}

/// Why a held lock was lost.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum LostReason {
    /// The time limit of the hold ran out.
    Expired,
    /// It was broken or revoked, or the lock file was removed, moved or replaced.
    Broken,
    /// The server that keeps it cannot be reached any more.
    Disconnected,
}

impl fmt::Display for LostReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Expired => "its time ran out",
            Self::Broken => "it was taken away, or its file removed",
            Self::Disconnected => "the server that keeps it cannot be reached",
        })
    }
}

/// The state of an owner's own hold.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum State {
    /// The owner does not hold the lock.
    Unlocked,
    /// The owner holds the lock.
    Held,
    /// The owner may hold the lock, but the server that keeps it has not confirmed that for too long.
    /// The time that is left until it counts as lost. A careful holder stops working now.
    Uncertain(Duration),
    /// The owner lost its hold without releasing it.
    Lost(LostReason),
}

/// A holder of a lock.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Holder {
    /// The name that the embedder gave to the guest that holds it.
    pub label: Option<String>,
    /// The mode of the hold.
    pub mode: Mode,
    /// Whether the holder is the caller itself.
    pub is_self: bool,
    /// The number of its process, if the system or the lock tells: here, or on another `host`. None
    /// if it runs in another container of this host. Not shown to guests.
    pub pid: Option<u32>,
    /// The name of its host, if the lock tells.
    pub host: Option<String>,
    /// Whether it runs elsewhere: in another container or on another host, so that its number says
    /// nothing here.
    pub elsewhere: bool,
    /// Since when the lock is held, if the lock tells.
    pub since: Option<SystemTime>,
}

/// A foreign holder of a lock, as far as the system tells.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct ForeignHolder {
    pub(crate) mode: Mode,
    /// What it wants to be called. Locks on a server alone tell.
    pub(crate) label: Option<String>,
    pub(crate) pid: Option<u32>,
    pub(crate) host: Option<String>,
    /// Whether its process runs in another container or on another host.
    pub(crate) elsewhere: bool,
    pub(crate) since: Option<SystemTime>,
}

impl ForeignHolder {
    pub(crate) fn new(mode: Mode) -> Self {
        Self {
            mode,
            label: None,
            pid: None,
            host: None,
            elsewhere: false,
            since: None,
        }
    }
}

/// How far a lock reaches.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Scope {
    /// It excludes all programs on this host.
    Host,
    /// It excludes all programs on hosts that mount the same network file system, as far as its
    /// server keeps locks.
    ClusterFileSystem,
    /// It excludes all clients of one lock server.
    Cluster,
}

/// The guarantees that a lock provides.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Guarantee {
    /// Which programs it excludes.
    pub scope: Scope,
    /// The time after which an unreleased hold is taken away.
    pub ttl: Option<Duration>,
    /// Whether grants follow the order of arrival: within an engine always, and between processes in
    /// the order of the kernel's queue. There, a program that asks at the moment of a release can
    /// get ahead of a waiter that is still waking up.
    pub fifo: bool,
    /// Whether each grant carries a fencing token: see [`Guard::token`](crate::Guard::token).
    pub fencing: bool,
}

/// What an engine has done since it was built.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Totals {
    /// Acquires that were granted.
    pub granted: u64,
    /// Of these, the ones that had to wait.
    pub granted_after_wait: u64,
    /// How long those waited, all together.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::serialize::seconds"))]
    pub waited: Duration,
    /// Waits that ended without the lock: timed out, canceled, abandoned, or with an error.
    pub given_up: u64,
    /// Holds that were lost before they were released.
    pub lost: u64,
}

impl AddAssign for Totals {
    fn add_assign(&mut self, other: Self) {
        self.granted += other.granted;
        self.granted_after_wait += other.granted_after_wait;
        self.waited += other.waited;
        self.given_up += other.given_up;
        self.lost += other.lost;
    }
}
