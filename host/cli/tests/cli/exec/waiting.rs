//! Waiting for a lock, and giving up.

use std::io::Read;
use std::time::{Duration, Instant};

use super::{is_free, stuck, waiter};
use crate::support::{Dir, Holder, code, exec, output};

#[test]
fn nonblock_reports_a_conflict_immediately() {
    let dir = Dir::new();
    let lock = dir.path("lock");
    let holder = Holder::exec(&[], &lock);
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
        // It is silent, as flock(1) is.
        assert!(output.stdout.is_empty() && output.stderr.is_empty());
    }
    assert_eq!(holder.end(), 0);
    assert_eq!(code(exec(&["-n"], &lock, &["true"])), 0);
}

#[test]
fn a_waiter_waits_until_its_timeout_and_no_longer() {
    let dir = Dir::new();
    let lock = dir.path("lock");
    let holder = Holder::exec(&[], &lock);
    let start = Instant::now();
    assert_eq!(code(exec(&["-w", "0.3", "-E", "9"], &lock, &["true"])), 9);
    assert!(start.elapsed() >= Duration::from_millis(300));

    let (mut child, mut stderr) = waiter(&["-w", &stuck()], &lock, &["sh", "-c", "exit 3"]);
    assert_eq!(child.try_wait().unwrap(), None);
    assert_eq!(holder.end(), 0);
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
fn shared_holders_exclude_only_exclusive_ones() {
    let dir = Dir::new();
    let lock = dir.path("lock");
    let first = Holder::exec(&["-s"], &lock);
    let second = Holder::exec(&["--shared"], &lock);
    assert!(is_free(&["-s"], &lock));
    assert!(!is_free(&["-x"], &lock));
    assert!(!is_free(&[], &lock));
    // The last option counts.
    assert!(is_free(&["-x", "-s"], &lock));
    assert!(!is_free(&["-s", "-x"], &lock));
    first.end();
    assert!(!is_free(&["-x"], &lock));
    second.end();
    let exclusive = Holder::exec(&["-x"], &lock);
    assert!(!is_free(&["-s"], &lock));
    exclusive.end();
    assert!(is_free(&["-x"], &lock));
}
