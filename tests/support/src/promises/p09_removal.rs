//! Promise 9: The lock file is kept, or removed on release without ever letting two holders in:
//! what is acquired is the lock of the file that is at the path.

use std::fs;

use super::next_granted;
use crate::files::removes_open_files;
use crate::subject::{AnySubject, Stand};
use crate::waits::QUIESCENT;

/// The promise.
pub fn is_kept(stand: &dyn Stand) {
    the_file_is_kept(stand);
    if removes_open_files(&stand.site().dir) {
        the_file_is_removed(stand);
        removal_never_splits_the_lock(stand);
        what_is_acquired_is_the_file_at_the_path(stand);
    }
}

fn the_file_is_kept(stand: &dyn Stand) {
    let mut subject = stand.subject();
    subject.ok("acquire a exclusive 0");
    subject.ok("release a");
    assert!(stand.site().lock_path().exists());
}

fn the_file_is_removed(stand: &dyn Stand) {
    let path = stand.site().lock_path();
    let mut subject = removing(stand);
    subject.ok("acquire a exclusive 0");
    assert!(path.exists());
    subject.ok("release a");
    assert!(!path.exists());
    subject.ok("acquire a exclusive 0");
    assert!(path.exists());
    subject.finish();
    assert!(!path.exists());
}

fn removal_never_splits_the_lock(stand: &dyn Stand) {
    let site = stand.site();
    let path = site.lock_path();
    let (mut holder, mut keeping) = (removing(stand), stand.subject());
    let mut waiters = [removing(stand), removing(stand), removing(stand)];
    holder.ok("acquire a exclusive 0");
    for waiter in &mut waiters {
        waiter.waits("acquire a exclusive none");
    }
    holder.ok("release a");
    for _ in 0..waiters.len() {
        let next = next_granted(&mut waiters);
        assert!(path.exists() && !site.is_free());
        assert_eq!(holder.err("acquire a exclusive 0"), "would-block");
        assert_eq!(keeping.err("acquire a exclusive 0"), "would-block");
        waiters[next].ok("release a");
    }
    assert!(!path.exists());
    keeping.ok("acquire a exclusive 0");
    keeping.ok("release a");
    assert!(path.exists());
}

fn what_is_acquired_is_the_file_at_the_path(stand: &dyn Stand) {
    let path = stand.site().lock_path();
    let (mut holder, mut waiter) = (stand.subject(), stand.subject());
    // Removed between opening and locking.
    fs::remove_file(&path).expect("the lock file exists");
    holder.ok("acquire a exclusive 0");
    assert!(path.exists());
    // Replaced, while another waits for the old one.
    waiter.waits("acquire a exclusive none");
    fs::remove_file(&path).expect("the lock file exists");
    let mut third = stand.subject();
    third.ok("acquire a exclusive 0");
    assert_eq!(holder.err("release a"), "lost");
    // It moves on to the new file, and waits for that.
    assert_eq!(waiter.answer_within(QUIESCENT), None);
    third.ok("release a");
    waiter.granted();
    assert_eq!(third.err("acquire a exclusive 0"), "would-block");
}

fn removing(stand: &dyn Stand) -> AnySubject {
    let mut subject = stand.start();
    subject.ok(&stand.open_removing());
    subject
}
