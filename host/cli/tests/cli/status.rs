//! `locket status`, asked about all kinds of holders.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant, SystemTime};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

struct Dir(tempfile::TempDir);

impl Dir {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

fn locket(args: &[&str]) -> Command {
    let mut locket = Command::new(env!("CARGO_BIN_EXE_locket"));
    locket.args(args).stdin(Stdio::null());
    locket
}

fn output(mut command: Command) -> Output {
    command.output().unwrap()
}

/// What `locket status` says about a path, in words.
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

/// Asks until the answer is as it should be, since not everything that others do is announced.
fn status_when(path: &Path, is_right: impl Fn(&Value) -> bool) -> Value {
    let start = Instant::now();
    loop {
        let status = status(path);
        if is_right(&status) {
            return status;
        }
        assert!(start.elapsed() < Duration::from_secs(120), "{status}");
        std::thread::yield_now();
    }
}

/// A command that has said that it is ready, and ends when its standard input does.
struct Held {
    child: Child,
    _stdout: BufReader<ChildStdout>,
}

impl Held {
    fn start(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Self {
            child,
            _stdout: stdout,
        }
    }

    fn exec(options: &[&str], path: &Path) -> Self {
        let mut exec = locket(&["exec"]);
        exec.args(options)
            .arg(path)
            .args(["--", "sh", "-c", "echo ready; cat"]);
        Self::start(exec)
    }

    fn flock(path: &Path) -> Self {
        let mut flock = Command::new("flock");
        flock.arg(path).args(["sh", "-c", "echo ready; cat"]);
        Self::start(flock)
    }

