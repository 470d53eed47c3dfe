//! Guests that wait for each other.

use std::sync::mpsc;
use std::thread;

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
    let (done, ended) = mpsc::channel();
    thread::scope(|scope| {
        let waits = scope.spawn(|| {
            let waited = second[0].acquire(EX, STUCK).map(drop);
            done.send(()).unwrap();
            waited
        });
        eventually("the second guest waits", || {
            format!("{:?}", second[0]).contains("waiting: 1")
        });
        // It would wait for itself, and for a guest that waits for it.
        for lock in &first {
            let hopeless = lock.acquire(EX, STUCK).unwrap_err();
            assert!(hopeless.is_deadlock(), "{hopeless}");
        }
        assert!(ended.try_recv().is_err());
        one.release().unwrap();
        waits.join().unwrap().unwrap();
    });
    two.release().unwrap();
}
