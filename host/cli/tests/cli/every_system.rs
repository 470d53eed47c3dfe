//! What the tool does on every system.

#[cfg(feature = "run")]
mod components;
#[cfg(windows)]
mod python;

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use serde_json::Value;

const LOCKET: &str = env!("CARGO_BIN_EXE_locket");

fn lock() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a temporary directory can be created");
    let path = dir.path().join("app.lock");
    (dir, path)
}

fn locket(args: &[&str]) -> Command {
    let mut locket = Command::new(LOCKET);
    // A shell from Unix may have set it on Windows.
    locket.args(args).stdin(Stdio::null()).env_remove("SHELL");
    locket
}

fn exec(options: &[&str], path: &Path, command: &[&str]) -> Command {
    let mut exec = locket(&["exec"]);
    exec.args(options).arg(path).arg("--").args(command);
    exec
}

fn output(mut command: Command) -> Output {
    command.output().expect("the tool can be started")
}

fn code(command: Command) -> Option<i32> {
    output(command).status.code()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A command that a lock protects: it ends with its input.
struct Held {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Held {
    /// Returns once the command runs.
    fn start(options: &[&str], path: &Path) -> Self {
        let mut exec = exec(options, path, &[LOCKET, "status-worker"]);
        let streams = exec.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = streams.spawn().expect("the tool can be started");
        let input = child.stdin.as_mut().expect("it is a pipe");
        input.write_all(b"nothing\0").expect("the command reads");
        let mut output = BufReader::new(child.stdout.take().expect("it is a pipe"));
        let mut line = String::new();
        output.read_line(&mut line).expect("the command answers");
        assert!(line.contains("nothing"), "{line}");
        Self { child, output }
    }

    fn end(mut self) {
        drop(self.child.stdin.take());
        let mut rest = String::new();
        let read = self.output.read_to_string(&mut rest);
        read.expect("the output has an end");
        assert_eq!(rest, "");
        let status = self.child.wait().expect("the tool ends");
        assert_eq!(status.code(), Some(0));
    }
}

#[test]
fn a_lock_excludes_others_while_the_command_runs() {
    let (_dir, path) = lock();
    let command = [LOCKET, "completions", "bash"];
    let held = Held::start(&[], &path);
    assert_eq!(code(exec(&["-n"], &path, &command)), Some(1));
    assert_eq!(
        code(exec(&["-n", "-s", "-E", "75"], &path, &command)),
        Some(75)
    );
    assert_eq!(code(exec(&["-w", "0.1"], &path, &command)), Some(1));
    held.end();
    assert_eq!(code(exec(&["-n"], &path, &command)), Some(0));
}

#[test]
fn readers_share_a_lock_and_exclude_a_writer() {
    let (_dir, path) = lock();
    let readers = [Held::start(&["-s"], &path), Held::start(&["-s"], &path)];
    assert_eq!(code(exec(&["-n"], &path, &[LOCKET])), Some(1));
    readers.into_iter().for_each(Held::end);
    Held::start(&["-n"], &path).end();
}

#[test]
fn a_waiter_gets_the_lock_that_is_released() {
    let (_dir, path) = lock();
    let held = Held::start(&[], &path);
    let mut exec = exec(&["-v"], &path, &[LOCKET, "completions", "bash"]);
    let streams = exec.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut waiter = streams.spawn().expect("the tool can be started");
    let mut said = BufReader::new(waiter.stderr.take().expect("it is a pipe"));
    let mut line = String::new();
    said.read_line(&mut line).expect("the tool reports");
    assert!(line.contains("waiting for the exclusive lock"), "{line}");
    held.end();
    let mut rest = String::new();
    said.read_to_string(&mut rest).expect("the tool reports");
    assert!(rest.contains("acquired"), "{rest}");
    assert_eq!(waiter.wait().expect("the tool ends").code(), Some(0));
}

#[test]
fn the_code_is_that_of_the_command() {
    let (_dir, path) = lock();
    assert_eq!(code(exec(&[], &path, &[LOCKET, "exec"])), Some(64));
    assert_eq!(code(exec(&[], &path, &["no-such-program"])), Some(127));
    let mut line = locket(&["exec"]);
    line.arg(&path).args(["-c", "exit 7"]);
    assert_eq!(code(line), Some(7));
    if cfg!(windows) {
        let mut line = locket(&["exec"]);
        line.arg(&path).args(["-c", "exit 70000"]);
        assert_eq!(code(line), Some(70000));
    }
}

/// On Windows, where a lock ends with the process that acquired it.
#[cfg(windows)]
#[test]
fn a_command_ends_with_the_tool_that_is_killed() {
    let (_dir, path) = lock();
    let mut held = Held::start(&[], &path);
    held.child.kill().expect("the tool can be killed");
    let mut rest = Vec::new();
    // The input of the command stays open.
    let read = held.output.read_to_end(&mut rest);
    read.expect("the output has an end");
    held.child.wait().expect("the tool ends");
    Held::start(&["-w", "20"], &path).end();
}

#[cfg(windows)]
#[test]
fn what_windows_has_not_is_said() {
    let (_dir, path) = lock();
    let refused = output(exec(&["-F"], &path, &[LOCKET]));
    assert_eq!(refused.status.code(), Some(69));
    assert!(text(&refused.stderr).contains("cannot replace a process"));
    assert_eq!(code(locket(&["exec", "9"])), Some(69));
}

fn report(path: &Path) -> Value {
    let mut status = locket(&["status", "--json"]);
    status.arg(path);
    serde_json::from_slice(&output(status).stdout).expect("the output is JSON")
}

#[test]
fn status_tells_the_holder_as_far_as_the_system_does() {
    let (_dir, path) = lock();
    assert_eq!(report(&path)["held"], false);
    let held = Held::start(&[], &path);
    let pid = held.child.id();
    let now = report(&path);
    let holds = |holder: &Value| holder["pid"] == pid;
    let holders = now["holders"].as_array().expect("it is an array");
    if cfg!(windows) {
        assert_eq!(now["unknown"], "not-told", "{now}");
        assert!(holders.is_empty() || holders.iter().any(holds), "{now}");
    } else {
        assert_eq!(now["held"], true, "{now}");
        assert!(holders.iter().any(holds), "{now}");
    }
    held.end();
    assert_ne!(report(&path)["held"], true);
}

#[test]
fn break_refuses_a_kernel_lock() {
    let (_dir, path) = lock();
    let held = Held::start(&[], &path);
    let mut kernel = locket(&["break", "--protocol", "native"]);
    kernel.arg(&path);
    assert_eq!(code(kernel), Some(69));
    held.end();
}

#[test]
fn break_finds_nothing_to_break() {
    let (_dir, path) = lock();
    let mut free = locket(&["break"]);
    free.arg(&path);
    assert_eq!(code(free), Some(1));
}

#[test]
fn check_recommends_the_default_in_a_local_directory() {
    let dir = tempfile::tempdir().expect("a temporary directory can be created");
    let mut check = locket(&["check", "--json"]);
    check.arg(dir.path());
    let output = output(check);
    let report: Value = serde_json::from_slice(&output.stdout).expect("the output is JSON");
    assert_eq!(report["answers"], true, "{report}");
    let protocols = report["protocols"].as_array().expect("it is an array");
    let native = protocols.iter().find(|one| one["protocol"] == "native");
    let native = native.expect("the default is judged");
    for outcome in [
        "acquired",
        "exclusive",
        "excludes_flock",
        "shared",
        "granted",
    ] {
        assert_eq!(native["tries"][outcome], "yes", "{native}");
    }
    // What stands in for the calls that Wine lacks gives open files another name.
    if !cfg!(windows) || std::env::var_os("WINEPREFIX").is_none() {
        assert_eq!(report["left_behind"], Value::Null, "{report}");
        let left = std::fs::read_dir(dir.path()).expect("it can be read");
        assert_eq!(left.count(), 0);
    }
}

#[test]
fn completions_and_pages_are_written() {
    let completions = output(locket(&["completions", "powershell"]));
    assert!(text(&completions.stdout).contains("exec"));
    let dir = tempfile::tempdir().expect("a temporary directory can be created");
    let mut man = locket(&["man"]);
    man.arg(dir.path());
    assert_eq!(code(man), Some(0));
    assert!(dir.path().join("locket-exec.1").exists());
}

#[cfg(not(target_os = "linux"))]
#[test]
fn a_trace_is_not_available() {
    let traced = output(locket(&["trace", "--for", "1", "app.lock"]));
    assert_eq!(traced.status.code(), Some(69));
    assert!(text(&traced.stderr).contains("is not available on this system"));
}
