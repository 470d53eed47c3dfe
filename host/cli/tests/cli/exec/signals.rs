//! Signals to `locket exec`, and those that end its command.

use locket_test_support::not_tested;
use locket_test_support::waits::eventually;
use std::io::Read;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};

use rustix::process::Signal;

use super::{is_free, stuck, waiter};
use crate::support::{
    Dir, Holder, code, exec, full_pipe, kill, locket, output, start_threads_late,
    wait_after_signals,
};

/// A Python program that counts the signals that it gets until `SIGTERM`, and prints their numbers.
const COUNTS: &str = "import os, signal, sys
got = []
woken, wake = os.pipe()
os.set_blocking(wake, False)
signal.set_wakeup_fd(wake)
for s in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD}:
    signal.signal(s, lambda s, _: got.append(int(s)))
print('ready', flush=True)
while signal.SIGTERM not in got: os.read(woken, 1)
print(*got, flush=True)
sys.stdin.read()";

#[test]
fn every_signal_that_can_be_caught_is_passed_on() {
    let dir = Dir::new();
    let lock = dir.path("lock");
    for signal in [
        Signal::HUP,
        Signal::INT,
        Signal::QUIT,
        Signal::USR1,
        Signal::USR2,
        Signal::ALARM,
        Signal::WINCH,
    ] {
        let script = format!(
            "import signal, sys
def end(*_): sys.exit(5)
signal.signal({}, end)
print('ready', flush=True)
sys.stdin.read()",
            signal.as_raw()
        );
        let holder = Holder::start(exec(&[], &lock, &["python3", "-c", &script]));
        holder.signal(signal);
        let (code, _input) = holder.ended();
        assert_eq!(code, 5, "{signal:?}");
        assert!(is_free(&[], &lock));
    }
}

/// The end of a command is a signal, too. A thread that could receive it would keep it.
#[test]
fn a_command_ends_before_the_threads_of_locket_begin() {
    let dir = Dir::new();
    for protocol in ["native", "link", "mkdir", "pid-file", "soft"] {
        let options = ["--protocol", protocol];
        let mut exec = exec(&options, &dir.path(protocol), &["true"]);
        start_threads_late(&mut exec, &dir);
        assert_eq!(code(exec), 0, "{protocol}");
    }
}

/// A stop discards it if it comes in between, and the two would stay stopped with the lock.
#[test]
fn a_continuation_right_after_a_stop_continues_both() {
    let dir = Dir::new();
    let lock = dir.path("lock");
    let mut exec = exec(&[], &lock, &["sh", "-c", "echo ready; cat"]);
    wait_after_signals(&mut exec, &dir);
    let holder = Holder::start(exec);
    holder.signal(Signal::TSTP);
    let command = child_of(holder.pid());
    eventually("the signal is passed on", || state(command) == 'T');
    holder.signal(Signal::CONT);
    assert_eq!(holder.end(), 0);
    assert!(is_free(&[], &lock));
}

#[test]
fn a_real_time_signal_is_passed_on() {
    let dir = Dir::new();
    let lock = dir.path("lock");
    let script = "import signal, sys
def end(*_): sys.exit(5)
signal.signal(signal.SIGRTMIN + 1, end)
print('ready', flush=True)
sys.stdin.read()";
    let holder = Holder::start(exec(&["-o"], &lock, &["python3", "-c", script]));
    // This process sends none by itself.
    let kill = format!("kill -s RTMIN+1 {}", holder.pid());
    let mut shell = Command::new("bash");
    shell.args(["-c", &kill]);
    assert_eq!(code(shell), 0);
    let (code, _input) = holder.ended();
    assert_eq!(code, 5);
    assert!(is_free(&[], &lock));
}

