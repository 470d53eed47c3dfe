//! How a lock is kept in the operating system.
//!
//! A protocol is a file of its own below this module and one line in [`Protocol::kernel`]. It
//! knows neither queues nor owners: by the time it is asked, at most one thread of this engine
//! waits for the file, and nobody in this process holds it.

#[cfg(unix)]
mod flock;
#[cfg(target_os = "linux")]
mod native;
mod record;

use std::fmt;
use std::fs::File;
use std::io;
use std::str::FromStr;

use crate::Mode;
use crate::sys::Sleeper;

#[cfg(unix)]
use flock::Flock;
#[cfg(target_os = "linux")]
use native::Native;
#[cfg(windows)]
use record::Record as Flock;
#[cfg(not(target_os = "linux"))]
use record::Record as Native;

/// How a lock is kept, and so who else takes part in it.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Protocol {
    /// `flock` and an open-file-description lock on one descriptor: excludes the users of either
    /// family. An exclusive lock needs permission to write the file. On macOS, where the families
    /// exclude each other, an open-file-description lock alone. On Windows `LockFileEx`.
    #[default]
    Native,
    /// `flock(2)` alone, as `flock(1)`, `cargo` and Python's filelock have it. Permission to read
    /// the file is enough. A program that has classic POSIX locks on the same file itself, such as
    /// those of SQLite, loses them whenever this closes a descriptor of it: the kernel has it so
    /// with any `close`. On Windows what Rust's `File::lock` and fs4 do there: `LockFileEx` on
    /// the whole range.
    Flock,
}

impl Protocol {
    /// Every protocol there is.
    pub const ALL: [Self; 2] = [Self::Native, Self::Flock];

    /// The name, as the interface and the command line spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Flock => "flock",
        }
    }

    pub(crate) fn kernel(self) -> &'static dyn KernelLock {
        match self {
            Self::Native => &Native,
            Self::Flock => &Flock,
        }
    }

    /// Whether a lock in this protocol excludes everybody whom one in `other` excludes.
    pub(crate) fn covers(self, other: Self) -> bool {
        self == other || self == Self::Native || ALL_ONE
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
        Self::ALL
            .into_iter()
            .find(|protocol| protocol.name() == name)
            .ok_or(UnknownProtocol(()))
    }
}

/// There is no protocol of that name here.
#[derive(Debug)]
pub struct UnknownProtocol(());

impl fmt::Display for UnknownProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = Protocol::ALL.map(Protocol::name);
        write!(f, "unknown protocol; there are: {}", names.join(", "))
    }
}

impl std::error::Error for UnknownProtocol {}

/// Whether the system knows but one sort of lock, or makes all sorts exclude each other.
const ALL_ONE: bool = !cfg!(target_os = "linux");

/// What is asked of the kernel.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Want {
    pub(crate) mode: Mode,
    pub(crate) protocol: Protocol,
}

impl Want {
    /// Whether the kernel itself sees to it that this and `other` are not held at once through
    /// two open file descriptions.
    pub(crate) fn excludes(self, other: Self) -> bool {
        let (one, two) = (self.protocol, other.protocol);
        (self.mode == Mode::Exclusive || other.mode == Mode::Exclusive)
            && (one.covers(two) || two.covers(one))
    }
}

/// A lock that the kernel keeps for an open file description.
pub(crate) trait KernelLock: fmt::Debug + Send + Sync {
    /// Takes the lock, or makes a shared one exclusive; answers `false` where somebody else is in
    /// the way, and then one that was shared may be lost.
    fn try_lock(&self, file: &File, mode: Mode) -> io::Result<bool>;

    /// Blocks until the lock is had. Fails with [`io::ErrorKind::Interrupted`] when the thread is
    /// called back, when the deadline of `sleeper` passes, and now and then for no reason. On
    /// failure nothing is held.
    fn wait(&self, file: &File, mode: Mode, sleeper: &Sleeper) -> io::Result<()>;

    /// Gives the lock back; no error if it was not held.
    fn unlock(&self, file: &File) -> io::Result<()>;

    /// In which mode somebody else holds the lock, if anybody does. Asked only while `file`
    /// itself holds nothing; may take the lock for a moment where there is no other way to know.
    /// By default by two tries, the first in shared mode so that readers are not disturbed by it.
    fn holder(&self, file: &File) -> io::Result<Option<Mode>> {
        if !self.try_lock(file, Mode::Shared)? {
            return Ok(Some(Mode::Exclusive));
        }
        let alone = self.try_lock(file, Mode::Exclusive);
        self.unlock(file)?;
        Ok(if alone? { None } else { Some(Mode::Shared) })
    }
}
