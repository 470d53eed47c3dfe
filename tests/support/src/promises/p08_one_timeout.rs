//! Promise 8: The timeout covers the whole call: what passes in the queue of the engine, behind
//! another waiter, counts as well as what passes as its head, behind another process.

use super::elapsed;
use crate::subject::Stand;
use crate::waits::{QUIESCENT, eventually};

/// The promise.
pub fn is_kept(stand: &dyn Stand) {
    let foreign = stand.site().foreign();
    let guard = foreign.acquire(locket::Mode::Exclusive, None);
    let guard = guard.expect("the lock is free");
    let (mut ahead, mut waiter) = (stand.subject(), stand.subject());
    ahead.send("acquire a exclusive 400");
    match stand.waiting() {
        Some(_) => eventually("the one ahead waits", || stand.waiting() == Some(1)),
        None => assert_eq!(ahead.answer_within(QUIESCENT), None),
    }
    waiter.send("acquire a exclusive 600");
    assert_eq!(ahead.answer(), "err timeout");
    assert_eq!(waiter.answer(), "err timeout");
    let time = elapsed(&mut *waiter);
    // With a timeout for either part it would be more than 900.
    assert!((600..850).contains(&time), "{time} ms");
    guard.release().expect("the lock is held");
    waiter.ok("acquire a exclusive 0");
}
