//! Guests that wait for each other.

use super::*;

#[test]
fn guests_that_wait_for_each_other_learn_it() {
    let dir = Dir::new();
    let engine = Engine::new();
    let guests = [(); 2].map(|()| guest(&engine, dir.0.path(), Limits::new()));
    let [first, second] = guests.each_ref().map(|guest| {
        let open = |path| open(guest, path).unwrap();
        [open("/jobs/one"), open("/jobs/two")]
    });
    let one = first[0].acquire(EX, STUCK).unwrap();
    let two = second[1].acquire(EX, STUCK).unwrap();
    // Once this is pending, the check for deadlocks sees the wait. A thread would be in the queue a moment
    // before that.
    let waits = second[0].acquire_suspended(EX, STUCK).unwrap();
    let mut waits = std::pin::pin!(waits);
    assert!(poll(&mut waits.as_mut()).is_pending());
    // It would wait for itself, and for a guest that waits for it.
    for lock in &first {
        let hopeless = lock.acquire(EX, STUCK).unwrap_err();
        assert!(hopeless.is_deadlock(), "{hopeless}");
    }
    assert!(poll(&mut waits.as_mut()).is_pending());
    one.release().unwrap();
    block_on(waits).unwrap().release().unwrap();
    two.release().unwrap();
}
