//! What only processes can show.

use std::process::Command;

use locket_test_support::files::symlink;
use locket_test_support::process::{PeerDir, Process, peer};

/// 1, for paths relative to a working directory.
#[test]
fn a_relative_path_is_the_same_lock() {
    let dir = PeerDir::new();
    assert!(symlink("lock", dir.path().join("symlink")));
    std::fs::hard_link(dir.lock(), dir.path().join("hardlink")).unwrap();
    std::fs::create_dir(dir.path().join("sub")).unwrap();
    let mut holder = dir.peer();
    assert_eq!(holder.ask("acquire exclusive none"), "ok");
    for spelling in ["lock", "./lock", "symlink", "hardlink", "../lock"] {
        let folder = match spelling {
            "../lock" => dir.path().join("sub"),
            _ => dir.path().to_owned(),
        };
        let mut command = Command::new(peer());
        let mut other = Process::spawn(command.arg(spelling).current_dir(folder));
        let answer = other.ask("acquire exclusive 0");
        assert_eq!(answer, "err would-block", "{spelling}");
    }
}
