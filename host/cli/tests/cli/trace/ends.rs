//! When a trace ends, and with which exit code.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

use locket_test_support::waits::eventually;
use rustix::fs::OFlags;
use rustix::process::Signal;

use super::Trace;
use crate::support::{Dir, Holder, code, full_pipe, kill, locket, output};

#[test]
fn an_interrupt_ends_it_with_the_picture() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT] {
        let dir = Dir::new();
        let (lock, text) = (dir.path("lock"), dir.path("text"));
        let holder = Holder::flock(&lock);
        let mut trace = locket(&["trace", "--json"]);
        trace.arg("--svg").arg(&text);
        let mut trace = Trace::of(trace.arg(&lock));
        trace.until_state(holder.pid(), "held");
        kill(&trace.tool, signal);
        assert_eq!(trace.tool.wait().unwrap().code(), Some(0), "{signal:?}");
        let picture = std::fs::read_to_string(text).unwrap();
        assert!(picture.ends_with("</svg>\n"), "{picture}");
        holder.end();
    }
}

/// The first one made it print, to a pipe that is full.
#[test]
fn a_second_interrupt_ends_it_at_once() {
    let dir = Dir::new();
    let fifo = dir.path("fifo");
    assert_eq!(code(command("mkfifo", &[fifo.to_str().unwrap()])), 0);
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(flags);
    let mut pipe = options.open(&fifo).unwrap();
    while pipe.write(&[b'x'; 512]).is_ok() {}
    let mut trace = locket(&["trace", "--output"]);
    let mut trace = trace.arg(&fifo).arg(dir.path("lock")).spawn().unwrap();
    let mut end = None;
    eventually("the signal ends it", || {
        kill(&trace, Signal::INT);
        end = trace.try_wait().unwrap();
        end.is_some()
    });
    assert_eq!(end.unwrap().signal(), Some(Signal::INT.as_raw()));
}

/// What it prints waits for a reader. The signals do not.
#[test]
fn a_reader_that_does_not_read_holds_up_no_signal() {
    let dir = Dir::new();
    let lock = dir.path("lock");
    let holder = Holder::flock(&lock);
    let (_reader, full) = full_pipe();
    let mut trace = locket(&["trace", "--json", "--for", "0.2"]);
    let mut trace = trace.arg(&lock).stdout(full).spawn().unwrap();
    eventually("a signal ends it after its time", || {
        kill(&trace, Signal::TERM);
        trace.try_wait().unwrap().is_some()
    });
    let (_reader, full) = full_pipe();
    let mut trace = locket(&["trace", "--json"]);
    trace
        .arg(&lock)
        .args(["--", "sh", "-c", "echo ready; exec cat"]);
    trace.stderr(full);
    let tracer = Holder::start(trace);
    let state = || std::fs::read_to_string(format!("/proc/{}/status", tracer.pid())).unwrap();
    eventually("it waits for its reader", || state().contains("State:\tS"));
    let children = format!("/proc/{0}/task/{0}/children", tracer.pid());
    // The other children look at the locks.
    let has_command = || {
        let children = std::fs::read_to_string(&children).unwrap();
        let name = |child: &str| std::fs::read_to_string(format!("/proc/{child}/comm"));
        let mut names = children.split_whitespace().flat_map(name);
        names.any(|name| name.trim() == "cat")
    };
    eventually("the command runs", has_command);
    tracer.signal(Signal::TERM);
    eventually("the signal ends the command", || !has_command());
    eventually("another one ends the trace", || {
        tracer.signal(Signal::TERM);
        state().contains("State:\tZ")
    });
    holder.end();
}

