//! A file system that does not answer.

use std::os::unix::process::ExitStatusExt;
use std::time::Instant;

use locket_test_support::fuse::{FileSystem, Switches};
use locket_test_support::waits::{AT_ONCE, eventually};
use rustix::process::Signal;

use super::{Trace, children};
use crate::support::{Dir, Holder, kill, locket};

/// Until it answers again, it is a gap in the picture, and the other paths are looked at.
#[test]
fn a_path_there_does_not_silence_the_others() {
    let Some(mut files) = FileSystem::of_test("status::hung::daemon", Switches::ALL[0]) else {
        return;
    };
    let dir = Dir::new();
    let (hung, lock, svg) = (files.path("hung"), dir.path("lock"), dir.path("svg"));
    let mut trace = locket(&["trace", "--json", "--interval", "1", "--svg"]);
    let there = Holder::flock(&hung);
    let mut trace = Trace::of(trace.arg(&svg).arg(&hung).arg(&lock));
    trace.until_state(there.pid(), "held");
    let mut turn = || {
        let holder = Holder::flock(&lock);
        let held = trace.until_state(holder.pid(), "held");
        let pid = holder.pid();
        holder.end();
        trace.until_state(pid, "gone");
        held["time"].as_f64().unwrap()
    };
    let start = turn();
    files.stop();
    // More than ten intervals.
    while turn() < start + 0.1 {}
    assert_eq!(trace.end(), Some(0));
    let picture = std::fs::read_to_string(&svg).unwrap();
    let gaps = picture.matches("not looked at for ").count();
    assert!(gaps > 0, "{picture}");
    files.resume();
    there.end();
}

/// Before the first answer.
#[test]
fn a_signal_ends_it_at_once_and_its_command_is_not_started() {
    let Some(mut files) = FileSystem::of_test("status::hung::daemon", Switches::ALL[0]) else {
        return;
    };
    let dir = Dir::new();
    let done = dir.path("done");
    files.stop();
    for command in [&[][..], &["--", "touch", done.to_str().unwrap()]] {
        let mut trace = locket(&["trace"]);
        let trace = trace.arg(files.path("hung")).args(command);
        let mut trace = trace.spawn().unwrap();
        eventually("it has asked", || !children(trace.id()).is_empty());
        let start = Instant::now();
        kill(&trace, Signal::TERM);
        let end = trace.wait().unwrap();
        assert_eq!(end.signal(), Some(Signal::TERM.as_raw()), "{command:?}");
        assert!(start.elapsed() < AT_ONCE, "{command:?}");
    }
    assert!(!done.exists());
    files.resume();
}
