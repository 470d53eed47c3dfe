//! Inside and outside of a container: a PID namespace of its own.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use locket_test_support::not_tested;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::{status, words};
use crate::support::{Dir, Holder, output};

/// The start of a command line that runs in a container, if there are any here.
pub(crate) fn container() -> Option<Command> {
    let container = || {
        let mut unshare = Command::new("unshare");
        unshare.args(["--pid", "--fork", "--kill-child", "--mount-proc"]);
        unshare
    };
    let can = container().arg("true").status();
    if can.is_ok_and(|status| status.success()) {
        return Some(container());
    }
    assert!(
        std::env::var_os("CI").is_none(),
        "CI must allow namespaces for processes"
    );
    not_tested(format_args!("no namespaces for processes here"));
    None
}

#[test]
fn without_proc_it_fails_and_says_what_is_missing() {
    let dir = Dir::new();
    let lock = dir.write("lock", "");
    let script = r#"umount -l /proc || exit 77; exec "$0" status "$1""#;
    let mut inside = Command::new("unshare");
    inside.args(["--mount", "sh", "-c", script, env!("CARGO_BIN_EXE_locket")]);
    let output = output({
        inside.arg(&lock);
        inside
    });
    let message = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(77) || message.contains("unshare") {
        return not_tested(format_args!("no namespaces for mounts here"));
    }
    assert_eq!(output.status.code(), Some(71), "{message}");
    assert!(message.contains("`/proc`"), "{message}");
}

/// The first process of a container, as it is numbered outside.
pub(crate) fn first_inside(unshare: u32) -> Pid {
    let children = format!("/proc/{unshare}/task/{unshare}/children");
    let children = std::fs::read_to_string(children).unwrap();
    Pid::from_raw(children.trim().parse().unwrap()).unwrap()
}

