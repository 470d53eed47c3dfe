//! What threads share and wait with: the standard library, or under `--cfg loom` the model checker
//! that runs a test through every interleaving of them.

#[cfg(not(loom))]
pub(crate) use std::sync::{Condvar, Mutex, MutexGuard};
#[cfg(not(loom))]
pub(crate) use std::thread;

#[cfg(loom)]
pub(crate) use loom::sync::{Condvar, Mutex, MutexGuard};
#[cfg(loom)]
pub(crate) use loom::thread;

/// Parks this thread until it is unparked, or until then.
pub(crate) fn park(until: Option<std::time::Instant>) {
    match until {
        #[cfg(not(loom))]
        Some(at) => thread::park_timeout(at.saturating_duration_since(std::time::Instant::now())),
        #[cfg(loom)]
        Some(_) => unimplemented!("a model has no time"),
        None => thread::park(),
    }
}

/// Locks, whatever happened to those who did before: what runs under a mutex here does not panic.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
