//! Signals to `locket exec`.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use rustix::process::Signal;

use super::{is_free, waiter};
use crate::support::{Dir, Holder, exec, kill, output};

#[test]
fn termination_signals_are_forwarded() {
    let dir = Dir::new();
    let lock = dir.path("lock");
    let script = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(5))\n\
                  signal.signal(signal.SIGHUP, lambda *_: sys.exit(6))\n\
                  print('ready', flush=True)\n\
                  sys.stdin.read()";
    let script = format!("import signal, sys\n{script}");
    for (signal, expected) in [(Signal::TERM, 5), (Signal::HUP, 6)] {
        let holder = Holder::start(exec(&[], &lock, &["python3", "-c", &script]));
        // The terminal sends these to the command itself, so they are not forwarded.
        holder.signal(Signal::INT);
        holder.signal(Signal::QUIT);
        assert!(!is_free(&[], &lock));
        holder.signal(signal);
        let (code, _input) = holder.ended();
        assert_eq!(code, expected);
        assert!(is_free(&[], &lock));
    }
    let holder = Holder::exec(&[], &lock);
    holder.signal(Signal::TERM);
    let (code, _input) = holder.ended();
    assert_eq!(code, 128 + 15);
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