/// The lock file of one lock is removed, which is reported when it is released.
#[test]
fn a_report_that_cannot_be_written_keeps_no_lock_and_no_signal() {
    let dir = Dir::new();
    let (one, two) = (dir.path("one"), dir.path("two"));
    let mut exec = locket(&["exec"]);
    exec.arg(&one).arg(&two).args(["--", "rm"]).arg(&one);
    let (_reader, full) = full_pipe();
    let mut child = exec.stderr(full).spawn().unwrap();
    let ended = format!("/proc/{}/task/{}/children", child.id(), child.id());
    let has_child = || !std::fs::read_to_string(&ended).unwrap().is_empty();
    eventually("the command has ended", || !one.exists() && !has_child());
    let other = ["-w", &stuck()];
    assert_eq!(code(crate::support::exec(&other, &two, &["true"])), 0);
    eventually("it is writing", || state(child.id()) == 'S');
    assert!(
        child.try_wait().unwrap().is_none(),
        "it waits for its reader"
    );
    // It may still be about to let them through.
    eventually("a signal ends it", || {
        kill(&child, Signal::TERM);
        child.try_wait().unwrap().is_some()
    });
    assert_eq!(child.wait().unwrap().signal(), Some(Signal::TERM.as_raw()));
}

/// `R`, `S`, `T` and so on, as the system calls it.
fn state(process: u32) -> char {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let (_, rest) = stat.rsplit_once(") ").unwrap();
    rest.chars().next().unwrap()
}

fn child_of(process: u32) -> u32 {
    let children = format!("/proc/{process}/task/{process}/children");
    let children = std::fs::read_to_string(children).unwrap();
    children.trim().parse().unwrap()
}

#[test]
fn a_signal_of_a_timer_of_the_caller_is_passed_on() {
    let dir = Dir::new();
    let script = "import os, signal, sys
signal.setitimer(signal.ITIMER_REAL, 0.3)
os.execv(sys.argv[1], sys.argv[1:])";
    let mut timed = Command::new("python3");
    timed.args(["-c", script, env!("CARGO_BIN_EXE_locket"), "exec"]);
    timed.arg(dir.path("lock")).args(["--", "cat"]);
    timed.stdin(Stdio::piped());
    let mut child = timed.spawn().unwrap();
    let input = child.stdin.take();
    let status = child.wait().unwrap();
    assert_eq!(status.signal(), Some(Signal::ALARM.as_raw()));
    drop(input);
}

#[test]
fn a_signal_to_the_supervisor_alone_arrives_once() {
    let dir = Dir::new();
    let mut counter = exec(&[], &dir.path("lock"), &["python3", "-c", COUNTS]);
    counter.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = counter.spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut ready = [0; 6];
    stdout.read_exact(&mut ready).unwrap();
    kill(&child, Signal::USR1);
    kill(&child, Signal::TERM);
    drop(child.stdin.take());
    let mut got = String::new();
    stdout.read_to_string(&mut got).unwrap();
    assert!(child.wait().unwrap().success());
    let mut got: Vec<_> = got.split_whitespace().collect();
    got.sort_unstable();
    assert_eq!(got, ["10", "15"]);
}

#[test]
fn a_supervisor_that_interrupts_first_ends_the_command() {
    let dir = Dir::new();
    let lock = dir.path("lock");
    let holder = Holder::start(exec(&[], &lock, &["sh", "-c", "echo ready; exec cat"]));
    holder.signal(Signal::INT);
    // Nothing is left to be killed, and nothing to keep the lock.
    let (code, _input) = holder.ended();
    assert_eq!(code, -Signal::INT.as_raw());
    assert!(is_free(&[], &lock));
}

#[test]
fn the_signal_that_ended_the_command_ends_locket() {
    let dir = Dir::new();
    let lock = dir.path("lock");
    // The last one is a real-time signal.
    for signal in [1, 2, 3, 6, 9, 10, 11, 13, 14, 15, 40] {
        let script = format!("ulimit -c 0; kill -{signal} $$");
        let ended = output(exec(&[], &lock, &["sh", "-c", &script])).status;
        assert_eq!(ended.signal(), Some(signal));
        assert!(is_free(&[], &lock), "{signal}");
    }
}

#[test]
fn signals_end_the_wait() {
    let dir = Dir::new();
    let lock = dir.path("lock");
    let holder = Holder::exec(&[], &lock);
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let (mut child, _stderr) = waiter(&[], &lock, &["true"]);
        kill(&child, signal);
        assert_eq!(child.wait().unwrap().signal(), Some(signal.as_raw()));
    }
    assert_eq!(holder.end(), 0);
    assert!(is_free(&[], &lock));
}

