//! Several locks at once, all or none.
//!
//! A program that waits for one lock while it holds another can deadlock with one that takes the two
//! in the other order. So two rules govern a call here:
//! - It waits until its deadline only while it holds none of its locks.
//! - While it holds some, it waits only for a lock that comes after all of them, in an order by what
//!   the locks are and not by their paths, which all processes derive alike; and for no longer than
//!   [`attempt::PATIENCE`]. It makes a single try for any other lock.
//!
//! If the second rule ends an attempt, the call gives all back, waits for the lock that was in its way,
//! and then attempts the others again. By the order, no circle of such calls can form; by the limit, none
//! with other programs lasts. The limit also keeps a lock free for its other users while a call
//! waits for a long time for the rest. The waits of the second rule are what makes calls succeed among
//! users that hold locks briefly: with tries alone, two calls could take turns in failing.

mod attempt;

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use self::attempt::{Attempt, Step};
use crate::acquire::Acquire;
use crate::engine::Engine;
use crate::error::Result;
use crate::guard::Guard;
use crate::lock_file::LockFile;
use crate::types::Mode;

impl Engine {
    /// Acquires several locks, each in its mode: all or none. Waits for at most `timeout` in all. `None`
    /// waits indefinitely; zero tries once.
    ///
    /// The order of `locks` does not matter: calls in any number of processes that name the same
    /// locks in different orders do not deadlock, nor with programs that take them one by one. Hold
    /// no other lock during the call; that could.
    ///
    /// The guards are in the order of `locks`. Locks that lead to the same file by different paths are
    /// one lock, with one guard in the place of one of them: in exclusive mode if one asks for
    /// that, and with the options of the one whose [protocol](crate::Options::protocol) covers those of the others.
    ///
    /// While the call waits until its deadline, it holds none of the locks. While it holds some, it
    /// waits for the next for at most 50 ms. If that is not enough, it gives all back and queues for
    /// the one that was in the way. So it is served in turn if others hold each lock, with those who
    /// queue before it, for less than that. Otherwise it may be overtaken any number of times: it succeeds when all
    /// are free at once.
    ///
    /// ```
    /// use locket::{Engine, Mode};
    /// use std::time::Duration;
    ///
    /// # let dir = tempfile::tempdir()?;
    /// # let path = |name| dir.path().join(name);
    /// let engine = Engine::new();
    /// let (from, to) = (engine.open(path("from"))?, engine.open(path("to"))?);
    /// let locks = [(&from, Mode::Shared), (&to, Mode::Exclusive)];
    /// let guards = engine.acquire_all(locks, Duration::from_secs(30))?;
    /// assert!(to.try_acquire(Mode::Shared)?.is_none());
    /// drop(guards);
    ///
    /// let _in_use = to.acquire(Mode::Exclusive, None)?;
    /// let error = engine.acquire_all(locks, Duration::ZERO).unwrap_err();
    /// assert!(error.is_would_block() && error.path() == to.path());
    /// assert!(!from.is_locked()?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`LockFile::acquire`], for the lock that is in the way;
    /// [unsupported](crate::Error::is_unsupported) for a lock of another engine, and for two protocols on one
    /// file of which none covers the other.
    pub fn acquire_all<'a>(
        &self,
        locks: impl IntoIterator<Item = (&'a LockFile, Mode)>,
        timeout: impl Into<Option<Duration>>,
    ) -> Result<Vec<Guard>> {
        let mut attempt = Attempt::new(self, locks, timeout.into());
        let mut answer = None;
        loop {
            match attempt.advance(answer) {
                Step::Acquire(next) => answer = Some(next.block()),
                Step::Done(result) => return result,
            }
        }
    }

    /// Like [`acquire_all`](Self::acquire_all), for tasks, in any runtime; see
    /// [`LockFile::acquire_async`].
    ///
    /// # Errors
    ///
    /// As [`acquire_all`](Self::acquire_all).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives back what it holds, and leaves nothing behind. What it has acquired
    /// stays acquired while it is not polled, as with a guard.
    pub fn acquire_all_async<'a>(
        &self,
        locks: impl IntoIterator<Item = (&'a LockFile, Mode)>,
        timeout: impl Into<Option<Duration>>,
    ) -> AcquireAll {
        AcquireAll {
            attempt: Attempt::new(self, locks, timeout.into()),
            current: None,
            done: false,
        }
    }
}

/// An acquire of several locks in progress: the future of [`Engine::acquire_all_async`].
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct AcquireAll {
    attempt: Attempt,
    current: Option<Acquire>,
    /// Whether it is complete.
    done: bool,
}

impl Future for AcquireAll {
    type Output = Result<Vec<Guard>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self {
            attempt,
            current,
            done,
        } = &mut *self;
        assert!(!*done, "the future is not polled after completion");
        loop {
            let answer = match current {
                None => None,
                Some(acquire) => match Pin::new(acquire).poll(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(result) => Some(result),
                },
            };
            match attempt.advance(answer) {
                Step::Acquire(next) => *current = Some(next.start()),
                Step::Done(result) => {
                    (*current, *done) = (None, true);
                    return Poll::Ready(result);
                }
            }
        }
    }
}
