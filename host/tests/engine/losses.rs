//! Holds that end before their release, and releases that fail.

use std::future::Future as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Waker};

use locket::{LostReason, State};

use super::*;

#[test]
fn a_hold_past_its_time_is_taken_away_and_its_holder_learns_it() {
    let dir = Dir::new();
    let options = Options::new().max_hold(Some(Duration::from_millis(500)));
    let lock = Engine::new().open_with(dir.path("lock"), &options).unwrap();
    assert_eq!(lock.guarantee().ttl, Some(Duration::from_millis(500)));
    let guard = lock.acquire(EX, None).unwrap();
    let next = dir.lock(&Engine::new()).acquire(EX, STUCK).unwrap();
    assert_eq!(block_on(lock.lost()), LostReason::Expired);
    assert!(!guard.is_held());
    assert_eq!(lock.state(), State::Lost(LostReason::Expired));
    assert_eq!(
        guard.release().unwrap_err().lost_reason(),
        Some(LostReason::Expired)
    );
    assert_eq!(lock.state(), State::Unlocked);
    next.release().unwrap();
    // Released in time, it is not lost afterwards.
    lock.acquire(EX, None).unwrap().release().unwrap();
    let quick = lock.acquire(EX, None).unwrap();
    assert_eq!(lock.state(), State::Held);
    assert!(quick.is_held());
    quick.release().unwrap();
    assert_eq!(lock.state(), State::Unlocked);
}

/// For example by a child that inherited the descriptor.
#[cfg(target_os = "linux")]
#[test]
fn a_hold_that_another_process_unlocked_is_lost_to_the_next_waiter() {
    let dir = Dir::new();
    let options = Options::new().protocol(Protocol::Flock);
    // No pause delays the wait in the kernel.
    let engine = Engine::builder()
        .fairness_pause(Duration::ZERO, Duration::ZERO)
        .build();
    let lock = engine.open_with(dir.path("lock"), &options).unwrap();
    for mode in [EX, SH] {
        let guard = lock.acquire(EX, None).unwrap();
        // It is in the kernel's queue beside the hold: it wants another mode, or is too late for a
        // hand-off.
        let first = pending(&lock, SH);
        eventually("it waits in the kernel", || {
            kernel_waiters(lock.path()) == 1
        });
        flock(std::os::fd::AsFd::as_fd(&guard), FlockOperation::Unlock).unwrap();
        let first = block_on(first).unwrap();
        assert!(guard.release().unwrap_err().is_lost());
        // It is the only holder.
        let mut other = lock.acquire_async(mode, None);
        match poll(&mut other) {
            Poll::Ready(guard) => assert!(guard.is_ok() && mode == SH),
            Poll::Pending => assert_eq!(mode, EX),
        }
        first.release().unwrap();
    }
    // The engine still works, with other files too.
    let (a, b) = (engine.open(dir.path("b")).unwrap(), Engine::new());
    let held = b.open(dir.path("b")).unwrap().acquire(EX, None).unwrap();
    let waiting = pending(&a, EX);
    eventually("it waits in the kernel", || kernel_waiters(a.path()) == 1);
    held.release().unwrap();
    block_on(waiting).unwrap().release().unwrap();
}

#[test]
fn a_break_does_not_end_a_wait_that_was_just_granted() {
    let dir = Dir::new();
    let engine = that_hands_on();
    let lock = dir.lock(&engine);
    let guard = lock.acquire(EX, None).unwrap();
    let mut next = pending(&lock, EX);
    drop(guard);
    assert_eq!(lock.state(), State::Held, "it is granted");
    lock.break_lock().unwrap();
    ready(&mut next).release().unwrap();
    assert!(lock.release().unwrap_err().is_not_locked());
}

#[test]
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "no other code swaps descriptors meanwhile")]
fn promise_12_a_release_that_fails_leaves_the_lock_free() {
    use std::os::fd::{AsFd, AsRawFd};
    for waiters in 0..2 {
        let dir = Dir::new();
        let lock = dir.lock(&Engine::new());
        let guard = lock.acquire(EX, None).unwrap();
        let waiting: Vec<_> = (0..waiters).map(|_| pending(&lock, SH)).collect();
        let flags = rustix::fs::OFlags::PATH;
        let path = rustix::fs::open(lock.path(), flags, rustix::fs::Mode::empty()).unwrap();
        // Keeps the lock from becoming free before the release.
        let kept = guard.as_fd().try_clone_to_owned().unwrap();
        // SAFETY: both descriptors are open; the engine's stays open and leads to another file.
        unsafe { libc::dup2(path.as_raw_fd(), guard.as_fd().as_raw_fd()) };
        let error = guard.release().unwrap_err();
        drop(kept);
        assert!(error.is_io(), "{error}");
        assert!(error.to_string().contains(lock.path().to_str().unwrap()));
        for waiter in waiting {
            block_on(waiter).unwrap().release().unwrap();
        }
        assert_eq!(lock.state(), State::Unlocked);
        dir.lock(&Engine::new())
            .acquire(EX, Duration::ZERO)
            .unwrap()
            .release()
            .unwrap();
        lock.acquire(EX, Duration::ZERO).unwrap().release().unwrap();
    }
}

/// Nothing canceled its wait.
#[test]
fn a_hold_that_expires_before_its_task_looks_is_lost() {
    each_kernel_protocol(|options| {
        let dir = Dir::new();
        let engine = Engine::new();
        let options = options.clone().max_hold(Some(Duration::from_millis(500)));
        let lock = engine.open_with(dir.path("lock"), &options).unwrap();
        let guard = lock.acquire(EX, None).unwrap();
        let mut waits = pending(&lock, EX);
        guard.release().unwrap();
        // Granted by now; the task only looks once the hold is over.
        let watching = engine.open(dir.path("lock")).unwrap();
        assert_eq!(block_on(watching.lost()), LostReason::Expired);
        let error = block_on(&mut waits).unwrap_err();
        assert_eq!(error.lost_reason(), Some(LostReason::Expired), "{error}");
        lock.acquire(EX, None).unwrap().release().unwrap();
    });
}

/// The call came before the acquire found another file at the path.
#[test]
fn a_loss_is_told_to_who_asked_before_the_file_was_replaced() {
    let dir = Dir::new();
    let options = Options::new().max_hold(Some(QUIESCENT));
    let lock = Engine::new().open_with(dir.path("lock"), &options).unwrap();
    let woken = Arc::new(Count::default());
    let waker = Waker::from(Arc::clone(&woken));
    let mut asked = Box::pin(lock.lost());
    let mut ask = || asked.as_mut().poll(&mut Context::from_waker(&waker));
    assert!(ask().is_pending());
    let later = lock.lost();
    std::fs::remove_file(lock.path()).unwrap();
    let guard = lock.acquire(EX, None).unwrap();
    // Asks again only if it is told to.
    let mut seen = 0;
    let reason = loop {
        eventually("it is woken", || woken.0.load(Ordering::SeqCst) > seen);
        seen = woken.0.load(Ordering::SeqCst);
        if let Poll::Ready(reason) = ask() {
            break reason;
        }
    };
    assert_eq!(reason, LostReason::Expired);
    assert_eq!(block_on(Box::pin(later)), LostReason::Expired);
    assert!(guard.release().unwrap_err().is_lost());
}

#[test]
#[should_panic(expected = "not polled after completion")]
fn a_future_is_not_polled_after_completion() {
    let dir = Dir::new();
    let lock = dir.lock(&Engine::new());
    let mut acquire = lock.acquire_async(EX, None);
    drop(ready(&mut acquire));
    let _ = poll(&mut acquire);
}
