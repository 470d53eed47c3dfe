//! What takes threads and handles: removal by many at once (9), and canceled waits (12).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use locket::{Engine, OnRelease};

use super::open;
use crate::common::*;

#[test]
fn engines_that_remove_the_file_all_the_time_never_split_the_lock() {
    each_kernel_protocol(|options| {
        let dir = Dir::new();
        let removing = options.clone().on_release(OnRelease::Remove);
        let inside = Arc::new(AtomicBool::new(false));
        let contend = |i: usize| {
            let lock = open(&Engine::new(), &dir, &removing);
            let inside = Arc::clone(&inside);
            move || {
                for _ in 0..300 {
                    let guard = match i % 2 {
                        0 => lock.acquire(EX, None),
                        _ => block_on(lock.acquire_async(EX, None)),
                    };
                    let guard = guard.unwrap_or_else(|e| panic!("thread {i}: {e:?}"));
                    assert!(!inside.swap(true, Ordering::SeqCst), "two holders");
                    assert!(inside.swap(false, Ordering::SeqCst));
                    guard.release().unwrap();
                }
            }
        };
        thread::scope(|scope| {
            for i in 0..4 {
                scope.spawn(contend(i));
            }
        });
        assert!(!dir.path("lock").exists());
    });
}

#[test]
#[cfg(target_os = "linux")]
fn a_release_that_cannot_remove_the_file_frees_the_lock() {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    each_kernel_protocol(|options| {
        let dir = Dir::new();
        let path = dir.path("lock");
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(0o666)).unwrap();
        let options = options.clone().on_release(OnRelease::Remove);
        let lock = open(&Engine::new(), &dir, &options);
        let error = without_privileges(&dir, || {
            let guard = lock.acquire(EX, None).unwrap();
            guard.release().unwrap_err()
        });
        assert!(error.is_denied(), "{error}");
        assert_eq!(lock.state(), locket::State::Unlocked);
        assert!(path.exists());
        super::is_free(&dir, &options.clone().on_release(OnRelease::Keep));
    });
}

/// In lock_file a signal interrupts a wait. Here a wait survives it, and `cancel_waits` ends it.
#[test]
fn a_wait_is_canceled_through_its_handle_or_by_dropping_its_future() {
    each_protocol(|options| {
        let dir = Dir::new();
        // Waiting in the queue, and waiting for another engine.
        let mine = Engine::new();
        for holder in [mine.clone(), Engine::new()] {
            let guard = open(&holder, &dir, options).acquire(EX, None).unwrap();
            let lock = open(&mine, &dir, options);
            let waiter = {
                let lock = lock.clone();
                thread::spawn(move || lock.acquire(EX, None))
            };
            eventually("it waits", || waiters(&lock) == 1);
            lock.cancel_waits();
            assert!(waiter.join().unwrap().unwrap_err().is_canceled());
            let task = pending(&lock, EX);
            lock.cancel_waits();
            assert!(block_on(task).unwrap_err().is_canceled());
            drop(pending(&lock, EX));
            guard.release().unwrap();
            lock.acquire(EX, STUCK).unwrap().release().unwrap();
        }
    });
}

#[test]
fn a_free_lock_is_granted_at_the_first_poll() {
    each_protocol(|options| {
        let dir = Dir::new();
        // However slowly this runs, it makes no pause.
        let engine = Engine::builder().fairness_pause(Duration::ZERO, Duration::ZERO);
        let lock = open(&engine.build(), &dir, options);
        let shared = !lock.protocol().is_existence_lock();
        for timeout in [None, Some(super::NOW), Some(STUCK)] {
            let mut acquire = lock.acquire_async(if shared { SH } else { EX }, timeout);
            assert!(matches!(poll(&mut acquire), std::task::Poll::Ready(Ok(_))));
        }
    });
}
