//! The promises of the predecessors, between processes.
//!
//! The numbers are those of the design's table; `host/tests/promises.rs` has them for threads,
//! `promises_guest.rs` for guests.

use std::process::Command;
use std::time::{Duration, Instant};

use locket_tests::process::{Dir, Process, QUIESCENT, STUCK, eventually, kernel_waiters, peer};

#[test]
fn promise_01_same_file_same_lock_whatever_the_spelling() {
    let dir = Dir::new();
    std::os::unix::fs::symlink("lock", dir.path().join("symlink")).unwrap();
    std::fs::hard_link(dir.lock(), dir.path().join("hardlink")).unwrap();
    assert_eq!(dir.peer().ask("acquire exclusive none"), "ok");
    let mut holder = dir.peer();
    assert_eq!(holder.ask("acquire exclusive none"), "ok");
    for spelling in ["./lock", "symlink", "hardlink", "../lock"] {
        std::fs::create_dir_all(dir.path().join("sub")).unwrap();
        // Relative to a working directory.
        let (folder, name) = match spelling {
            "../lock" => (dir.path().join("sub"), spelling),
            _ => (dir.path().to_owned(), spelling),
        };
        let mut command = Command::new(peer());
        let mut other = Process::spawn(command.arg(name).current_dir(folder));
        assert_eq!(
            other.ask("acquire exclusive 0"),
            "err would-block",
            "{spelling}"
        );
    }
}

#[test]
fn promise_02_acquire_of_an_unlocked_lock_returns_at_once() {
    let dir = Dir::new();
    let mut peer = dir.peer();
    for timeout in ["none", "0", "60000"] {
        assert_eq!(peer.ask(&format!("acquire exclusive {timeout}")), "ok");
        assert_eq!(peer.ask("release"), "ok");
    }
}

#[test]
fn promise_03_acquire_of_a_locked_lock_waits_until_unlocked_or_timeout() {
    for acquire in ["acquire", "acquire-async"] {
        let dir = Dir::new();
        let (mut a, mut b) = (dir.peer(), dir.peer());
        assert_eq!(a.ask("acquire exclusive none"), "ok");
        assert_eq!(b.ask(&format!("{acquire} exclusive 0")), "err would-block");
        let start = Instant::now();
        assert_eq!(b.ask(&format!("{acquire} exclusive 100")), "err timeout");
        assert!(start.elapsed() >= Duration::from_millis(100));
        for timeout in ["none", "60000"] {
            b.send(&format!("{acquire} exclusive {timeout}"));
            assert_eq!(b.answer_within(QUIESCENT), None);
            assert_eq!(a.ask("release"), "ok");
            assert_eq!(b.answer(), "ok");
            assert_eq!(b.ask("release"), "ok");
            assert_eq!(a.ask("acquire exclusive 0"), "ok");
        }
    }
}

#[test]
fn promise_04_not_reentrant() {
    let dir = Dir::new();
    let mut peer = dir.peer();
    assert_eq!(peer.ask("acquire exclusive none"), "ok");
    assert_eq!(peer.ask("acquire exclusive 0"), "err would-block");
    assert_eq!(peer.ask("acquire shared 20"), "err timeout");
}

#[test]
fn promise_06_release_of_an_unlocked_lock_and_of_somebody_elses_are_different_errors() {
    let dir = Dir::new();
    let (mut a, mut b) = (dir.peer(), dir.peer());
    assert_eq!(a.ask("release"), "err not-locked");
    assert_eq!(b.ask("acquire exclusive none"), "ok");
    assert_eq!(a.ask("release"), "err not-owner");
    // Foreign holders of either family count.
    assert_eq!(b.ask("release"), "ok");
    for function in ["flock", "lockf"] {
        let mut python = Process::python_lock(function, &dir.lock());
        assert_eq!(python.answer(), "ok");
        assert_eq!(a.ask("release"), "err not-owner", "{function}");
        assert_eq!(a.ask("is-locked"), "ok true", "{function}");
    }
}

#[test]
fn promise_07_and_16_scoped_use_releases() {
    let dir = Dir::new();
    let (mut a, mut b) = (dir.peer(), dir.peer());
    assert_eq!(a.ask("with"), "ok 7");
    assert_eq!(b.ask("acquire exclusive 0"), "ok");
    a.send("with");
    assert_eq!(a.answer_within(QUIESCENT), None);
    assert_eq!(b.ask("release"), "ok");
    assert_eq!(a.answer(), "ok 7");
}

