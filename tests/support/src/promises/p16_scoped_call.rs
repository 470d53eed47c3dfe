//! Promise 16: A function runs with the lock held, and only then; afterwards the lock is free, even
//! if the function panics.

use crate::subject::Stand;

/// The promise.
pub fn is_kept(stand: &dyn Stand) {
    let site = stand.site();
    let path = stand.path("lock");
    let (mut holder, mut subject) = (stand.subject(), stand.subject());
    subject.ok(&format!("with {path} none"));
    assert!(site.is_free());
    holder.ok("acquire a exclusive none");
    assert_eq!(subject.err(&format!("with {path} 0")), "would-block");
    assert_eq!(subject.err(&format!("with {path} 30")), "timeout");
    subject.waits(&format!("with {path} none"));
    holder.ok("release a");
    subject.granted();
    assert!(site.is_free());
    subject.send(&format!("with-panic {path} 0"));
    subject.ended();
    assert!(site.is_free());
}
