//! Promise 2: Acquiring a free lock returns at once, whatever the timeout. An existence lock cannot
//! be shared.

use super::{TIMEOUTS, was_at_once};
use crate::subject::Stand;

/// The promise.
pub fn is_kept(stand: &dyn Stand) {
    a_free_lock_is_acquired_at_once(stand);
    if stand.is_kernel_lock() {
        and_in_shared_mode(stand);
    } else {
        and_sharing_is_unsupported(stand);
    }
}

fn a_free_lock_is_acquired_at_once(stand: &dyn Stand) {
    let mut subject = stand.subject();
    for acquire in stand.acquires() {
        for timeout in TIMEOUTS {
            assert_eq!(subject.ok("state a"), "Unlocked");
            subject.ok(&format!("{acquire} a exclusive {timeout}"));
            was_at_once(&mut *subject);
            assert_eq!(subject.ok("state a"), "Held");
            assert!(!stand.site().is_free());
            subject.ok("release a");
            assert!(stand.site().is_free());
        }
    }
}

fn and_in_shared_mode(stand: &dyn Stand) {
    let mut subject = stand.subject();
    for timeout in TIMEOUTS {
        subject.ok(&format!("acquire a shared {timeout}"));
        was_at_once(&mut *subject);
        subject.ok("release a");
    }
}

fn and_sharing_is_unsupported(stand: &dyn Stand) {
    let mut subject = stand.subject();
    let before = stand.site().dir.names();
    let mut is_unsupported = || {
        for acquire in stand.acquires() {
            for timeout in ["none", "0", "30"] {
                let error = subject.err(&format!("{acquire} a shared {timeout}"));
                assert_eq!(error, "unsupported");
            }
        }
    };
    is_unsupported();
    let mut holder = stand.subject();
    holder.ok("acquire a exclusive 0");
    is_unsupported();
    holder.ok("release a");
    assert_eq!(subject.ok("state a"), "Unlocked");
    assert_eq!(stand.site().dir.names(), before, "nothing is left behind");
    assert!(stand.site().is_free());
}
