//! Promise 12: Any wait can be abandoned, and leaves nothing. A release that fails leaves the lock
//! free. In process, a wait can be canceled through the handle, too.

use std::fs;

use crate::files::removes_open_files;
use crate::subject::Stand;

/// The promise.
pub fn is_kept(stand: &dyn Stand) {
    a_killed_waiter_leaves_nothing(stand);
    if stand.is_kernel_lock() && removes_open_files(&stand.site().dir) {
        a_release_that_fails_leaves_the_lock_free(stand);
    }
}

fn a_killed_waiter_leaves_nothing(stand: &dyn Stand) {
    let (mut holder, mut next) = (stand.subject(), stand.subject());
    let before = stand.site().dir.names();
    for acquire in stand.acquires() {
        holder.ok("acquire a exclusive none");
        let mut waiter = stand.subject();
        waiter.waits(&format!("{acquire} a exclusive none"));
        waiter.kill();
        assert_eq!(holder.ok("state a"), "Held");
        holder.ok("release a");
        next.ok("acquire a exclusive 0");
        next.ok("release a");
        assert_eq!(stand.site().dir.names(), before);
        assert!(stand.site().is_free());
    }
}

fn a_release_that_fails_leaves_the_lock_free(stand: &dyn Stand) {
    let mut subject = stand.subject();
    subject.ok("acquire a exclusive 0");
    fs::remove_file(stand.site().lock_path()).expect("the lock file exists");
    assert_eq!(subject.err("release a"), "lost");
    assert_eq!(subject.err("release a"), "not-locked");
    subject.ok("acquire a exclusive 0");
    subject.ok("release a");
    assert!(stand.site().is_free());
}
