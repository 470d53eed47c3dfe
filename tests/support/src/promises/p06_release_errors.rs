//! Promise 6: Releasing a lock without a holder and releasing one that another owner holds are
//! different errors, and change nothing.

use crate::files::removes_open_files;
use crate::subject::Stand;

/// The promise.
pub fn is_kept(stand: &dyn Stand) {
    not_locked_and_not_owner(stand);
    if stand.is_kernel_lock() && removes_open_files(&stand.site().dir) {
        and_not_locked_once_the_file_is_gone(stand);
    }
}

fn not_locked_and_not_owner(stand: &dyn Stand) {
    let (mut a, mut b) = (stand.subject(), stand.subject());
    assert_eq!(a.err("release a"), "not-locked");
    for _ in 0..2 {
        a.ok("acquire a exclusive none");
        assert_eq!(b.err("release a"), "not-owner");
        // Nor can this process, if it is not the owner.
        let foreign = stand.site().foreign();
        let error = foreign.release().expect_err("another owner holds the lock");
        assert!(error.is_not_owner() && !error.is_not_locked(), "{error}");
        assert_eq!(a.ok("state a"), "Held");
        a.ok("release a");
        for subject in [&mut a, &mut b] {
            assert_eq!(subject.ok("is-locked a"), "false");
            assert_eq!(subject.ok("state a"), "Unlocked");
            assert_eq!(subject.err("release a"), "not-locked");
        }
        let guard = foreign.acquire(locket::Mode::Exclusive, None);
        let guard = guard.expect("the lock is free");
        assert_eq!(a.err("release a"), "not-owner");
        guard.release().expect("the lock is held");
        std::mem::swap(&mut a, &mut b);
    }
}

fn and_not_locked_once_the_file_is_gone(stand: &dyn Stand) {
    let mut subject = stand.start();
    subject.ok(&stand.open_removing());
    subject.ok("acquire a exclusive 0");
    subject.ok("release a");
    assert_eq!(subject.err("release a"), "not-locked");
}
