//! Promise 11: A lock has the path by which it was opened. In process, a guard has its descriptor,
//! too.

use crate::subject::Stand;

/// The promise.
pub fn is_kept(stand: &dyn Stand) {
    let mut subject = stand.start();
    for spelling in ["lock", "./lock"] {
        subject.ok(&stand.open_as("a", spelling));
        subject.ok("acquire a exclusive 0");
        assert_eq!(subject.ok("path a"), stand.path(spelling));
        subject.ok("release a");
        assert_eq!(subject.ok("path a"), stand.path(spelling));
    }
}
