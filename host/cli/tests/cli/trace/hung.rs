//! A file system that does not answer.

use locket_test_support::fuse::{FileSystem, Switches};

use super::Trace;
use crate::support::{Dir, Holder, locket};

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