/// The answer that a container gets.
fn status_inside(options: &[&str], path: &Path) -> Option<Value> {
    let mut inside = container()?;
    inside.arg(env!("CARGO_BIN_EXE_locket"));
    inside.args(["status", "--json"]).args(options).arg(path);
    let output = output(inside);
    assert!(output.status.success(), "{output:?}");
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

/// The number that the record has is another process's here: that of the first one.
#[test]
fn a_holder_in_a_container_is_not_named_as_a_process_of_the_host() {
    for protocol in ["link", "symlink", "mkdir", "pid-file", "soft"] {
        let dir = Dir::new();
        let lock = dir.path("lock");
        let Some(mut container) = container() else {
            return;
        };
        container.arg(env!("CARGO_BIN_EXE_locket"));
        container.args(["exec", "--protocol", protocol]).arg(&lock);
        container.args(["--", "sh", "-c", "echo ready; cat"]);
        let holder = Holder::start(container);
        let words = words(&lock);
        let expected = "held exclusively by a process of another container of ";
        assert!(words.starts_with(expected), "{protocol}: {words}");
        let status = status(&lock);
        let row = &status["holders"][0];
        assert_eq!(row["protocol"], json!(protocol), "{status}");
        assert_eq!(row["elsewhere"], json!(true), "{status}");
        assert_eq!((&row["pid"], &row["command"]), (&json!(null), &json!(null)));
        assert_eq!(holder.end(), 0);
    }
}

/// Only taking the lock could tell.
#[test]
fn a_flock_outside_leaves_it_unknown() {
    let dir = Dir::new();
    let lock = dir.path("lock");
    let holder = Holder::flock(&lock);
    let Some(mut inside) = container() else {
        return;
    };
    for options in [&[][..], &["--protocol", "flock"]] {
        let Some(status) = status_inside(options, &lock) else {
            return;
        };
        assert_eq!(status["held"], json!(null), "{status}");
        assert_eq!(status["unknown"], json!("outside-container"), "{status}");
    }
    inside
        .args([env!("CARGO_BIN_EXE_locket"), "status"])
        .arg(&lock);
    let words = String::from_utf8(output(inside).stdout).unwrap();
    assert!(
        words.contains(": unknown (no holder in this container"),
        "{words}"
    );
    assert!(!words.contains("free"), "{words}");
    holder.end();
}

#[test]
fn a_record_lock_outside_is_found() {
    let dir = Dir::new();
    let lock = dir.path("lock");
    for (call, mode) in [("LOCK_EX", "exclusive"), ("LOCK_SH", "shared")] {
        let holder = Holder::python(&format!("fcntl.lockf(f, fcntl.{call})"), &lock);
        let Some(status) = status_inside(&[], &lock) else {
            return;
        };
        assert_eq!(status["held"], json!(true), "{status}");
        assert_eq!(status["mode"], json!(mode), "{status}");
        let row = &status["holders"][0];
        assert_eq!(
            (&row["pid"], &row["protocol"]),
            (&json!(null), &json!("fcntl"))
        );
        holder.end();
    }
    // The kernel knows all of them.
    let status = status_inside(&["--protocol", "fcntl"], &lock);
    assert!(status.is_none_or(|status| status["held"] == json!(false)));
}

#[test]
fn all_ranges_of_record_locks_outside_are_found() {
    let dir = Dir::new();
    let lock = dir.path("lock");
    let calls = "fcntl.lockf(f, fcntl.LOCK_EX, 11, 5)\nfcntl.lockf(f, fcntl.LOCK_SH, 1, 20)\n\
                 fcntl.lockf(f, fcntl.LOCK_SH, 0, 100)";
    let holder = Holder::python(calls, &lock);
    let Some(status) = status_inside(&[], &lock) else {
        return;
    };
    let ranges = json!([
        { "mode": "exclusive", "from": 5, "to": 15 },
        { "mode": "shared", "from": 20, "to": 20 },
        { "mode": "shared", "from": 100, "to": null },
    ]);
    let holders = status["holders"].as_array().unwrap();
    assert_eq!(holders.len(), 1, "{status}");
    assert_eq!(holders[0]["pid"], json!(null), "{status}");
    assert_eq!(holders[0]["ranges"], ranges, "{status}");
    holder.end();
}

/// A holder inside does not hide one outside.
#[test]
fn a_record_lock_outside_is_found_beside_one_inside() {
    let dir = Dir::new();
    let lock = dir.path("lock");
    let holder = Holder::python("fcntl.lockf(f, fcntl.LOCK_EX, 1, 0)", &lock);
    let Some(mut inside) = container() else {
        return;
    };
    let script = "import fcntl, subprocess, sys
f = open(sys.argv[2], 'a+')
fcntl.lockf(f, fcntl.LOCK_SH, 1, 7)
subprocess.run([sys.argv[1], 'status', '--json', sys.argv[2]])";
    inside.args(["python3", "-c", script, env!("CARGO_BIN_EXE_locket")]);
    let output = output({
        inside.arg(&lock);
        inside
    });
    let status: Value = serde_json::from_slice(&output.stdout).unwrap();
    let holders = status["holders"].as_array().unwrap();
    let seen: Vec<_> = holders
        .iter()
        .map(|holder| (&holder["pid"], &holder["ranges"][0]["from"]))
        .collect();
    let expected = [(&json!(1), &json!(7)), (&json!(null), &json!(0))];
    assert_eq!(seen, expected, "{status}");
    assert_eq!(status["mode"], json!("exclusive"), "{status}");
    holder.end();
}

/// To the first process of a container the system delivers no signal that has no handler.
#[test]
fn as_the_first_process_a_watch_ends_at_a_signal() {
    let dir = Dir::new();
    let lock = dir.path("lock");
    for signal in [Signal::TERM, Signal::INT] {
        let Some(mut inside) = container() else {
            return;
        };
        inside.args([env!("CARGO_BIN_EXE_locket"), "status", "--watch"]);
        let mut inside = inside.arg(&lock).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let stdout = inside.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        assert!(line.contains("lock: free"), "{line}");
        let first = first_inside(inside.id());
        kill_process(first, signal).unwrap();
        let code = inside.wait().unwrap().code();
        assert_eq!(code, Some(128 + signal.as_raw()), "{signal:?}");
    }
}

/// The process that acquired the lock has ended, so the lock table inside lacks it.
#[test]
fn a_lock_that_was_inherited_inside_is_found_there() {
    let dir = Dir::new();
    let lock = dir.path("lock");
    let Some(mut inside) = container() else {
        return;
    };
    let script = r#"exec 9>>"$1"; flock 9; "$0" status --json "$1"; :"#;
    inside.args(["bash", "-c", script, env!("CARGO_BIN_EXE_locket")]);
    inside.arg(&lock);
    let output = output(inside);
    let status: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(status["held"], json!(true), "{status}");
    assert_eq!(status["holders"][0]["pid"], json!(1), "{status}");
}

/// The lock table inside has only the half of it that names no process.
#[test]
fn a_native_lock_that_was_inherited_inside_is_shown_once() {
    let dir = Dir::new();
    let lock = dir.path("lock");
    let Some(mut inside) = container() else {
        return;
    };
    // `cat` keeps the first process of the container until the command has ended.
    let command =
        r#"kill -KILL $PPID; while kill -0 $PPID; do :; done; "$0" status --json "$1"; :"#;
    let script = format!(r#""$0" exec "$1" -- sh -c '{command}' "$0" "$1" | cat"#);
    inside.args(["bash", "-c", &script, env!("CARGO_BIN_EXE_locket")]);
    inside.arg(&lock);
    let output = output(inside);
    let status: Value = serde_json::from_slice(&output.stdout).unwrap();
    let holders = status["holders"].as_array().unwrap();
    assert_eq!(holders.len(), 1, "{status}");
    assert_eq!(holders[0]["protocol"], json!("native"), "{status}");
    assert_ne!(holders[0]["pid"], json!(null), "{status}");
}
