//! A forked child shares the descriptors of its parent, and is refused.
#![cfg_attr(unix, expect(unsafe_code, reason = "fork has no safe binding"))]

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use locket::{LockFile, LostReason};

use super::*;

#[test]
fn a_forked_child_cannot_touch_its_parents_locks() {
    let dir = Dir::new();
    let engine = Engine::new();
    let lock = dir.lock(&engine);
    let guard = lock.acquire(EX, None).unwrap();
    let mut waiting = pending(&lock, EX);
    // Granted, but the task has not been polled since.
    let other = engine.open(dir.path("other")).unwrap();
    let held = other.acquire(EX, None).unwrap();
    let granted = pending(&other, EX);
    held.release().unwrap();
    let free = engine.open(dir.path("free")).unwrap();
    // SAFETY: the child touches only what it inherited, and leaves by `_exit`.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let refused = lock.release().is_err()
            && lock.acquire(EX, Duration::ZERO).is_err()
            && free.acquire(EX, Duration::ZERO).is_err()
            && engine.open(dir.path("lock")).is_err()
            && matches!(poll(&mut waiting), Poll::Ready(Err(_)));
        lock.cancel_waits();
        drop((guard, waiting, granted));
        // SAFETY: ends the process.
        unsafe { libc::_exit(if refused { 0 } else { 1 }) };
    }
    let mut status = 0;
    // SAFETY: `status` is valid for writes.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    assert_eq!(status, 0, "the child was not refused");
    let foreign = Engine::new();
    assert!(dir.lock(&foreign).try_acquire(EX).unwrap().is_none());
    let foreign_other = foreign.open(dir.path("other")).unwrap();
    assert!(foreign_other.try_acquire(EX).unwrap().is_none());
    block_on(granted).unwrap().release().unwrap();
    guard.release().unwrap();
    block_on(waiting).unwrap().release().unwrap();
    assert!(dir.lock(&foreign).try_acquire(EX).unwrap().is_some());
}

/// Has a forked child run `drops`, and waits for its end.
fn in_a_child(drops: impl FnOnce()) {
    // SAFETY: the child touches only what it inherited, and leaves by `_exit`.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "{}", std::io::Error::last_os_error());
    if child == 0 {
        // SAFETY: ends the child if it hangs.
        unsafe { libc::alarm(u32::try_from(STUCK.as_secs()).unwrap()) };
        drops();
        // SAFETY: ends the process.
        unsafe { libc::_exit(0) };
    }
    let mut status = 0;
    // SAFETY: `status` is valid for writes.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    assert_eq!(status, 0, "the child hung");
}

/// Sets a flag, even if the test panics.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Children drop locks, guards, waits and engines, while other threads of the parent are anywhere in
/// the engine, with its mutexes locked.
#[test]
fn children_that_drop_what_they_inherited_harm_nothing() {
    const CHILDREN: usize = 300;
    let dir = Dir::new();
    let (engine, foreign) = (Engine::new(), Engine::new());
    let open = |engine: &Engine, protocol, name: &str| {
        let options = Options::new().protocol(protocol).max_hold(Some(STUCK));
        engine.open_with(dir.path(name), &options).unwrap()
    };
    for protocol in [Protocol::Soft, Protocol::Mkdir, Protocol::Link] {
        println!("{protocol}");
        let name = |what| format!("{what}-{protocol}");
        let kept = open(&engine, protocol, &name("kept"));
        let guard = kept.acquire(EX, STUCK).unwrap();
        let mut lost = Box::pin(guard.lost());
        assert!(poll(&mut lost).is_pending());
        let busy = open(&engine, protocol, &name("busy"));
        let held = open(&foreign, protocol, &name("busy"))
            .acquire(EX, STUCK)
            .unwrap();
        let waits = pending(&busy, EX);
        let mut parents = Some((guard, lost, kept.clone(), waits, held));
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let end = End(&done);
            for protocol in [Protocol::Native, protocol] {
                let lock = open(&engine, protocol, &format!("churn-{protocol}"));
                let done = &done;
                scope.spawn(move || {
                    while !done.load(Ordering::Relaxed) {
                        let guard = lock.acquire(EX, STUCK).unwrap();
                        drop((guard.lost(), pending(&lock, EX), guard));
                    }
                });
            }
            for _ in 0..CHILDREN / 3 {
                let engine = Engine::new();
                let lock = open(&engine, Protocol::Native, "own");
                let guard = lock.acquire(EX, STUCK).unwrap();
                let waits = pending(&lock, EX);
                let inherited = (waits, guard, lock, engine);
                in_a_child(|| drop((parents.take(), inherited)));
            }
            drop(end);
        });
        let (guard, lost, _kept, waits, held) = parents.unwrap();
        // A removal is noticed through the watch alone.
        break_by_hand(&kept);
        assert_eq!(block_on(lost), LostReason::Broken);
        assert!(guard.release().unwrap_err().is_lost());
        held.release().unwrap();
        block_on(waits).unwrap().release().unwrap();
        notices_arrive_at_once(&busy, &open(&foreign, protocol, &name("busy")));
    }
}

fn break_by_hand(lock: &LockFile) {
    Engine::new()
        .open_with(lock.path(), &Options::new().protocol(lock.protocol()))
        .and_then(|lock| lock.break_lock())
        .unwrap();
}

/// Checks that a release elsewhere wakes a waiter, and not the timer.
fn notices_arrive_at_once(ours: &LockFile, theirs: &LockFile) {
    /// The time to the first try by the timer.
    const RECHECK_INTERVAL: Duration = Duration::from_millis(200);
    let mut times = Vec::new();
    while times.iter().all(|time| *time >= RECHECK_INTERVAL) {
        assert!(times.len() < 20, "{times:?}");
        let held = theirs.acquire(EX, STUCK).unwrap();
        let start = Instant::now();
        let waits = pending(ours, EX);
        held.release().unwrap();
        block_on(waits).unwrap().release().unwrap();
        times.push(start.elapsed());
    }
}