/// It takes a part of a line, and waits for room for the rest.
#[test]
fn a_terminal_that_nothing_reads_holds_up_no_signal() {
    let dir = Dir::new();
    let lock = dir.path("lock");
    let mut flock = command("flock", &[lock.to_str().unwrap()]);
    flock
        .args(["sh", "-c", "echo ready; cat"])
        .arg("a".repeat(6000));
    let holder = Holder::start(flock);
    let script = "import os, signal, subprocess, sys
master, slave = os.openpty()
fill = os.open(os.ttyname(slave), os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
try:
    while True: os.write(fill, b'x' * 100)
except BlockingIOError: pass
os.read(master, 600)
trace = subprocess.Popen(sys.argv[1:], stdout=slave)
def blocks(number):
    status = open(f'/proc/{trace.pid}/status').read()
    return int(status.split('SigBlk:')[1].split()[0], 16) >> (number - 1) & 1
while not blocks(signal.SIGTERM): pass
while trace.poll() is None:
    trace.send_signal(signal.SIGTERM)
    try: trace.wait(0.01)
    except subprocess.TimeoutExpired: pass";
    let trace = [env!("CARGO_BIN_EXE_locket"), "trace", "--json"];
    let mut python = command("python3", &["-c", script]);
    python.args(trace).arg(&lock);
    assert_eq!(code(python), 0);
    holder.end();
}

#[test]
fn a_time_ends_it() {
    let dir = Dir::new();
    let lock = dir.path("lock");
    let mut trace = locket(&["trace", "--for", "0.2"]);
    trace.arg(&lock);
    let output = output(trace);
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("no holder or waiter was seen"), "{text}");
    assert!(text.contains(" looks, one every 10 ms; "), "{text}");
    assert!(!lock.exists());
}

#[test]
fn a_time_that_no_clock_has_never_ends_it() {
    for seconds in ["1e19", "9e18"] {
        let dir = Dir::new();
        let lock = dir.path("lock");
        let mut trace = Trace::start(&["--for", seconds], &[&lock]);
        let holder = Holder::flock(&lock);
        trace.until_state(holder.pid(), "held");
        holder.end();
        assert_eq!(trace.end(), Some(0), "{seconds}");
    }
}

#[test]
fn the_exit_code_is_that_of_the_command() {
    let dir = Dir::new();
    let path = dir.path("lock");
    let path = path.to_str().unwrap();
    let cases: [(&[&str], i32); 4] = [
        (&["sh", "-c", "exit 7"], 7),
        (&["sh", "-c", "kill -KILL $$"], 128 + 9),
        (&["./missing"], 127),
        (&["/"], 126),
    ];
    for (words, expected) in cases {
        let trace = locket(&[&["trace", path, "--"], words].concat());
        assert_eq!(code(trace), expected, "{words:?}");
    }
}

#[test]
fn a_command_has_its_own_output_and_the_descriptors_of_the_caller() {
    let dir = Dir::new();
    let lock = dir.path("lock");
    let script =
        r#"exec 9>"$2"; exec "$0" trace "$1" -- flock "$1" sh -c 'echo out; echo kept >&9'"#;
    let kept = dir.path("kept");
    let paths = [lock.to_str().unwrap(), kept.to_str().unwrap()];
    let shell = ["-c", script, env!("CARGO_BIN_EXE_locket")];
    let output = output(command("bash", &[&shell[..], &paths].concat()));
    assert!(output.status.success(), "{output:?}");
    assert_eq!(output.stdout, b"out\n");
    let picture = String::from_utf8(output.stderr).unwrap();
    assert!(picture.contains("█ held exclusively"), "{picture}");
    assert_eq!(std::fs::read_to_string(kept).unwrap(), "kept\n");
}

#[test]
fn a_signal_is_passed_on_to_the_command() {
    let dir = Dir::new();
    let lock = dir.path("lock");
    let path = lock.to_str().unwrap();
    let script = "trap 'exit 5' USR1; echo ready; while :; do read line; done";
    let mut holder = locket(&["trace", "--json", "--output"]);
    holder.arg(dir.path("events")).arg(path).arg("--");
    holder.args(["flock", "-F", path, "bash", "-c", script]);
    let holder = Holder::start(holder);
    holder.signal(Signal::USR1);
    let (code, _input) = holder.ended();
    assert_eq!(code, 5);
}

