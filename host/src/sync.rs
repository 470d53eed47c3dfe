//! What threads share and wait with: the standard library, or under `--cfg loom` the model checker
//! that runs a test through every interleaving of them, or under `--cfg shuttle` the one that does so
//! by chance.

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

/// Those whom a change concerns, to be woken once no mutex is held.
#[derive(Debug, Default)]
#[must_use = "they sleep until they are woken"]
pub(crate) struct WakeList(pub(crate) Vec<Waker>);

impl WakeList {
    pub(crate) fn wake(self) {
        for waker in self.0 {
            // One that panics must not keep the rest from being woken, nor end a thread of ours.
            let _ = panic::catch_unwind(AssertUnwindSafe(|| waker.wake()));
        }
    }
}

/// Where a thread sleeps until it is woken. Its own, since whoever called may count on the
/// wake-ups that [`std::thread::park`] would use up.
#[derive(Debug, Default)]
pub(crate) struct Parker {
    woken: Mutex<bool>,
    changed: Condvar,
}

impl Parker {
    /// Sleeps until it is woken, or was since the last time, or until then.
    pub(crate) fn sleep(&self, until: Option<Instant>) {
        let mut woken = lock(&self.woken);
        while !*woken {
            let left = until.map(|at| at.saturating_duration_since(Instant::now()));
            woken = match left {
                Some(Duration::ZERO) => return,
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
    }
}

impl Wake for Parker {
    fn wake(self: Arc<Self>) {
        *lock(&self.woken) = true;
        self.changed.notify_one();
    }
}

/// Locks, whatever happened to those who did before: what runs under a mutex here does not panic.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
