//! A hold that ends while the file system does not answer.

use locket::Options;

use super::file_system::stands;
use super::*;

/// Whoever drops it waits for the file system, as with the file itself. Nobody else does.
#[test]
fn a_guard_there_is_dropped() {
    for mut stand in stands() {
        let guard = stand.lock.acquire(EX, STUCK).unwrap();
        stand.files.stop();
        let dropped = thread::spawn(move || drop(guard));
        let returned = stand.others_go_on();
        dropped.join().unwrap();
        returned.proves_sound();
    }
}

#[test]
fn a_hold_there_expires() {
    for mut stand in stands() {
        let options = Options::new().max_hold(Some(BRIEF));
        let lock = stand
            .engine
            .open_with(stand.files.path("lock"), &options)
            .unwrap();
        let guard = lock.acquire(EX, STUCK).unwrap();
        stand.files.stop();
        let lost = guard.lost();
        must_end("the end of the hold", move || block_on(lost));
        let returned = stand.others_go_on();
        assert!(guard.release().unwrap_err().is_lost());
        returned.proves_sound();
    }
}
