//! Promise 5: A lock belongs to the process or the guest: any handle of it releases. Dropping a
//! handle releases what was acquired through it, and nothing else.

use crate::subject::Stand;

/// The promise.
pub fn is_kept(stand: &dyn Stand) {
    let site = stand.site();
    let mut subject = stand.subject();
    subject.ok(&stand.open_as("again", "./lock"));
    subject.ok("acquire a exclusive 0");
    assert_eq!(subject.ok("state again"), "Held");
    subject.ok("release again");
    assert!(site.is_free());
    assert_eq!(subject.err("release a"), "not-locked");

    subject.ok("acquire a exclusive 0");
    subject.ok("drop again");
    assert!(!site.is_free());
    assert_eq!(subject.ok("state a"), "Held");
    subject.ok("drop a");
    assert!(site.is_free());
}
