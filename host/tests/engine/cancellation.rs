//! Waits that are canceled, abandoned or over leave nothing behind.

#[cfg(unix)]
use std::sync::mpsc;

use locket::State;

use super::*;

#[cfg(target_os = "linux")]
#[test]
fn a_cancellation_reaches_waits_that_move_from_file_to_file() {
    let dir = Dir::new();
    let lock = dir.lock(&Engine::new());
    for _ in 0..300 {
        let holder = Engine::new();
        let guard = dir.lock(&holder).acquire(EX, STUCK).unwrap();
        thread::scope(|scope| {
            let wait = scope.spawn(|| lock.acquire(EX, STUCK).map(drop));
            eventually("it waits", || kernel_waiters(lock.path()) == 1);
            // Another file, which is locked, takes the place of the lock file.
            std::fs::remove_file(lock.path()).unwrap();
            let another = dir.lock(&holder).acquire(EX, STUCK).unwrap();
            drop(guard);
            lock.cancel_waits();
            match wait.join().unwrap() {
                Err(e) => assert!(e.is_canceled(), "{e}"),
                Ok(()) => panic!("the lock has another holder"),
            }
            drop(another);
        });
    }
}

/// The signal that ends a wait in the kernel arrives before the wait begins, so it has to be sent again.
#[test]
#[cfg(unix)]
fn a_timeout_that_is_over_before_the_wait_begins_ends_it() {
    each_kernel_protocol(|options| {
        let dir = Dir::new();
        let open = || Engine::new().open_with(dir.path("lock"), options).unwrap();
        let _guard = open().acquire(EX, STUCK).unwrap();
        let lock = open();
        let (done, ended) = mpsc::channel();
        thread::spawn(move || {
            for _ in 0..100 {
                let result = lock.acquire(EX, Duration::from_nanos(1));
                done.send(result.is_err_and(|e| e.is_timeout())).unwrap();
            }
        });
        for _ in 0..100 {
            assert!(ended.recv_timeout(STUCK).expect("the wait ends"));
        }
    });
}

#[test]
fn a_future_that_is_dropped_after_its_grant_gives_the_lock_back() {
    each_kernel_protocol(|options| {
        let dir = Dir::new();
        let open = || {
            that_hands_on()
                .open_with(dir.path("lock"), options)
                .unwrap()
        };
        let lock = open();
        let guard = lock.acquire(EX, None).unwrap();
        let next = pending(&lock, EX);
        drop(guard);
        assert_eq!(lock.state(), State::Held, "it is granted");
        drop(next);
        assert_eq!(lock.state(), State::Unlocked);
        assert!(open().try_acquire(EX).unwrap().is_some());
    });
}

#[test]
fn release_leaves_a_grant_alone_that_its_task_has_not_seen() {
    let dir = Dir::new();
    let lock = dir.lock(&that_hands_on());
    let _first = lock.acquire(SH, None).unwrap();
    let writer = pending(&lock, EX);
    let reader = pending(&lock, SH);
    drop(writer);
    // The reader is granted, and its task has not been polled since.
    lock.release().unwrap();
    assert!(lock.release().unwrap_err().is_not_owner() || lock.is_locked().unwrap());
    block_on(reader).unwrap().release().unwrap();
    assert!(!lock.is_locked().unwrap());
}
