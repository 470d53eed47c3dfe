//! How long is too long, and waiting for a condition or a future.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use locket::{Acquire, LockFile, Mode};

/// Anything that has not happened after this long never happens.
pub const STUCK: Duration = Duration::from_secs(20);

/// A waiter that has not returned after this long really waits.
pub const QUIESCENT: Duration = Duration::from_millis(50);

/// What an answer may take that waits for no one. It takes microseconds; the rest is for a busy
/// machine. What must not hold it up lasts for longer.
pub const AT_ONCE: Duration = Duration::from_secs(10);

/// Waits until `condition` holds.
///
/// # Panics
///
/// If it does not hold within [`STUCK`].
#[track_caller]
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        let elapsed = start.elapsed();
        assert!(elapsed < STUCK, "not in {STUCK:?}: {what}");
        // What is about to happen is seen at once; what takes longer does not cost a processor.
        if elapsed < Duration::from_millis(5) {
            thread::yield_now();
        } else {
            thread::sleep(Duration::from_micros(200));
        }
    }
}

/// A waker that counts.
#[derive(Debug, Default)]
pub struct Count(pub AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Begins to acquire, and is in the queue when it returns.
///
/// # Panics
///
/// If the lock is granted at once.
#[track_caller]
pub fn pending(lock: &LockFile, mode: Mode) -> Acquire {
    let mut acquire = lock.acquire_async(mode, None);
    assert!(poll(&mut acquire).is_pending(), "it does not wait");
    acquire
}

/// Polls a future once.
pub fn poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// Runs a future on this thread.
pub fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = std::pin::pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        thread::park();
    }
}

/// How many wait for the lock in its engine. Only its debug output shows it.
///
/// # Panics
///
/// If the debug output does not.
pub fn waiters(lock: &LockFile) -> usize {
    let text = format!("{lock:?}");
    let count = text
        .split("waiting: ")
        .nth(1)
        .and_then(|rest| rest.split([' ', ',']).next());
    count
        .and_then(|count| count.parse().ok())
        .expect("a lock shows how many wait for it")
}
