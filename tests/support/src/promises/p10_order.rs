//! Promise 10: First come, first served: within a process in its queue, between processes in that
//! of the kernel. A waiter that gives up leaves the order in the queue as it is.

use super::next_granted;
use crate::not_tested;
use crate::subject::Stand;
use crate::waits::eventually;

/// The promise.
pub fn is_kept(stand: &dyn Stand) {
    let mut holder = stand.subject();
    holder.ok("acquire a exclusive none");
    if stand.waiting().is_none() {
        not_tested(format_args!("the system does not show who waits"));
        return;
    }
    let mut queue = Vec::new();
    for i in 0..stand.crowd() {
        let mut subject = stand.subject();
        let acquire = stand.acquires()[i % stand.acquires().len()];
        subject.send(&format!("{acquire} a exclusive none"));
        eventually("it waits", || stand.waiting() == Some(i + 1));
        queue.push(subject);
    }
    if stand.is_one_queue() {
        // The kernel would wake those behind it, and one of them could get ahead.
        queue.remove(2).kill();
    }
    holder.ok("release a");
    while !queue.is_empty() {
        assert_eq!(next_granted(&mut queue), 0, "out of order");
        let mut next = queue.remove(0);
        next.ok("release a");
    }
}
