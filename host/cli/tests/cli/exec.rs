//! `locket exec`, as a shell sees it, among the other lockers of the system.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Longer than anything here takes, however busy the machine is.
const STUCK: &str = "120";

struct Dir(tempfile::TempDir);

impl Dir {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

fn exec(options: &[&str], path: &Path, command: &[&str]) -> Command {
    let mut exec = Command::new(env!("CARGO_BIN_EXE_locket"));
    exec.arg("exec")
        .args(options)
        .arg(path)
        .arg("--")
        .args(command)
        .stdin(Stdio::null());
    exec
}

fn output(mut command: Command) -> Output {
    command.output().unwrap()
}

fn code(command: Command) -> i32 {
    let output = output(command);
    output.status.code().unwrap_or_else(|| panic!("{output:?}"))
}

/// Whether a lock can be had at once.
fn is_free(options: &[&str], path: &Path) -> bool {
    let options: Vec<_> = options.iter().copied().chain(["-n", "-E", "99"]).collect();
    match code(exec(&options, path, &["true"])) {
        0 => true,
        99 => false,
        code => panic!("exit code {code}"),
    }
}

fn python(script: &str, path: &Path) -> Command {
    let mut python = Command::new("python3");
    python
        .arg("-c")
        .arg(format!("import fcntl, signal, sys\n{script}"))
        .arg(path);
    python.stdin(Stdio::null());
    python
}

/// A command that has said on its standard output that it is ready, and ends when its standard
/// input does.
struct Held {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Held {
    fn start(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let mut held = Self { child, stdout };
        assert_eq!(held.line(), "ready");
        held
    }

