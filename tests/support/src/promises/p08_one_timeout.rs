//! Promise 8: The timeout covers the whole call: what passes in the queue of the engine, behind
//! another waiter, counts as well as what passes as its head, behind another process.

use std::time::{Duration, Instant};

use super::elapsed;
use crate::subject::{Stand, Subject};
use crate::waits::{STUCK, eventually};

/// By when the second one has to be in the queue. With a timeout for either part, it would wait for
/// 300 ms at least behind the first one, and for 600 ms after that.
const IN_TIME: Duration = Duration::from_millis(100);

/// What a wait takes that ends by its one timeout of 600 ms, on a machine that is not busy.
const LIMIT: u128 = 850;

/// The promise.
pub fn is_kept(stand: &dyn Stand) {
    let foreign = stand.site().foreign();
    let guard = foreign.acquire(locket::Mode::Exclusive, None);
    let guard = guard.expect("the lock is free");
    let (mut ahead, mut waiter) = (stand.subject(), stand.subject());
    // A busy machine is late now and then. The mistake shows in every round.
    let (start, mut late) = (Instant::now(), Vec::new());
    loop {
        assert!(start.elapsed() < STUCK, "no round can be made in time");
        match round(stand, &mut *ahead, &mut *waiter) {
            Some(time) if time < LIMIT => break,
            Some(time) => late.push(time),
            None => {}
        }
        assert!(late.len() < 5, "{late:?} ms");
    }
    guard.release().expect("the lock is held");
    waiter.ok("acquire a exclusive 0");
}

/// How many milliseconds the second one waited; none if it was not seen in time behind the first one,
/// which shows nothing.
fn round(stand: &dyn Stand, ahead: &mut dyn Subject, waiter: &mut dyn Subject) -> Option<u128> {
    let start = Instant::now();
    let is_late = || start.elapsed() >= IN_TIME;
    let in_queue = |count| {
        let is_seen = || stand.waiting().is_none_or(|waiting| waiting == count);
        eventually("it waits", || is_late() || is_seen());
    };
    ahead.send("acquire a exclusive 400");
    in_queue(1);
    waiter.send("acquire a exclusive 600");
    in_queue(2);
    let is_in_time = !is_late();
    assert_eq!(ahead.answer(), "err timeout");
    assert_eq!(waiter.answer(), "err timeout");
    let time = elapsed(waiter);
    assert!(time >= 600, "{time} ms");
    is_in_time.then_some(time)
}
