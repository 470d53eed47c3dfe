//! The lock file itself: its content, and its removal.

use super::{is_free, stuck, waiter};
use crate::support::{Dir, Holder, code, exec, output};

#[test]
fn the_lock_file_is_unchanged_and_removed_only_on_request() {
    let dir = Dir::new();
    let lock = dir.path("lock");
    std::fs::write(&lock, "content").unwrap();
    assert_eq!(code(exec(&[], &lock, &["true"])), 0);
    assert_eq!(std::fs::read_to_string(&lock).unwrap(), "content");
    assert_eq!(
        code(exec(
            &["--remove"],
            &lock,
            &["test", "-e", lock.to_str().unwrap()]
        )),
        0
    );
    assert!(!lock.exists());
    // A waiter moves on to the file that takes its place.
    let holder = Holder::exec(&["--remove"], &lock);
    let (mut child, _stderr) = waiter(&["-w", &stuck()], &lock, &["true"]);
    assert_eq!(holder.end(), 0);
    assert!(child.wait().unwrap().success());
    assert!(is_free(&[], &lock));
}

#[test]
fn a_lock_file_removed_while_it_is_held_causes_a_warning() {
    let dir = Dir::new();
    let lock = dir.path("lock");
    let output = output(exec(&[], &lock, &["rm", lock.to_str().unwrap()]));
    assert!(output.status.success());
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("warning"), "{message}");
}