#[test]
fn promise_08_the_timeout_is_one_for_the_whole_acquire() {
    let dir = Dir::new();
    let mut python = Process::python_lock("lockf", &dir.lock());
    assert_eq!(python.answer(), "ok");
    let mut peer = dir.peer();
    assert_eq!(peer.ask("is-locked"), "ok true");
    let start = Instant::now();
    assert_eq!(peer.ask("acquire exclusive 200"), "err timeout");
    let took = start.elapsed();
    assert!(
        took >= Duration::from_millis(200) && took < Duration::from_secs(2),
        "{took:?}"
    );
}

#[test]
fn promise_09_keeps_or_removes_the_file_and_never_splits_the_lock() {
    let dir = Dir::new();
    let (mut a, mut b, mut c) = (
        dir.peer_with(&["--remove"]),
        dir.peer_with(&["--remove"]),
        dir.peer(),
    );
    assert_eq!(a.ask("acquire exclusive none"), "ok");
    b.send("acquire exclusive none");
    eventually("b waits", || kernel_waiters(&dir.lock()) == 1);
    assert_eq!(a.ask("release"), "ok");
    assert_eq!(b.answer(), "ok");
    // b holds the new file, and so does the path.
    assert_eq!(a.ask("acquire exclusive 0"), "err would-block");
    assert_eq!(c.ask("acquire exclusive 0"), "err would-block");
    assert_eq!(b.ask("release"), "ok");
    assert!(!dir.lock().exists());
    assert_eq!(c.ask("acquire exclusive 0"), "ok");
    assert_eq!(c.ask("release"), "ok");
    assert!(dir.lock().exists());
}

#[test]
fn promise_10_granted_in_the_order_of_arrival() {
    let dir = Dir::new();
    let mut holder = dir.peer();
    assert_eq!(holder.ask("acquire exclusive none"), "ok");
    let mut queue: Vec<_> = (0..8).map(|_| dir.peer()).collect();
    for (i, peer) in queue.iter_mut().enumerate() {
        let acquire = if i % 2 == 0 {
            "acquire"
        } else {
            "acquire-async"
        };
        peer.send(&format!("{acquire} exclusive none"));
        eventually("it is in the queue", || {
            kernel_waiters(&dir.lock()) == i + 1
        });
    }
    assert_eq!(holder.ask("release"), "ok");
    for i in 0..queue.len() {
        assert_eq!(queue[i].answer(), "ok");
        for later in &mut queue[i + 1..] {
            assert_eq!(
                later.answer_within(Duration::from_millis(1)),
                None,
                "out of order"
            );
        }
        assert_eq!(queue[i].ask("release"), "ok");
    }
}

#[test]
fn promise_12_a_killed_waiter_leaves_nothing() {
    let dir = Dir::new();
    let (mut a, mut b, mut c) = (dir.peer(), dir.peer(), dir.peer());
    assert_eq!(a.ask("acquire exclusive none"), "ok");
    b.send("acquire exclusive none");
    eventually("b waits", || kernel_waiters(&dir.lock()) == 1);
    b.kill();
    assert_eq!(a.ask("release"), "ok");
    assert_eq!(c.ask("acquire exclusive 0"), "ok");
}

#[test]
fn sigkill_of_the_holder_frees_the_lock_at_once() {
    let dir = Dir::new();
    let mut worst = Duration::ZERO;
    for acquire in ["acquire", "acquire-async"] {
        let (mut a, mut b) = (dir.peer(), dir.peer());
        assert_eq!(a.ask("acquire exclusive none"), "ok");
        b.send(&format!("{acquire} exclusive none"));
        eventually("b waits", || kernel_waiters(&dir.lock()) == 1);
        let start = Instant::now();
        a.kill();
        assert_eq!(b.answer_within(STUCK).as_deref(), Some("ok"));
        worst = worst.max(start.elapsed());
    }
    println!("SIGKILL to the next owner, as seen by a third process: at most {worst:?}");
}

#[test]
fn native_takes_turns_with_both_families_of_foreign_lockers() {
    let dir = Dir::new();
    for function in ["flock", "lockf"] {
        for acquire in ["acquire", "acquire-async"] {
            let mut python = Process::python_lock(function, &dir.lock());
            assert_eq!(python.answer(), "ok");
            let mut peer = dir.peer();
            assert_eq!(peer.ask("acquire exclusive 0"), "err would-block");
            peer.send(&format!("{acquire} exclusive none"));
            eventually("it waits", || kernel_waiters(&dir.lock()) == 1);
            python.send("unlock");
            assert_eq!(peer.answer(), "ok", "{function} {acquire}");
            let mut next = Process::python_lock(function, &dir.lock());
            assert_eq!(
                next.answer_within(QUIESCENT),
                None,
                "{function}: two holders"
            );
            assert_eq!(peer.ask("release"), "ok");
            assert_eq!(next.answer(), "ok");
        }
    }
}