    fn python(lock: &str, path: &Path) -> Self {
        let script = format!(
            "import fcntl, struct, sys\n\
             f = open(sys.argv[1], 'a+')\n\
             {lock}\n\
             print('ready', flush=True)\n\
             sys.stdin.read()"
        );
        let mut python = Command::new("python3");
        python.arg("-c").arg(script).arg(path);
        Self::start(python)
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    fn end(mut self) {
        drop(self.child.stdin.take());
        self.child.wait().unwrap();
    }
}

/// The one holder, who must be as expected in mode, protocol and process.
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
    let expected = json!({
        "path": lock, "exists": false, "held": false, "mode": null, "holders": [], "waiting": 0,
    });
    assert_eq!(status(&lock), expected);
    assert!(!lock.exists());
}

#[test]
fn an_unlocked_file_is_free() {
    let dir = Dir::new();
    let lock = dir.path("lock");
    std::fs::write(&lock, "").unwrap();
    assert_eq!(words(&lock), "free");
    let expected = json!({
        "path": lock, "exists": true, "held": false, "mode": null, "holders": [], "waiting": 0,
    });
    assert_eq!(status(&lock), expected);
}

#[test]
fn a_native_holder_is_named_with_command_and_start() {
    let dir = Dir::new();
    let lock = dir.path("lock");
    let held = Held::exec(&[], &lock);
    let status = status(&lock);
    assert_holder(&status, "exclusive", "native", held.pid());
    let holder = &status["holders"][0];
    assert!(
        holder["command"]
            .as_str()
            .unwrap()
            .ends_with("-- sh -c echo ready; cat"),
        "{status}"
    );
    let since = Duration::from_secs(holder["since"].as_u64().unwrap());
    let age = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap()
        .abs_diff(since);
    assert!(age < Duration::from_secs(600), "{status}");
    let words = words(&lock);
    let start = format!("held exclusively by process {}, ", held.pid());
    assert!(
        words.starts_with(&start) && words.contains("(native, started "),
        "{words}"
    );
    held.end();
    assert_eq!(
        status_when(&lock, |status| status["held"] == json!(false))["holders"],
        json!([])
    );
}

#[test]
fn foreign_holders_are_named_with_their_family() {
    let dir = Dir::new();
    let lock = dir.path("flock");
    let held = Held::flock(&lock);
    assert_holder(&status(&lock), "exclusive", "flock", held.pid());
    held.end();

    let lock = dir.path("posix");
    let held = Held::python("fcntl.lockf(f, fcntl.LOCK_SH)", &lock);
    assert_holder(&status(&lock), "shared", "fcntl", held.pid());
    held.end();

    // It belongs to nobody, so it is found by who has the file open.
    let lock = dir.path("ofd");
    let call =
        "fcntl.fcntl(f, fcntl.F_OFD_SETLK, struct.pack('hhqqi4x', fcntl.F_WRLCK, 0, 0, 0, 0))";
    let held = Held::python(call, &lock);
    assert_holder(&status(&lock), "exclusive", "fcntl", held.pid());
    held.end();

    let lock = dir.path("only-flock");
    let held = Held::exec(&["--protocol", "flock"], &lock);
    assert_holder(&status(&lock), "exclusive", "flock", held.pid());
    held.end();
}

#[test]
fn all_who_share_are_named() {
    let dir = Dir::new();
    let lock = dir.path("lock");
    let (first, second) = (Held::exec(&["-s"], &lock), Held::exec(&["-s"], &lock));
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

#[test]
fn an_heir_is_named_where_the_holder_was_killed() {
    let dir = Dir::new();
    let lock = dir.path("lock");
    let mut held = Held::exec(&[], &lock);
    let killed = held.pid();
    // To wait for a child would close it.
    let input = held.child.stdin.take();
    kill_process(Pid::from_child(&held.child), Signal::KILL).unwrap();
    held.child.wait().unwrap();
    let status = status(&lock);
    assert_eq!(status["mode"], json!("exclusive"));
    let holders = status["holders"].as_array().unwrap();
    assert!(!holders.is_empty());
    for holder in holders {
        assert_eq!(holder["protocol"], json!("native"), "{status}");
        assert_ne!(holder["pid"], json!(killed), "{status}");
        assert!(
            holder["command"].as_str().unwrap().contains("cat"),
            "{status}"
        );
    }
    drop(input);
    status_when(&lock, |status| status["held"] == json!(false));
}

#[test]
fn those_who_wait_are_counted_and_do_not_hold() {
    let dir = Dir::new();
    let lock = dir.path("lock");
    let held = Held::exec(&[], &lock);
    let mut waiter = locket(&["exec", lock.to_str().unwrap(), "--", "true"])
        .spawn()
        .unwrap();
    let status = status_when(&lock, |status| status["waiting"] == json!(1));
    assert_holder(&status, "exclusive", "native", held.pid());
    assert!(words(&lock).ends_with("; 1 waiter"));
    held.end();
    assert!(waiter.wait().unwrap().success());
}

#[test]
fn another_name_of_the_file_is_the_same_lock() {
    let dir = Dir::new();
    let lock = dir.path("lock");
    let held = Held::exec(&[], &lock);
    std::os::unix::fs::symlink("lock", dir.path("symlink")).unwrap();
    std::fs::hard_link(&lock, dir.path("hardlink")).unwrap();
    for name in ["symlink", "hardlink"] {
        assert_holder(&status(&dir.path(name)), "exclusive", "native", held.pid());
    }
    held.end();
}

#[test]
fn asking_takes_no_lock() {
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
            // Not even opened, since closing drops the record locks of a process.
            assert!(!trace.contains(lock.to_str().unwrap()), "{trace}");
        }
        Err(e) => {
            assert!(std::env::var_os("CI").is_none(), "CI must have strace: {e}");
            eprintln!("NOT RUN, for want of strace: {e}");
        }
    }
}

#[test]
fn several_paths_are_a_line_each_or_an_array() {
    let dir = Dir::new();
    let (a, b) = (dir.path("a"), dir.path("b"));
    let held = Held::exec(&[], &a);
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
    held.end();
}

#[test]
fn a_path_that_cannot_be_examined_is_66_and_the_others_are_told() {
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
