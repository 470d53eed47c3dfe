//! `locket status`, for all kinds of holders.

mod certainty;
pub(crate) mod container;
mod hung;
mod names;
mod processes;
mod watch;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::{Value, json};

use crate::support::{Dir, Holder, LONGEST_RUN, locket, output};

/// The output of `locket status` for a path, without the path.
fn words(path: &Path) -> String {
    let output = output(locket(&["status", path.to_str().unwrap()]));
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text.strip_prefix(&format!("{}: ", path.display())).unwrap();
    line.strip_suffix('\n').unwrap().to_owned()
}

fn status(path: &Path) -> Value {
    let output = output(locket(&["status", "--json", path.to_str().unwrap()]));
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The whole answer for a free lock.
fn free(path: &Path, exists: bool) -> Value {
    json!({
        "path": path, "path_bytes": null, "exists": exists, "held": false, "unknown": null,
        "removable": null,
        "mode": null, "holders": [], "waiters": [],
    })
}

/// Repeats the command until its answer is right, because other programs do not report every step.
fn status_when(path: &Path, is_right: impl Fn(&Value) -> bool) -> Value {
    let start = Instant::now();
    loop {
        let status = status(path);
        if is_right(&status) {
            return status;
        }
        assert!(start.elapsed() < LONGEST_RUN, "{status}");
        std::thread::yield_now();
    }
}

/// Checks that the lock has one holder, with this mode, protocol and process.
fn assert_holder(status: &Value, mode: &str, protocol: &str, pid: u32) {
    assert_eq!(status["held"], json!(true), "{status}");
    assert_eq!(status["mode"], json!(mode), "{status}");
    let holders = status["holders"].as_array().unwrap();
    assert_eq!(holders.len(), 1, "{status}");
    let holder = &holders[0];
    assert_eq!(holder["mode"], json!(mode), "{status}");
    assert_eq!(holder["protocol"], json!(protocol), "{status}");
    assert_eq!(holder["pid"], json!(pid), "{status}");
}

#[test]
fn a_missing_file_is_free_and_stays_missing() {
    let dir = Dir::new();
    let lock = dir.path("lock");
    assert_eq!(words(&lock), "free (no such file yet)");
    assert_eq!(status(&lock), free(&lock, false));
    assert!(!lock.exists());
}

#[test]
fn an_unlocked_file_is_free() {
    let dir = Dir::new();
    let lock = dir.path("lock");
    std::fs::write(&lock, "").unwrap();
    assert_eq!(words(&lock), "free");
    assert_eq!(status(&lock), free(&lock, true));
}

#[test]
fn foreign_holders_are_named_with_their_protocol() {
    let dir = Dir::new();
    let lock = dir.path("flock");
    let holder = Holder::flock(&lock);
    assert_holder(&status(&lock), "exclusive", "flock", holder.pid());
    holder.end();

    let lock = dir.path("posix");
    let holder = Holder::python("fcntl.lockf(f, fcntl.LOCK_SH)", &lock);
    assert_holder(&status(&lock), "shared", "fcntl", holder.pid());
    holder.end();

    // It belongs to no process, so the processes that have the file open are searched.
    let lock = dir.path("ofd");
    let call =
        "fcntl.fcntl(f, fcntl.F_OFD_SETLK, struct.pack('hhqqi4x', fcntl.F_WRLCK, 0, 0, 0, 0))";
    let holder = Holder::python(call, &lock);
    assert_holder(&status(&lock), "exclusive", "fcntl", holder.pid());
    holder.end();

    let lock = dir.path("only-flock");
    let holder = Holder::exec(&["--protocol", "flock"], &lock);
    assert_holder(&status(&lock), "exclusive", "flock", holder.pid());
    holder.end();
}

#[test]
fn all_shared_holders_are_named() {
    let dir = Dir::new();
    let lock = dir.path("lock");
    let (first, second) = (Holder::exec(&["-s"], &lock), Holder::exec(&["-s"], &lock));
    let status = status(&lock);
    assert_eq!(status["mode"], json!("shared"));
    let holders = status["holders"].as_array().unwrap();
    let mut pids: Vec<_> = holders
        .iter()
        .map(|holder| holder["pid"].as_u64().unwrap())
        .collect();
    pids.sort_unstable();
    let mut expected = [u64::from(first.pid()), u64::from(second.pid())];
    expected.sort_unstable();
    assert_eq!(pids, expected);
    assert!(
        holders
            .iter()
            .all(|holder| holder["protocol"] == json!("native")),
        "{status}"
    );
    assert!(words(&lock).starts_with("shared by process "));
    first.end();
    second.end();
}

/// The `flock` that proves it is not shown as another lock.
#[test]
fn an_existence_lock_on_the_path_itself_is_shown_once() {
    for protocol in ["pid-file", "soft"] {
        let dir = Dir::new();
        let lock = dir.path("lock");
        let holder = Holder::exec(&["--protocol", protocol], &lock);
        let status = status(&lock);
        let holders = status["holders"].as_array().unwrap();
        assert_eq!(holders.len(), 1, "{status}");
        assert_eq!(holders[0]["protocol"], json!(protocol), "{status}");
        assert_eq!(holder.end(), 0);
    }
}

#[test]
fn another_path_of_the_file_is_the_same_lock() {
    let dir = Dir::new();
    let lock = dir.path("lock");
    let holder = Holder::exec(&[], &lock);
    std::os::unix::fs::symlink("lock", dir.path("symlink")).unwrap();
    std::fs::hard_link(&lock, dir.path("hardlink")).unwrap();
    for name in ["symlink", "hardlink"] {
        assert_holder(
            &status(&dir.path(name)),
            "exclusive",
            "native",
            holder.pid(),
        );
    }
    holder.end();
}

#[test]
fn status_acquires_no_lock() {
    let dir = Dir::new();
    let lock = dir.path("lock");
    std::fs::write(&lock, "").unwrap();
    let mut strace = Command::new("strace");
    strace.args([
        "-f",
        "-e",
        "trace=openat,flock,fcntl",
        env!("CARGO_BIN_EXE_locket"),
        "status",
    ]);
    match strace.arg(&lock).stdin(Stdio::null()).output() {
        Ok(output) => {
            let trace = String::from_utf8_lossy(&output.stderr);
            assert!(trace.contains("/proc/locks"), "{trace}");
            assert!(
                !trace.contains("flock(") && !trace.contains("SETLK"),
                "{trace}"
            );
            // The file is not even opened, because closing it drops the record locks of a process.
            assert!(!trace.contains(lock.to_str().unwrap()), "{trace}");
        }
        Err(e) => {
            assert!(
                std::env::var_os("CI").is_none(),
                "strace must be installed in CI: {e}"
            );
            eprintln!("NOT RUN: strace is missing: {e}");
        }
    }
}

#[test]
fn several_paths_become_a_line_each_or_an_array() {
    let dir = Dir::new();
    let (a, b) = (dir.path("a"), dir.path("b"));
    let holder = Holder::exec(&[], &a);
    let args = [a.to_str().unwrap(), b.to_str().unwrap()];
    let lines = output(locket(&[&["status"][..], &args].concat()));
    let lines = String::from_utf8(lines.stdout).unwrap();
    assert_eq!(lines.lines().count(), 2);
    let array = output(locket(&[&["status", "--json"][..], &args].concat()));
    let array: Value = serde_json::from_slice(&array.stdout).unwrap();
    let held_of: Vec<_> = array
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["held"])
        .collect();
    assert_eq!(held_of, [&json!(true), &json!(false)]);
    holder.end();
}

#[test]
fn a_path_that_cannot_be_examined_exits_with_66_and_the_others_are_reported() {
    let dir = Dir::new();
    let file = dir.path("file");
    std::fs::write(&file, "").unwrap();
    let below = dir.path("file/below");
    let paths = [below.to_str().unwrap(), file.to_str().unwrap()];
    let words = output(locket(&[&["status"][..], &paths].concat()));
    assert_eq!(words.status.code(), Some(66));
    assert!(
        String::from_utf8(words.stderr)
            .unwrap()
            .contains("file/below")
    );
    assert!(
        String::from_utf8(words.stdout)
            .unwrap()
            .ends_with("file: free\n")
    );
    let json = output(locket(&[&["status", "--json"][..], &paths].concat()));
    assert_eq!(json.status.code(), Some(66));
    let array: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(array.as_array().unwrap().len(), 1);
    assert_eq!(output(locket(&["status"])).status.code(), Some(64));
}
