//! What a backend does, and what it is asked for.

use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Duration;

use crate::object::{Location, LockObject};
use crate::protocol::Protocol;
use crate::sys::TimedWait;
use crate::types::{ForeignHolder, LostReason, Mode};
use crate::watch::{Changes, WatchedEntry};

/// What an acquire asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Request {
    pub(crate) mode: Mode,
    pub(crate) protocol: Protocol,
    /// The age from which an existence lock may be taken from a live holder.
    pub(crate) stale_after: Option<Duration>,
    /// Whether the grant needs a fencing token. A lock on a server has one in any case.
    pub(crate) fencing: bool,
}

impl Request {
    pub(crate) fn exclusive(self) -> Self {
        Self {
            mode: Mode::Exclusive,
            ..self
        }
    }

    /// Whether a lock that was acquired for this satisfies `other`.
    pub(crate) fn satisfies(self, other: Self) -> bool {
        self.mode == other.mode && self.protocol.covers(other.protocol)
    }

    /// Whether holders of a lock that was acquired for this share it with `other`.
    pub(crate) fn is_shared_with(self, other: Self) -> bool {
        self.mode == Mode::Shared && self.satisfies(other)
    }

    /// Whether the kernel keeps this and `other` from being held at once through two open file
    /// descriptions.
    pub(crate) fn excludes(self, other: Self) -> bool {
        let (one, two) = (self.protocol, other.protocol);
        (self.mode == Mode::Exclusive || other.mode == Mode::Exclusive)
            && (one.covers(two) || two.covers(one))
    }
}

/// The implementation of a protocol.
pub(crate) trait Backend: fmt::Debug + Send + Sync {
    /// Where the lock of the file called `file` is kept. `database` is the one of the caller's
    /// [options](crate::Options::database).
    fn place(&self, file: &OsStr, database: Option<&Path>) -> io::Result<Location> {
        let _ = (file, database);
        Ok(Location::File)
    }

    /// The entries in the directory of an existence lock whose changes may free the lock.
    fn watched(&self, object: &LockObject) -> Vec<WatchedEntry> {
        let name = object.as_marker().map(|marker| marker.name());
        let watched = |name: &OsStr| WatchedEntry {
            name: name.to_owned(),
            changes: Changes::Name,
        };
        name.into_iter().map(watched).collect()
    }

    /// Whether the file must be open for writing for an exclusive lock.
    fn needs_write(&self) -> bool {
        false
    }

    /// Acquires the lock or upgrades a shared one. Returns `false` if another holder is in the way;
    /// a shared lock may then be lost. Takes the lock over from a holder that is proven dead. Fails
    /// with an error that [`is_out_of_reach`] if only a program that does not hold the lock is in
    /// the way.
    fn try_lock(&self, object: &LockObject, request: Request) -> io::Result<bool>;

    /// Blocks until the lock is acquired. Fails with [`io::ErrorKind::Interrupted`] if the thread
    /// is interrupted, when the deadline of `timed_wait` passes, and sometimes spuriously. On
    /// failure nothing is held. For kernel locks only.
    fn wait(&self, object: &LockObject, request: Request, timed_wait: &TimedWait)
    -> io::Result<()>;

    /// Gives the lock back. It is not an error if the lock was not held, or had been taken away.
    /// Fails with an error that [`is_out_of_reach`] if another program is in the way for a moment.
    fn unlock(&self, object: &LockObject) -> io::Result<()>;

    /// Whether the entry of an existence lock is still the one that was created, or the server has
    /// let no other holder in. A kernel lock has none: whether its path still leads to the file is
    /// up to the caller.
    fn is_held(&self, object: &LockObject) -> bool {
        let _ = object;
        true
    }

    /// Why [`is_held`](Self::is_held) says no.
    fn loss(&self, object: &LockObject) -> LostReason {
        let _ = object;
        LostReason::Broken
    }

    /// Lets the server of the lock that is held confirm it, with a new fencing token, since it is
    /// about to be handed on.
    fn renew(&self, object: &LockObject) -> io::Result<()> {
        let _ = object;
        Ok(())
    }

    /// A foreign holder of the lock, if there is one. Called only while nothing is held through
    /// `object`. May take the lock for a moment if there is no other way to know. The default makes
    /// two tries, the first in shared mode so that it does not disturb readers.
    fn holder(&self, object: &LockObject) -> io::Result<Option<ForeignHolder>> {
        let request = |mode| Request {
            mode,
            protocol: Protocol::default(),
            stale_after: None,
            fencing: false,
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

    /// The process of this system whose end makes the lock stale that the last try found held.
    fn holder_pid(&self, _: &LockObject) -> Option<u32> {
        None
    }

    /// The file on which the holder that the last try found keeps a `flock` until it has died, open
    /// for reading; `None` if it does not promise that. The holder has it open for writing.
    fn holder_marker(&self, _: &LockObject) -> Option<File> {
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

/// The error of a try that another program, which does not hold the lock, is in the way of for a
/// moment.
pub(super) fn out_of_reach(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::ResourceBusy, why)
}

/// Whether the lock may be free, and another program in the way of taking it for a moment.
pub(crate) fn is_out_of_reach(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ResourceBusy && error.get_ref().is_some()
}
