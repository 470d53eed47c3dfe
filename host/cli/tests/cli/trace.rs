//! `locket trace`: what it saw of real holders and waiters.

mod ends;
mod hung;
mod outputs;
mod pictures;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};

use crate::status::container::{container, first_inside};
use crate::support::{Dir, Holder, exec, kill, locket};

/// A trace that runs, and prints its changes.
struct Trace {
    tool: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Trace {
    fn start(options: &[&str], paths: &[&Path]) -> Self {
        let mut trace = locket(&["trace", "--json"]);
        Self::of(trace.args(options).args(paths))
    }

    fn of(trace: &mut Command) -> Self {
        let mut tool = trace.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(tool.stdout.take().unwrap()).lines();
        Self { tool, lines }
    }

    fn event(&mut self) -> Value {
        let line = self.lines.next().expect("the output continues").unwrap();
        serde_json::from_str(&line).unwrap()
    }

    /// Reads on until something is so.
    fn until(&mut self, is_it: impl Fn(&Value) -> bool) -> Value {
        loop {
            let event = self.event();
            if is_it(&event) {
                return event;
            }
        }
    }

    /// Reads on until a process is in a state.
    fn until_state(&mut self, pid: u32, state: &str) -> Value {
        self.until(|event| event["pid"] == json!(pid) && event["state"] == json!(state))
    }

    /// Interrupts it, as a terminal does. Returns its exit code.
    fn end(mut self) -> Option<i32> {
        kill(&self.tool, Signal::INT);
        self.tool.wait().unwrap().code()
    }
}

/// The processes that a process has started.
fn children(pid: u32) -> Vec<i32> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let children = children.unwrap_or_default();
    let children = children.split_whitespace();
    children.map(|pid| pid.parse().unwrap()).collect()
}

#[test]
fn holders_of_every_protocol_come_and_go() {
    for protocol in [
        "native", "flock", "fcntl", "link", "symlink", "mkdir", "pid-file", "soft",
    ] {
        let dir = Dir::new();
        let (lock, other) = (dir.path("lock"), dir.path("other"));
        let mut trace = Trace::start(&[], &[&other, &lock]);
        let holder = Holder::exec(&["--protocol", protocol], &lock);
        let held = trace.until_state(holder.pid(), "held");
        assert_eq!(held["path"], json!(lock), "{held}");
        assert_eq!(held["mode"], json!("exclusive"), "{held}");
        // A native lock is seen as one of its halves, if it is looked at in the middle.
        if held["protocol"] != json!(protocol) {
            let whole = trace.event();
            assert_eq!(whole["protocol"], json!(protocol), "{held} {whole}");
        }
        let command = held["command"].as_str().unwrap();
        assert!(command.ends_with("-- sh -c echo ready; cat"), "{held}");
        let pid = holder.pid();
        assert_eq!(holder.end(), 0);
        let gone = trace.until_state(pid, "gone");
        assert_eq!(
            (&gone["mode"], &gone["protocol"]),
            (&json!(null), &json!(null))
        );
        assert!(
            gone["time"].as_f64() >= held["time"].as_f64(),
            "{held} {gone}"
        );
        assert_eq!(trace.end(), Some(0), "{protocol}");
    }
}

#[test]
fn a_waiter_takes_its_turn() {
    let dir = Dir::new();
    let lock = dir.path("lock");
    let mut trace = Trace::start(&[], &[&lock]);
    let first = Holder::flock(&lock);
    trace.until_state(first.pid(), "held");
    let mut second = exec(&[], &lock, &["sh", "-c", "read line"]);
    let mut second = second.stdin(Stdio::piped()).spawn().unwrap();
    let waits = trace.until_state(second.id(), "waits");
    assert_eq!(waits["mode"], json!("exclusive"), "{waits}");
    let pid = first.pid();
    first.end();
    let gone = trace.until_state(pid, "gone");
    let held = trace.until_state(second.id(), "held");
    assert!(
        held["time"].as_f64() >= gone["time"].as_f64(),
        "{gone} {held}"
    );
    drop(second.stdin.take());
    trace.until_state(second.id(), "gone");
    second.wait().unwrap();
    assert_eq!(trace.end(), Some(0));
}

#[test]
fn readers_and_ranges_are_seen() {
    let dir = Dir::new();
    let (shared, posix) = (dir.path("shared"), dir.path("posix"));
    let mut trace = Trace::start(&[], &[&shared, &posix]);
    let readers = [(); 2].map(|()| Holder::exec(&["-s"], &shared));
    let user = Holder::python("fcntl.lockf(f, fcntl.LOCK_EX, 5, 5)", &posix);
    let mut missing: Vec<_> = readers
        .iter()
        .map(|reader| (reader.pid(), "shared"))
        .collect();
    missing.push((user.pid(), "exclusive"));
    while !missing.is_empty() {
        let held = trace.until(|event| event["state"] == json!("held"));
        missing.retain(|(pid, mode)| (&held["pid"], &held["mode"]) != (&json!(pid), &json!(mode)));
    }
    let [one, other] = readers;
    let pid = one.pid();
    one.end();
    trace.until_state(pid, "gone");
    other.end();
    let pid = user.pid();
    user.end();
    trace.until_state(pid, "gone");
    assert_eq!(trace.end(), Some(0));
}

/// As the first process of a container, with a command in it.
#[test]
fn in_a_container_it_sees_the_holders_there() {
    let dir = Dir::new();
    let lock = dir.path("lock");
    let Some(mut inside) = container() else {
        return;
    };
    let path = lock.to_str().unwrap();
    inside.args([env!("CARGO_BIN_EXE_locket"), "trace", "--json"]);
    inside.args(["--output", "/dev/stdout", path, "--", "flock", path, "cat"]);
    let mut trace = Trace::of(inside.stdin(Stdio::piped()));
    let held = trace.until(|event| event["state"] == json!("held"));
    let command = format!("flock {path} cat");
    assert_eq!(held["command"], json!(command), "{held}");
    drop(trace.tool.stdin.take());
    trace.until(|event| event["state"] == json!("gone") && event["pid"] == held["pid"]);
    assert_eq!(trace.tool.wait().unwrap().code(), Some(0));
}

#[test]
fn in_a_container_a_record_lock_outside_is_seen_without_its_process() {
    let dir = Dir::new();
    let lock = dir.path("lock");
    let Some(mut inside) = container() else {
        return;
    };
    inside.args([env!("CARGO_BIN_EXE_locket"), "trace", "--json"]);
    let mut trace = Trace::of(inside.arg(&lock));
    let holder = Holder::python("fcntl.lockf(f, fcntl.LOCK_SH)", &lock);
    let held = trace.event();
    assert_eq!(
        (&held["pid"], &held["mode"]),
        (&json!(null), &json!("shared")),
        "{held}"
    );
    holder.end();
    assert_eq!(trace.event()["state"], json!("gone"));
    // To the first process the system delivers no signal that has no handler.
    kill_process(first_inside(trace.tool.id()), Signal::TERM).unwrap();
    assert_eq!(trace.tool.wait().unwrap().code(), Some(0));
}