    fn exec(options: &[&str], path: &Path) -> Self {
        Self::start(exec(options, path, &["sh", "-c", "echo ready; cat"]))
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn signal(&self, signal: Signal) {
        kill(&self.child, signal);
    }

    /// The exit code, and where there is none, minus the signal.
    fn end(mut self) -> i32 {
        drop(self.child.stdin.take());
        let status = self.child.wait().unwrap();
        status.code().unwrap_or_else(|| -status.signal().unwrap())
    }
}

fn kill(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

/// A `locket exec -v` that has said that it waits.
fn waiter(options: &[&str], path: &Path, command: &[&str]) -> (Child, BufReader<ChildStderr>) {
    let options: Vec<_> = options.iter().copied().chain(["-v"]).collect();
    let mut child = exec(&options, path, command)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    stderr.read_line(&mut line).unwrap();
    assert!(line.contains("waiting for the"), "{line}");
    (child, stderr)
}

#[test]
fn the_exit_code_is_that_of_the_command() {
    let dir = Dir::new();
    let lock = dir.path("lock");
    for expected in [0, 1, 7, 64, 255] {
        assert_eq!(
            code(exec(&[], &lock, &["sh", "-c", &format!("exit {expected}")])),
            expected
        );
    }
    assert_eq!(
        code(exec(&[], &lock, &["sh", "-c", "kill -TERM $$"])),
        128 + 15
    );
    assert_eq!(
        code(exec(&[], &lock, &["sh", "-c", "kill -KILL $$"])),
        128 + 9
    );
}

#[test]
fn usage_errors_exit_with_64() {
    let dir = Dir::new();
    let lock = dir.path("lock");
    for options in [
        &["--nonsense"][..],
        &["--protocol", "nonsense"],
        &["-w", "soon"],
        &["-w", "-1"],
        &["-w", "1e99"],
        &["-E", "256"],
    ] {
        let output = output(exec(options, &lock, &["true"]));
        assert_eq!(output.status.code(), Some(64), "{options:?}");
        assert!(!output.stderr.is_empty() && output.stdout.is_empty());
    }
    let locket = |args: &[&str]| {
        let mut locket = Command::new(env!("CARGO_BIN_EXE_locket"));
        locket.args(args);
        code(locket)
    };
    assert_eq!(code(exec(&[], &lock, &[])), 64);
    assert_eq!(locket(&[]), 64);
    assert_eq!(locket(&["nonsense"]), 64);
    assert_eq!(locket(&["--help"]), 0);
    assert_eq!(locket(&["--version"]), 0);
    assert_eq!(locket(&["exec", "--help"]), 0);
    assert!(!lock.exists());
}

#[test]
fn a_lock_file_that_cannot_be_opened_is_66() {
    let dir = Dir::new();
    for path in ["missing/lock", ".", "fifo"] {
        let path = dir.path(path);
        if path.ends_with("fifo") {
            assert!(
                Command::new("mkfifo")
                    .arg(&path)
                    .status()
                    .unwrap()
                    .success()
            );
        }
        let output = output(exec(&[], &path, &["echo", "ran"]));
        assert_eq!(output.status.code(), Some(66), "{output:?}");
        assert!(output.stdout.is_empty());
        assert!(
            String::from_utf8(output.stderr)
                .unwrap()
                .contains(&*path.to_string_lossy())
        );
    }
}

#[test]
fn a_command_that_cannot_run_is_126_or_127_and_leaves_the_lock_free() {
    let dir = Dir::new();
    let lock = dir.path("lock");
    std::fs::write(dir.path("text"), "no program").unwrap();
    let text = dir.path("text");
    assert_eq!(code(exec(&[], &lock, &[text.to_str().unwrap()])), 126);
    assert_eq!(code(exec(&[], &lock, &["no-such-command-anywhere"])), 127);
    assert!(is_free(&[], &lock));
}

#[test]
fn without_waiting_a_held_lock_is_a_conflict_at_once() {
    let dir = Dir::new();
    let lock = dir.path("lock");
    let held = Held::exec(&[], &lock);
    for options in [
        &["-n"][..],
        &["--nonblock"],
        &["-w", "0"],
        &["--timeout", "0.0"],
    ] {
        assert_eq!(code(exec(options, &lock, &["true"])), 1, "{options:?}");
        let options: Vec<_> = options.iter().copied().chain(["-E", "75"]).collect();
        let output = output(exec(&options, &lock, &["echo", "ran"]));
        assert_eq!(output.status.code(), Some(75));
        // Silent, as flock(1) is.
        assert!(output.stdout.is_empty() && output.stderr.is_empty());
    }
    assert_eq!(held.end(), 0);
    assert_eq!(code(exec(&["-n"], &lock, &["true"])), 0);
}

#[test]
fn a_timeout_is_waited_for_and_no_longer() {
    let dir = Dir::new();
    let lock = dir.path("lock");
    let held = Held::exec(&[], &lock);
    let start = Instant::now();
    assert_eq!(code(exec(&["-w", "0.3", "-E", "9"], &lock, &["true"])), 9);
    assert!(start.elapsed() >= Duration::from_millis(300));

    let (mut child, mut stderr) = waiter(&["-w", STUCK], &lock, &["sh", "-c", "exit 3"]);
    assert_eq!(child.try_wait().unwrap(), None);
    assert_eq!(held.end(), 0);
    assert_eq!(child.wait().unwrap().code(), Some(3));
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).unwrap();
    for part in [
        "acquired the exclusive lock",
        "executing sh -c exit 3",
        "exit status: 3",
    ] {
        assert!(rest.contains(part), "{rest}");
    }
}

#[test]
fn shared_locks_share_and_exclusive_ones_do_not() {
    let dir = Dir::new();
    let lock = dir.path("lock");
    let first = Held::exec(&["-s"], &lock);
    let second = Held::exec(&["--shared"], &lock);
    assert!(is_free(&["-s"], &lock));
    assert!(!is_free(&["-x"], &lock));
    assert!(!is_free(&[], &lock));
    // The last one counts.
    assert!(is_free(&["-x", "-s"], &lock));
    assert!(!is_free(&["-s", "-x"], &lock));
    first.end();
    assert!(!is_free(&["-x"], &lock));
    second.end();
    let exclusive = Held::exec(&["-x"], &lock);
    assert!(!is_free(&["-s"], &lock));
    exclusive.end();
    assert!(is_free(&["-x"], &lock));
}

#[test]
fn what_follows_the_dashes_is_the_commands() {
    let dir = Dir::new();
    let lock = dir.path("lock");
    let echo = |command: &[&str]| {
        let output = output(exec(&["-n"], &lock, command));
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(
        echo(&["echo", "-v", "--help", "--", "-n", "a  b"]),
        "-v --help -- -n a  b\n"
    );
    // As with flock(1), the dashes may be left out.
    let mut bare = Command::new(env!("CARGO_BIN_EXE_locket"));
    bare.args(["exec", "-n"])
        .arg(&lock)
        .args(["echo", "-s", "--shared", "--", "x"]);
    assert_eq!(bare.output().unwrap().stdout, b"-s --shared -- x\n");
}

/// The ways of others to lock a file exclusively.
#[derive(Clone, Copy, Debug)]
enum Foreign {
    Flock1,
    PythonFlock,
    PythonLockf,
}

impl Foreign {
    const ALL: [Self; 3] = [Self::Flock1, Self::PythonFlock, Self::PythonLockf];

    fn hold(self, path: &Path) -> Held {
        Held::start(match self {
            Self::Flock1 => {
                let mut flock = Command::new("flock");
                flock.arg(path).args(["sh", "-c", "echo ready; cat"]);
                flock
            }
            Self::PythonFlock | Self::PythonLockf => {
                let call = self.call();
                let wait = "print('ready', flush=True); sys.stdin.read()";
                python(
                    &format!("f = open(sys.argv[1], 'a')\n{call}(f, fcntl.LOCK_EX)\n{wait}"),
                    path,
                )
            }
        })
    }

    fn is_free(self, path: &Path) -> bool {
        let code = code(match self {
            Self::Flock1 => {
                let mut flock = Command::new("flock");
                flock.args(["-n", "-E", "9"]).arg(path).arg("true");
                flock
            }
            Self::PythonFlock | Self::PythonLockf => {
                let lock = format!("{}(f, fcntl.LOCK_EX | fcntl.LOCK_NB)", self.call());
                let script =
                    format!("f = open(sys.argv[1], 'a')\ntry: {lock}\nexcept OSError: sys.exit(9)");
                python(&script, path)
            }
        });
        assert!(code == 0 || code == 9, "{self:?}: {code}");
        code == 0
    }

    fn call(self) -> &'static str {
        if matches!(self, Self::PythonLockf) {
            "fcntl.lockf"
        } else {
            "fcntl.flock"
        }
    }
}

#[test]
fn it_excludes_foreign_lockers_and_they_exclude_it() {
    let dir = Dir::new();
    for foreign in Foreign::ALL {
        for protocol in ["native", "flock"] {
            // That is what `native` is for.
            let excludes = protocol == "native" || !matches!(foreign, Foreign::PythonLockf);
            let lock = dir.path(&format!("{foreign:?}-{protocol}"));
            let what = format!("{foreign:?} and {protocol}");

            let held = Held::exec(&["--protocol", protocol], &lock);
            assert_eq!(foreign.is_free(&lock), !excludes, "{what}");
            assert_eq!(held.end(), 0);
            assert!(foreign.is_free(&lock), "{what}");

            let held = foreign.hold(&lock);
            assert_eq!(
                is_free(&["--protocol", protocol], &lock),
                !excludes,
                "{what}"
            );
            assert_eq!(held.end(), 0);
            assert!(is_free(&["--protocol", protocol], &lock), "{what}");
        }
    }
}

#[test]
fn it_waits_for_a_foreign_locker() {
    let dir = Dir::new();
    for foreign in Foreign::ALL {
        let lock = dir.path(&format!("{foreign:?}"));
        let held = foreign.hold(&lock);
        let (mut child, _stderr) = waiter(&["-w", STUCK], &lock, &["true"]);
        assert_eq!(held.end(), 0);
        assert!(child.wait().unwrap().success(), "{foreign:?}");
    }
}

#[test]
fn a_command_keeps_its_lock_when_locket_is_killed() {
    let dir = Dir::new();
    let lock = dir.path("lock");
    let mut held = Held::exec(&[], &lock);
    // To wait for a child would close it.
    let input = held.child.stdin.take();
    held.signal(Signal::KILL);
    assert_eq!(held.child.wait().unwrap().signal(), Some(9));
    // Only `cat` is left.
    assert!(!is_free(&[], &lock));
    for foreign in Foreign::ALL {
        assert!(!foreign.is_free(&lock), "{foreign:?}");
    }
    drop(input);
    assert_eq!(code(exec(&["-w", STUCK], &lock, &["true"])), 0);
}

#[test]
fn what_the_command_leaves_behind_does_not_keep_the_lock() {
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

#[test]
fn signals_that_ask_to_end_are_passed_on() {
    let dir = Dir::new();
    let lock = dir.path("lock");
    let script = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(5))\n\
                  signal.signal(signal.SIGHUP, lambda *_: sys.exit(6))\n\
                  print('ready', flush=True)\n\
                  sys.stdin.read()";
    let script = format!("import signal, sys\n{script}");
    for (signal, expected) in [(Signal::TERM, 5), (Signal::HUP, 6)] {
        let held = Held::start(exec(&[], &lock, &["python3", "-c", &script]));
        // These come from the keyboard, and then reach the command by themselves.
        held.signal(Signal::INT);
        held.signal(Signal::QUIT);
        assert!(!is_free(&[], &lock));
        held.signal(signal);
        // Without the end of its input.
        let Held { mut child, .. } = held;
        let input = child.stdin.take();
        assert_eq!(child.wait().unwrap().code(), Some(expected));
        drop(input);
        assert!(is_free(&[], &lock));
    }
    let held = Held::exec(&[], &lock);
    held.signal(Signal::TERM);
    let Held { mut child, .. } = held;
    let input = child.stdin.take();
    assert_eq!(child.wait().unwrap().code(), Some(128 + 15));
    drop(input);
}

#[test]
fn signals_end_the_wait_as_usual() {
    let dir = Dir::new();
    let lock = dir.path("lock");
    let held = Held::exec(&[], &lock);
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let (mut child, _stderr) = waiter(&[], &lock, &["true"]);
        kill(&child, signal);
        assert_eq!(child.wait().unwrap().signal(), Some(signal.as_raw()));
    }
    assert_eq!(held.end(), 0);
    assert!(is_free(&[], &lock));
}

#[test]
fn ignored_signals_stay_ignored() {
    let dir = Dir::new();
    let script = "trap '' HUP; exec \"$@\"";
    let mut nohup = Command::new("sh");
    nohup.args(["-c", script, "sh", env!("CARGO_BIN_EXE_locket"), "exec"]);
    nohup
        .arg(dir.path("lock"))
        .args(["--", "grep", "SigIgn", "/proc/self/status"]);
    let output = output(nohup);
    let mask = String::from_utf8(output.stdout).unwrap();
    let mask = u64::from_str_radix(mask.split_whitespace().last().unwrap(), 16).unwrap();
    assert_eq!(mask & 1, 1, "{mask:x}");
    assert_eq!(mask >> 14 & 1, 0, "{mask:x}");
}

#[test]
fn the_file_stays_as_it_was_unless_it_shall_go() {
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
    let held = Held::exec(&["--remove"], &lock);
    let (mut child, _stderr) = waiter(&["-w", STUCK], &lock, &["true"]);
    assert_eq!(held.end(), 0);
    assert!(child.wait().unwrap().success());
    assert!(is_free(&[], &lock));
}

#[test]
fn a_lock_file_that_was_removed_meanwhile_is_worth_a_warning() {
    let dir = Dir::new();
    let lock = dir.path("lock");
    let output = output(exec(&[], &lock, &["rm", lock.to_str().unwrap()]));
    assert!(output.status.success());
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("warning"), "{message}");
}
