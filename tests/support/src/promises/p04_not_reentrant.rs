//! Promise 4: Locks are not reentrant: a second acquire by the holder fails, and the first hold
//! stays. A guest that would wait for itself gets `deadlock` at once.

use super::{TIMEOUTS, took, was_at_once};
use crate::subject::{Stand, Subject};

/// The promise.
pub fn is_kept(stand: &dyn Stand) {
    let mut subject = stand.subject();
    subject.ok(&stand.open_as("again", "./lock"));
    for first in TIMEOUTS {
        subject.ok(&format!("acquire a exclusive {first}"));
        for handle in ["a", "again"] {
            is_refused(stand, &mut *subject, handle);
        }
        assert_eq!(subject.ok("state a"), "Held");
        subject.ok("release a");
        assert_eq!(subject.err("release a"), "not-locked");
        assert!(stand.site().is_free());
    }
}

fn is_refused(stand: &dyn Stand, subject: &mut dyn Subject, handle: &str) {
    for mode in ["exclusive", "shared"] {
        let error = subject.err(&format!("acquire {handle} {mode} 0"));
        if mode == "shared" && !stand.is_kernel_lock() {
            assert!(["would-block", "unsupported"].contains(&&*error), "{error}");
        } else {
            assert_eq!(error, "would-block", "{handle} {mode}");
        }
    }
    if stand.detects_deadlock() {
        for timeout in ["none", "60000"] {
            let error = subject.err(&format!("acquire {handle} exclusive {timeout}"));
            assert_eq!(error, "deadlock");
            was_at_once(subject);
        }
    } else {
        let error = subject.err(&format!("acquire {handle} exclusive 20"));
        assert_eq!(error, "timeout");
        took(subject, 20);
    }
}
