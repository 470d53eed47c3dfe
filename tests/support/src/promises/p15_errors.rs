//! Promise 15: Every refusal has an error of its own. In process, it names the path and the cause,
//! too.

use crate::subject::Stand;

/// The promise.
pub fn is_kept(stand: &dyn Stand) {
    let (mut holder, mut subject) = (stand.subject(), stand.subject());
    holder.ok("acquire a exclusive none");
    for acquire in stand.acquires() {
        let zero = subject.err(&format!("{acquire} a exclusive 0"));
        assert_eq!(zero, "would-block");
        let short = subject.err(&format!("{acquire} a exclusive 20"));
        assert_eq!(short, "timeout");
    }
    assert_eq!(subject.err("release a"), "not-owner");
    holder.ok("release a");
    assert_eq!(subject.err("release a"), "not-locked");
    let missing = stand.open_as("b", "missing/lock");
    assert_eq!(subject.err(&missing), "not-found");
    assert!(!stand.site().dir.path("missing").exists());
    if stand.is_kernel_lock() {
        let directory = stand.open_as("b", ".");
        assert_eq!(subject.err(&directory), "invalid-path");
    }
}
