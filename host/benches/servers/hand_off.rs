//! From just before a release to the moment at which the next one has the lock.

use std::thread;
use std::time::{Duration, Instant};

use locket::LockFile;
use locket_test_support::waits::waiters;

use crate::EX;

/// How long a waiter has waited at least, so that nothing of its arrival is measured.
const SETTLED: Duration = Duration::from_millis(10);

/// One hand-off. `waits` says whether the waiter is in the queue.
pub(crate) fn hand_off<H, N: Send>(
    hold: impl FnOnce() -> H,
    waits: impl Fn() -> bool,
    release: impl FnOnce(H),
    next: impl FnOnce() -> N + Send,
    end: impl FnOnce(N),
) -> f64 {
    let held = hold();
    let (next, time) = thread::scope(|scope| {
        let next = scope.spawn(|| (next(), Instant::now()));
        while !waits() {
            thread::sleep(Duration::from_millis(1));
        }
        thread::sleep(SETTLED);
        let start = Instant::now();
        release(held);
        let (next, granted) = next.join().unwrap();
        (next, granted - start)
    });
    end(next);
    time.as_nanos() as f64
}

/// From one engine to another, or, with one lock twice, within an engine.
pub(crate) fn ours(one: &LockFile, two: &LockFile, waits: impl Fn() -> bool) -> f64 {
    hand_off(
        || one.acquire(EX, None).unwrap(),
        || waiters(two) == 1 && waits(),
        |guard| guard.release().unwrap(),
        || two.acquire(EX, None).unwrap(),
        |guard| guard.release().unwrap(),
    )
}