#[test]
fn as_the_first_process_of_a_container_it_ends_by_signals_too() {
    let script = "import os, signal, subprocess, sys, time
def first(*command):
    p = subprocess.Popen(['unshare', '-p', '-f', '--kill-child', sys.argv[1], 'exec', '-v', sys.argv[2], *command],
                         stderr=subprocess.PIPE, text=True)
    return p, p.stderr.readline()
probe = subprocess.run(['unshare', '-p', '-f', 'true'], capture_output=True)
if probe.returncode: sys.exit(77)
def tell(p):
    child = open(f'/proc/{p.pid}/task/{p.pid}/children').read().split()[0]
    os.kill(int(child), signal.SIGTERM)
    return p.wait()
holder, line = first('sleep', 'infinity')
assert 'acquired' in line, line
assert 'executing' in holder.stderr.readline()
waiter, line = first('true')
assert 'waiting' in line, line
assert tell(waiter) == 143
assert tell(holder) == 143";
    let dir = Dir::new();
    let mut python = Command::new("python3");
    python.args(["-c", script, env!("CARGO_BIN_EXE_locket")]);
    python.arg(dir.path("lock"));
    match output(python) {
        o if o.status.code() == Some(77) => {
            not_tested(format_args!("no namespaces for processes here"));
        }
        o => assert!(o.status.success(), "{o:?}"),
    }
}

#[test]
fn a_caller_that_ignores_the_ends_of_its_children_gets_the_exit_code() {
    let dir = Dir::new();
    let script = "import os, signal, sys
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
os.execv(sys.argv[1], sys.argv[1:])";
    let mut careless = Command::new("python3");
    careless.args(["-c", script, env!("CARGO_BIN_EXE_locket"), "exec"]);
    careless
        .arg(dir.path("lock"))
        .args(["--", "sh", "-c", "exit 7"]);
    let output = output(careless);
    assert_eq!(output.status.code(), Some(7), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
}

/// The signals that a command of `locket exec` ignores, one bit each, if the shell has run `setup`.
fn ignored(setup: &str) -> u64 {
    let dir = Dir::new();
    let mut shell = Command::new("sh");
    let script = format!("{setup} exec \"$@\"");
    shell.args(["-c", &script, "sh", env!("CARGO_BIN_EXE_locket"), "exec"]);
    shell.arg(dir.path("lock"));
    shell.args(["--", "grep", "SigIgn", "/proc/self/status"]);
    let output = output(shell);
    let mask = String::from_utf8(output.stdout).unwrap();
    let mask = u64::from_str_radix(mask.split_whitespace().last().unwrap(), 16);
    // Those of the C library differ from system to system.
    mask.unwrap() & 0x7fff_ffff
}

#[test]
fn ignored_signals_stay_ignored() {
    let bit = |signal: Signal| 1 << (signal.as_raw() - 1);
    assert_eq!(
        ignored("trap '' HUP USR1 PIPE;"),
        bit(Signal::HUP) | bit(Signal::USR1) | bit(Signal::PIPE)
    );
    assert_eq!(ignored(""), 0);
}

#[test]
fn the_command_has_the_signal_mask_of_the_caller() {
    let dir = Dir::new();
    let script = "import os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
os.execv(sys.argv[1], sys.argv[1:])";
    for options in [&[][..], &["-F"]] {
        let mut masked = Command::new("python3");
        masked.args(["-c", script, env!("CARGO_BIN_EXE_locket"), "exec"]);
        masked.args(options).arg(dir.path("lock"));
        masked.args(["--", "grep", "SigBlk", "/proc/self/status"]);
        let output = output(masked);
        let mask = String::from_utf8(output.stdout).unwrap();
        assert_eq!(
            mask.split_whitespace().last(),
            Some("0000000000000800"),
            "{options:?}"
        );
    }
}

#[test]
fn the_exit_code_of_a_killed_command_is_that_of_a_shell() {
    let dir = Dir::new();
    let lock = dir.path("lock");
    let mut shell = Command::new("sh");
    let script = "\"$@\" sh -c 'kill -TERM $$'; exit $?";
    shell.args(["-c", script, "sh", env!("CARGO_BIN_EXE_locket"), "exec"]);
    shell.arg(lock).process_group(0);
    assert_eq!(code(shell), 128 + 15);
}
