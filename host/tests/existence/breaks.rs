//! Locks that are broken or replaced while they are held.

use std::fs::File;
use std::thread;
use std::time::Instant;

use locket::LostReason;

use super::processes::*;
use super::*;

#[test]
fn many_processes_break_at_once() {
    for protocol in all() {
        let dir = Dir::new();
        let start = || Killed(child("break", protocol, dir.0.path()).spawn().unwrap());
        let breakers: Vec<_> = (0..3).map(|_| start()).collect();
        let lock = open(&dir, protocol);
        let mut lost = 0;
        // How long that takes depends on the machine.
        while lost < 10 {
            let guard = lock.acquire(EX, STUCK).unwrap();
            thread::yield_now();
            match guard.release() {
                Ok(()) => {}
                Err(e) => lost += usize::from(e.is_lost()),
            }
            assert_no_trace(&dir);
        }
        fs::write(dir.path("end"), "").unwrap();
        for mut breaker in breakers {
            assert!(breaker.0.wait().unwrap().success());
        }
        assert_no_trace(&dir);
        lock.acquire(EX, STUCK).unwrap().release().unwrap();
        let rest = listing(dir.0.path());
        let mut rest = rest
            .iter()
            .filter(|name| !["end", "locks.db"].contains(&name.as_str()));
        assert_eq!(rest.next(), None);
    }
}

/// Two handles of two engines behave like two processes. The first holds the lock, but its entry is
/// the one that the second created, so the first must notice.
#[test]
fn a_holder_learns_of_a_break_however_often_the_entry_changes_after_it() {
    for protocol in all() {
        let dir = Dir::new();
        let (first, second) = (open(&dir, protocol), open(&dir, protocol));
        let guard = first.acquire(EX, STUCK).unwrap();
        second.break_lock().unwrap();
        // The changes follow each other faster than the engine can make sure of one.
        let start = Instant::now();
        while first.state() != State::Lost(LostReason::Broken) {
            second.acquire(EX, STUCK).unwrap().release().unwrap();
            assert!(
                start.elapsed() < STUCK / 5,
                "the holder does not learn of the break"
            );
        }
        assert!(guard.release().unwrap_err().is_lost());
        first.acquire(EX, STUCK).unwrap().release().unwrap();
    }
}

#[test]
fn a_release_after_a_break_leaves_the_next_one_alone() {
    for protocol in all() {
        let dir = Dir::new();
        let (first, second) = (open(&dir, protocol), open(&dir, protocol));
        let guard = first.acquire(EX, STUCK).unwrap();
        second.break_lock().unwrap();
        let next = second.acquire(EX, STUCK).unwrap();
        assert!(guard.release().unwrap_err().is_lost());
        assert!(first.try_acquire(EX).unwrap().is_none());
        next.release().unwrap();
    }
}

/// Waiters behind a holder whose lock was broken keep waiting, for the new holder.
#[test]
fn what_was_lost_is_not_handed_on() {
    for protocol in all() {
        let dir = Dir::new();
        // However slowly this runs, nothing else keeps it from being handed on.
        let engine = Engine::builder()
            .hand_off(1000, STUCK)
            .fairness_pause(Duration::ZERO, Duration::ZERO);
        let lock = open_in(&engine.build(), protocol, dir.0.path());
        let guard = lock.acquire(EX, STUCK).unwrap();
        let mut waiter = pending(&lock, EX);
        let breaker = open(&dir, protocol);
        breaker.break_lock().unwrap();
        let another = breaker.acquire(EX, STUCK).unwrap();
        drop(guard);
        assert!(poll(&mut waiter).is_pending(), "{protocol}");
        assert_eq!(breaker.state(), State::Held);
        another.release().unwrap();
        block_on(waiter).unwrap().release().unwrap();
    }
}

/// A copy with the same content in the place of the entry is not what the holder created.
#[test]
fn a_copy_in_the_place_of_the_entry_is_another_lock() {
    for protocol in [Protocol::PidFile, Protocol::Soft, Protocol::Link] {
        println!("protocol {protocol}");
        let dir = Dir::new();
        let lock = open(&dir, protocol);
        let guard = lock.acquire(EX, STUCK).unwrap();
        let name = place(&dir, protocol);
        fs::copy(&name, dir.path("copy")).unwrap();
        fs::rename(dir.path("copy"), &name).unwrap();
        let copy = fs::metadata(&name).unwrap().ino();
        eventually("the loss is reported", || lock.state() != State::Held);
        assert!(guard.release().unwrap_err().is_lost());
        assert_eq!(fs::metadata(&name).unwrap().ino(), copy);
    }
}

/// It may be a counter, or the PID file of a daemon that holds a kernel lock on it.
#[test]
fn a_file_with_a_number_in_it_is_no_lock_for_certain() {
    let dir = Dir::new();
    let path = dir.path("lock");
    let engine = Engine::new();
    fs::write(&path, "42\n").unwrap();
    assert!(engine.break_lock(&path).unwrap_err().is_not_locked());
    let file = File::open(&path).unwrap();
    for content in ["42\n", "42\nhost\n"] {
        fs::write(&path, content).unwrap();
        file.lock().unwrap();
        assert!(engine.break_lock(&path).unwrap_err().is_unsupported());
        file.unlock().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), content);
    }
    // The caller names the protocol, so it is a lock.
    fs::write(&path, "42\n").unwrap();
    open(&dir, Protocol::PidFile).break_lock().unwrap();
    assert!(!path.exists());
}