/// The command runs on.
#[test]
fn a_reader_that_has_gone_does_not_end_the_command() {
    let dir = Dir::new();
    let (lock, done) = (dir.path("lock"), dir.path("done"));
    let path = lock.to_str().unwrap();
    let mut trace = locket(&["trace", "--json", "--output", "/dev/stdout", path, "--"]);
    trace.args([
        "sh",
        "-c",
        r#"read line; flock "$0" true; read line; touch "$1"; exit 6"#,
    ]);
    trace.arg(&lock).arg(&done).stdin(Stdio::piped());
    let mut child = trace.stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"\n\n").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(6));
    assert!(done.exists());
}

#[test]
fn what_cannot_work_fails_before_the_command() {
    let dir = Dir::new();
    let (lock, done) = (dir.write("lock", ""), dir.path("done"));
    let below = dir.path("lock/below");
    let missing = dir.path("missing/file");
    let touch = ["--", "touch", done.to_str().unwrap()];
    let missing = missing.to_str().unwrap();
    let cases = [
        vec![below.to_str().unwrap()],
        vec!["--svg", missing, lock.to_str().unwrap()],
        vec!["--output", missing, lock.to_str().unwrap()],
    ];
    for case in cases {
        let trace = locket(&[&["trace"][..], &case, &touch].concat());
        let output = output(trace);
        assert_eq!(output.status.code(), Some(66), "{output:?}");
        let message = String::from_utf8(output.stderr).unwrap();
        let named = [missing, below.to_str().unwrap()];
        assert!(named.iter().any(|path| message.contains(path)), "{message}");
    }
    assert!(!done.exists());
    for wrong in [
        &["--interval", "0"][..],
        &["--for", "x"],
        &["--for", "1", "l", "--", "true"],
    ] {
        let trace = locket(&[&["trace"], wrong, &["lock"]].concat());
        assert_eq!(code(trace), 64, "{wrong:?}");
    }
}

/// Ctrl-C on a terminal goes to all processes of the trace.
#[test]
fn on_a_terminal_it_shows_what_happens_and_then_the_picture() {
    let dir = Dir::new();
    let lock = dir.path("lock");
    let holder = Holder::flock(&lock);
    let script = "import os, pty, sys
pid, fd = pty.fork()
if pid == 0: os.execv(sys.argv[1], [sys.argv[1], 'trace', '--interval', '100', sys.argv[2]])
seen = b''
interrupted = False
while True:
    try: data = os.read(fd, 4096)
    except OSError: break
    if not data: break
    seen += data
    if b'held exclusively' in seen and not interrupted:
        interrupted = True
        os.write(fd, b'\\x03')
sys.stdout.buffer.write(seen)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))";
    let shown = output(command(
        "python3",
        &[
            "-c",
            script,
            env!("CARGO_BIN_EXE_locket"),
            lock.to_str().unwrap(),
        ],
    ));
    assert!(shown.status.success(), "{shown:?}");
    let shown = String::from_utf8(shown.stdout).unwrap();
    let (live, picture) = shown.split_once("  process  command").expect(&shown);
    let pid = holder.pid().to_string();
    assert!(live.contains(&pid), "{shown}");
    let mut rows = picture.lines().filter(|line| line.trim().starts_with(&pid));
    let (row, line) = (rows.next().expect(&shown), rows.next().expect(&shown));
    let row: Vec<_> = row.split_whitespace().collect();
    let lock = lock.to_str().unwrap();
    assert_eq!(row[1..3], ["flock", lock], "{shown}");
    assert!(line.contains("│█") && !line.contains('┄'), "{shown}");
    holder.end();
}

fn command(program: &str, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null());
    command
}
