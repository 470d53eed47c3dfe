//! Where a trace writes, and what becomes of it if something fails.

use std::fs;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;

use locket_test_support::waits::eventually;
use rustix::process::{Pid, Signal, kill_process};

use super::{Trace, children};
use crate::support::{Dir, Holder, code, kill, locket, output};

/// Standard output is a pipe without a reader.
#[test]
fn a_reader_that_has_gone_does_not_take_the_svg_along() {
    let dir = Dir::new();
    let svg = dir.path("svg");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut trace = locket(&["trace", "--for", "0.1", "--svg"]);
    trace.arg(&svg).arg(dir.path("lock")).stdout(writer);
    let trace = trace.stderr(Stdio::piped()).spawn().unwrap();
    let ended = trace.wait_with_output().unwrap();
    assert!(ended.stderr.is_empty(), "{ended:?}");
    let picture = fs::read_to_string(svg).unwrap();
    assert!(picture.ends_with("</svg>\n"), "{picture}");
}

#[test]
fn what_was_seen_is_shown_before_the_error_that_ends_it() {
    for json in [true, false] {
        let dir = Dir::new();
        let (lock, svg, text) = (dir.path("lock"), dir.path("svg"), dir.path("text"));
        let holder = Holder::flock(&lock);
        let mut trace = locket(&["trace", "--svg"]);
        trace.arg(&svg).arg(&lock).stderr(Stdio::piped());
        let mut trace = if json {
            let mut trace = Trace::of(trace.arg("--json"));
            trace.until_state(holder.pid(), "held");
            trace.tool
        } else {
            let trace = trace.arg("--output").arg(&text).spawn().unwrap();
            eventually("the trace has begun", || text.exists());
            trace
        };
        let [worker] = children(trace.id())[..] else {
            panic!("a path has a worker");
        };
        kill_process(Pid::from_raw(worker).unwrap(), Signal::KILL).unwrap();
        assert_eq!(trace.wait().unwrap().code(), Some(71));
        let mut message = String::new();
        let mut stderr = trace.stderr.take().unwrap();
        stderr.read_to_string(&mut message).unwrap();
        assert!(
            message.contains("has ended before it answered"),
            "{message}"
        );
        let picture = fs::read_to_string(svg).unwrap();
        let bar = format!("<title>{} flock ", holder.pid());
        assert!(picture.contains(&bar), "{picture}");
        if !json {
            let text = fs::read_to_string(text).unwrap();
            assert!(text.contains('█'), "{text}");
        }
        holder.end();
    }
}

#[test]
fn a_file_that_is_full_is_named() {
    let dir = Dir::new();
    let lock = dir.path("lock");
    let svg = dir.path("svg");
    let svg = svg.to_str().unwrap();
    for options in [
        &["--svg", "/dev/full"][..],
        &["--output", "/dev/full", "--svg", svg],
    ] {
        let mut trace = locket(&["trace", "--for", "0"]);
        trace.args(options).arg(&lock);
        let ended = output(trace);
        assert_eq!(ended.status.code(), Some(71), "{ended:?}");
        let message = String::from_utf8(ended.stderr).unwrap();
        let start = "locket: cannot write to `/dev/full`: ";
        assert!(message.starts_with(start), "{message}");
        // The other one is complete.
        let text = String::from_utf8(ended.stdout).unwrap();
        assert_eq!(text.ends_with(".\n"), options.len() == 2, "{text}");
    }
    assert!(fs::read_to_string(svg).unwrap().ends_with("</svg>\n"));
}

#[test]
fn a_lock_that_is_watched_is_no_output() {
    let dir = Dir::new();
    let (lock, missing) = (dir.write("lock", "content"), dir.path("missing"));
    let (beside, done) = (dir.path("lock.lock"), dir.path("done"));
    for (option, file) in [
        ("--svg", &lock),
        ("--output", &lock),
        ("--output", &missing),
        ("--output", &beside),
    ] {
        let mut trace = locket(&["trace", option]);
        trace.arg(file).arg(&missing).arg(&lock);
        trace.args(["--", "touch"]).arg(&done);
        let ended = output(trace);
        assert_eq!(ended.status.code(), Some(64), "{ended:?}");
        let message = String::from_utf8(ended.stderr).unwrap();
        assert!(message.contains(file.to_str().unwrap()), "{message}");
    }
    assert_eq!(fs::read_to_string(&lock).unwrap(), "content");
    assert!(!missing.exists() && !beside.exists() && !done.exists());
}

/// It is opened for as long as that takes.
#[test]
fn a_signal_ends_the_wait_for_the_reader_of_a_pipe() {
    let dir = Dir::new();
    let fifo = dir.path("fifo");
    let mut mkfifo = std::process::Command::new("mkfifo");
    mkfifo.arg(&fifo);
    assert_eq!(code(mkfifo), 0);
    let mut trace = locket(&["trace", "--output"]);
    let mut trace = trace.arg(&fifo).arg(dir.path("lock")).spawn().unwrap();
    eventually("it has begun", || !children(trace.id()).is_empty());
    kill(&trace, Signal::TERM);
    let mut end = None;
    eventually("the signal ends it", || {
        end = trace.try_wait().unwrap();
        end.is_some()
    });
    assert_eq!(end.unwrap().signal(), Some(Signal::TERM.as_raw()));
}
