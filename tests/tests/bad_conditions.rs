//! Native processes that lack something: permissions, descriptors, space on the disk.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use locket_tests::process::{Process, QUIESCENT};

const PEER: &str = env!("CARGO_BIN_EXE_peer");

fn chmod(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// A peer without the privileges of root, which override permissions.
fn unprivileged(path: &Path, args: &[&str]) -> Process {
    // Where it can be executed from, whatever the permissions of the build folder.
    let copy = path.parent().unwrap().join("peer");
    if !copy.exists() {
        std::fs::copy(PEER, &copy).unwrap();
        chmod(&copy, 0o755);
    }
    let mut command = Command::new(copy);
    command.arg(path).args(args);
    if rustix::process::geteuid().is_root() {
        command.uid(65534).gid(65534);
    }
    Process::spawn(&mut command)
}

#[test]
fn a_file_that_may_only_be_read_can_be_shared_and_not_had_alone() {
    let dir = tempfile::tempdir().unwrap();
    let lock = dir.path().join("lock");
    std::fs::write(&lock, "precious").unwrap();
    chmod(dir.path(), 0o755);
    chmod(&lock, 0o444);
    let mut peer = unprivileged(&lock, &[]);
    assert_eq!(peer.ask("acquire exclusive 0"), "err denied");
    assert_eq!(peer.ask("acquire shared 0"), "ok");
    assert_eq!(peer.ask("release"), "ok");
    // `flock` has no such rule.
    let mut peer = unprivileged(&lock, &["--protocol", "flock"]);
    assert_eq!(peer.ask("acquire exclusive 0"), "ok");
    assert_eq!(std::fs::read_to_string(&lock).unwrap(), "precious");
}

#[test]
fn a_file_or_a_directory_without_permission_is_denied() {
    let dir = tempfile::tempdir().unwrap();
    let lock = dir.path().join("lock");
    std::fs::write(&lock, "").unwrap();
    chmod(dir.path(), 0o755);
    chmod(&lock, 0o000);
    let answer = unprivileged(&lock, &[]).answer();
    assert!(answer.starts_with("err denied"), "{answer}");
    assert!(answer.contains(lock.to_str().unwrap()), "{answer}");
    // One that is missing and may not be created.
    let answer = unprivileged(&dir.path().join("missing"), &[]).answer();
    assert!(answer.starts_with("err denied"), "{answer}");
}

#[test]
fn without_descriptors_or_timers_a_wait_makes_tries() {
    let dir = tempfile::tempdir().unwrap();
    let lock = dir.path().join("lock");
    let mut holder = Process::spawn(Command::new(PEER).arg(&lock));
    // Enough for the lock, and not for what a wait needs besides: a descriptor; a timer.
    for (limit, acquire) in [
        ("-n 4", "acquire"),
        ("-n 4", "acquire-async"),
        ("-i 0", "acquire"),
    ] {
        let script = format!("ulimit {limit}; exec \"$0\" \"$1\"");
        let mut limited = Command::new("bash");
        let mut peer = Process::spawn(limited.args(["-c", &script, PEER]).arg(&lock));
        assert_eq!(holder.ask("acquire exclusive none"), "ok");
        assert_eq!(peer.ask("acquire exclusive 0"), "err would-block");
        assert_eq!(peer.ask(&format!("{acquire} exclusive 30")), "err timeout");
        peer.send(&format!("{acquire} exclusive none"));
        assert_eq!(peer.answer_within(QUIESCENT), None);
        assert_eq!(holder.ask("release"), "ok");
        assert_eq!(peer.answer(), "ok");
        assert_eq!(peer.ask("release"), "ok");
    }
}

#[test]
fn a_full_disk_is_an_error_and_locks_that_exist_go_on() {
    let dir = tempfile::tempdir().unwrap();
    // One inode for the root of the file system, one for the first lock.
    let script = "mount -t tmpfs -o nr_inodes=2 none \"$1\" && echo mounted || { echo refused; exit; }\n\
                  : > \"$1/first\"\n\"$0\" \"$1/second\" < /dev/null\n\"$0\" \"$1/first\"";
    let mut peers = Process::spawn(
        Command::new("unshare")
            .args(["-m", "sh", "-c", script, PEER])
            .arg(dir.path()),
    );
    if peers.answer() != "mounted" {
        assert!(
            std::env::var_os("CI").is_none(),
            "CI may mount a file system, and must"
        );
        println!("NOT RUN: this user may not mount a file system");
        return;
    }
    let answer = peers.answer();
    assert!(answer.starts_with("err io"), "{answer}");
    assert!(answer.contains("No space left"), "{answer}");
    assert_eq!(peers.ask("acquire exclusive none"), "ok");
    assert_eq!(peers.ask("release"), "ok");
}
