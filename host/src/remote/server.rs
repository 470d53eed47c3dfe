//! What a lock server does for the engine.
//!
//! The engine calls from threads that may block, and never under a mutex. A call that asks the
//! server retries what is safe to retry, and ends within [`Settings::request_timeout`] unless it
//! says otherwise. It fails with the [`io::ErrorKind`] that [`Error`](crate::Error) sorts by:
//! `PermissionDenied` (wrong password, no permission), `InvalidInput` (a name that the server cannot
//! have), `Unsupported` (the server, or what is between, cannot keep locks), `Deadlock`,
//! [`unavailable`] for a server that cannot be reached. The message names the cause, and no secret.

use std::fmt;
use std::io;
use std::sync::{Arc, OnceLock};
use std::task::Waker;
use std::time::Duration;

use super::Stop;
use crate::deadline::Deadline;
use crate::types::{ForeignHolder, Guarantee, LostReason, Mode};

/// A server that keeps locks.
pub(crate) trait Server: fmt::Debug + Send + Sync {
    /// What its locks are worth.
    fn guarantee(&self) -> Guarantee;

    /// Refuses a name that the server cannot have. Asks no server.
    fn check_name(&self, name: &str) -> io::Result<()>;

    /// A new seat at the lock called `name`. Asks no server. `changed` is told whenever what
    /// [`Seat::standing`] says may have changed without a call of the engine: from held to uncertain
    /// and back, or to lost.
    fn seat(&self, name: &str, changed: &Arc<Changed>) -> Arc<dyn Seat>;

    /// A holder of the lock, if there is one.
    fn holder(&self, name: &str) -> io::Result<Option<ForeignHolder>>;

    /// Takes the lock away from its holder; all of them, if they share it. Returns `false` if it was
    /// free.
    fn break_lock(&self, name: &str) -> io::Result<bool>;

    /// What the user should know of the server, as far as it is known by now. Asks no server.
    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }
}

/// One claim on a lock: through a seat at most one lock is held, or awaited, at a time. It excludes
/// other seats of this process like those of another one. Dropping a seat gives up what it has,
/// without waiting for the server.
pub(crate) trait Seat: fmt::Debug + Send + Sync {
    /// Acquires the lock if no other holder or waiter is in the way.
    fn try_lock(&self, mode: Mode) -> io::Result<bool>;

    /// Waits in the server's queue until the lock is acquired. Fails with
    /// [`io::ErrorKind::TimedOut`] at the deadline and with [`io::ErrorKind::Interrupted`] if it is
    /// stopped, both within milliseconds, whatever the server does; with [`Deadline::Now`] it may be a try. Fails as [`unavailable`] if the
    /// server cannot be reached at first; later it waits for the server until the deadline. On
    /// failure nothing is held, and what may be left on the server is removed in the background.
    fn wait(&self, mode: Mode, deadline: Deadline, stop: &Stop) -> io::Result<()>;

    /// Gives the lock back, and waits until the server has confirmed that. Fails as [`lost`](crate::error::lost) if the
    /// server says that it was not held any more, and does nothing if that was known. If it fails
    /// otherwise, the lock is given up in the background, at the latest when the
    /// time for which the server granted it is over.
    fn unlock(&self) -> io::Result<()>;

    /// Takes a new fencing token for the lock that is held, because this engine hands it on to
    /// another owner. Fails if the lock is lost, or the server cannot confirm that it is not.
    fn renew(&self) -> io::Result<()>;

    /// What is known here of the lock. Asks no server, and never blocks for long.
    fn standing(&self) -> Standing;

    /// The fencing token of the lock that is held, for certain or not. Asks no server.
    fn token(&self) -> Option<u64>;
}

/// What is known of a claim.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Standing {
    /// Nothing is held.
    Free,
    /// It is held.
    Held(Grant),
    /// It may be held, but the server has not confirmed that for too long. The time that is left
    /// until it counts as lost.
    Uncertain(Duration),
    /// It was lost without a release. From here on the server may have let another holder in. Known
    /// before that can happen, by the clock that also runs while the system is suspended.
    Lost(LostReason),
}

/// A lock that is held.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Grant {
    /// The fencing token; larger than that of every earlier exclusive grant of the lock.
    pub(crate) token: Option<u64>,
    /// How long it is held for certain, unless it is renewed. `None`: until it is released.
    pub(crate) valid_for: Option<Duration>,
}

/// Tells the engine that the standing of a claim changed.
#[derive(Debug, Default)]
pub(crate) struct Changed(OnceLock<Waker>);

impl Changed {
    /// Says what to wake; the first call counts.
    pub(crate) fn listen(&self, waker: Waker) {
        let _ = self.0.set(waker);
    }

    /// Tells. May be called on any thread, without a mutex that a call of the seat takes.
    pub(crate) fn tell(&self) {
        if let Some(waker) = self.0.get() {
            waker.wake_by_ref();
        }
    }
}

/// The error of a server that cannot be reached.
pub(crate) fn unavailable(why: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, why.into())
}
