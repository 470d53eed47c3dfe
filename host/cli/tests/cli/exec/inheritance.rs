//! The command and its children inherit the descriptor that carries the lock.

use std::process::Stdio;

use rustix::process::Signal;

use super::foreign::Foreign;
use super::{is_free, stuck};
use crate::support::{Dir, Holder, code, exec};

#[test]
fn a_command_keeps_its_lock_when_locket_is_killed() {
    let dir = Dir::new();
    let lock = dir.path("lock");
    let holder = Holder::exec(&[], &lock);
    holder.signal(Signal::KILL);
    let (code_of_locket, input) = holder.ended();
    assert_eq!(code_of_locket, -9);
    // Only `cat` is left.
    assert!(!is_free(&[], &lock));
    for foreign in Foreign::ALL {
        assert!(!foreign.is_free(&lock), "{foreign:?}");
    }
    drop(input);
    assert_eq!(code(exec(&["-w", &stuck()], &lock, &["true"])), 0);
}

#[test]
fn a_command_keeps_its_existence_lock_when_locket_is_killed() {
    for protocol in ["link", "mkdir", "pid-file", "soft"] {
        let dir = Dir::new();
        let lock = dir.path("lock");
        let options = ["--protocol", protocol];
        let holder = Holder::exec(&options, &lock);
        holder.signal(Signal::KILL);
        let (code_of_locket, input) = holder.ended();
        assert_eq!(code_of_locket, -9);
        // Only `cat` is left.
        assert!(!is_free(&options, &lock), "{protocol}");
        drop(input);
        let options = ["--protocol", protocol, "-w", &stuck()];
        assert_eq!(code(exec(&options, &lock, &["true"])), 0, "{protocol}");
    }
}

#[test]
fn a_background_process_does_not_keep_an_existence_lock() {
    for protocol in ["link", "mkdir", "pid-file", "soft"] {
        let dir = Dir::new();
        let lock = dir.path("lock");
        let options = ["--protocol", protocol];
        let script = "exec 3<&0; cat <&3 >/dev/null 2>&1 & echo ready";
        let mut exec = exec(&options, &lock, &["sh", "-c", script]);
        let exec = exec.stdin(Stdio::piped()).stdout(Stdio::null());
        let mut child = exec.spawn().unwrap();
        let pipe = child.stdin.take();
        assert!(child.wait().unwrap().success());
        assert!(is_free(&options, &lock), "{protocol}");
        drop(pipe);
    }
}

#[test]
fn a_background_process_does_not_keep_the_lock() {
    let dir = Dir::new();
    let lock = dir.path("lock");
    // `cat` lives on until this end of the pipe is closed.
    let script = "exec 3<&0; cat <&3 >/dev/null 2>&1 & echo ready";
    let mut exec = exec(&[], &lock, &["sh", "-c", script]);
    let mut child = exec
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let pipe = child.stdin.take();
    assert!(child.wait().unwrap().success());
    assert!(is_free(&[], &lock));
    for foreign in Foreign::ALL {
        assert!(foreign.is_free(&lock), "{foreign:?}");
    }
    drop(pipe);
}
