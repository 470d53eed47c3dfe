//! What threads share and wait with: the standard library. Under `--cfg loom` it is the model
//! checker that runs a test through every interleaving, and under `--cfg shuttle` the one that
//! picks interleavings at random.

use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, PoisonError};
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

#[cfg(not(any(loom, shuttle)))]
pub(crate) use std::sync::{Condvar, Mutex, MutexGuard};
#[cfg(not(any(loom, shuttle)))]
pub(crate) use std::thread;

#[cfg(loom)]
pub(crate) use loom::sync::{Condvar, Mutex, MutexGuard};
#[cfg(loom)]
pub(crate) use loom::thread;

#[cfg(shuttle)]
pub(crate) use shuttle::sync::{Condvar, Mutex, MutexGuard};
#[cfg(shuttle)]
pub(crate) use shuttle::thread;

/// The waiters that a change affects, to be woken once no mutex is held.
#[derive(Debug, Default)]
#[must_use = "the waiters sleep until they are woken"]
pub(crate) struct WakeList(pub(crate) Vec<Waker>);

impl WakeList {
    pub(crate) fn wake(self) {
        for waker in self.0 {
            // A waker that panics must neither keep the rest from being woken nor end a thread of
            // the engine.
            let _ = panic::catch_unwind(AssertUnwindSafe(|| waker.wake()));
        }
    }
}

/// Lets a thread sleep until it is woken. Not [`std::thread::park`], which would use up wake-ups
/// that the calling program may rely on.
#[derive(Debug, Default)]
pub(crate) struct Parker {
    woken: Mutex<bool>,
    changed: Condvar,
}

impl Parker {
    /// Sleeps until `until`, or until it is woken. Returns at once if it was woken since the last
    /// call. Returns whether it was woken.
    pub(crate) fn sleep(&self, until: Option<Instant>) -> bool {
        let mut woken = lock(&self.woken);
        while !*woken {
            let left = until.map(|at| at.saturating_duration_since(Instant::now()));
            woken = match left {
                Some(Duration::ZERO) => return false,
                Some(left) => {
                    let waited = self.changed.wait_timeout(woken, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => {
                    let waited = self.changed.wait(woken);
                    waited.unwrap_or_else(PoisonError::into_inner)
                }
            };
        }
        *woken = false;
        true
    }
}

impl Wake for Parker {
    fn wake(self: Arc<Self>) {
        *lock(&self.woken) = true;
        self.changed.notify_one();
    }
}

/// Locks a mutex and ignores poisoning: the code under a mutex here does not panic.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
