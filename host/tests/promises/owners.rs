//! Which threads and handles are one owner: by default those of the whole process, with
//! [`Owner::Thread`] each thread is an owner.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use locket::{Engine, LockFile, Owner, State};

use super::{BROKEN, NOW, in_another_thread, is_free, open, times_out};
use crate::common::*;

/// Runs `test` while another thread holds the lock, and keeps it.
fn while_another_thread_holds(lock: &LockFile, test: impl FnOnce()) {
    thread::scope(|scope| {
        let (held, is_held) = mpsc::channel();
        let (over, is_over) = mpsc::channel::<()>();
        scope.spawn(move || {
            let guard = lock.acquire(EX, None).unwrap();
            held.send(()).unwrap();
            let _ = is_over.recv();
            guard.release().unwrap();
        });
        is_held.recv().unwrap();
        test();
        drop(over);
    });
    assert!(!lock.is_locked().unwrap());
}

#[test]
fn threads_of_one_process_wait_for_one_another_and_are_one_owner() {
    each_protocol(|options| {
        let dir = Dir::new();
        let engine = Engine::new();
        let (lock, second) = (open(&engine, &dir, options), open(&engine, &dir, options));
        let timeout = Duration::from_millis(50);
        while_another_thread_holds(&lock, || {
            let error = second.acquire(EX, NOW).unwrap_err();
            assert!(error.is_would_block() && !error.is_timeout(), "{error}");
            assert!(second.try_acquire(EX).unwrap().is_none());
            match second.try_acquire(SH) {
                Err(e) if lock.protocol().is_existence_lock() => assert!(e.is_unsupported()),
                shared => assert!(shared.unwrap().is_none()),
            }
            times_out(timeout, || lock.acquire(EX, timeout).unwrap_err());
            let task = second.acquire_async(EX, timeout);
            times_out(timeout, || block_on(task).unwrap_err());
            // What another thread holds, this one does as well.
            assert_eq!(second.state(), State::Held);
            assert!(second.holder().unwrap().unwrap().is_self);
        });
        waiters_of_every_kind_get_it(&lock, &second);
        is_free(&dir, options);
    });
}

fn waiters_of_every_kind_get_it(lock: &LockFile, second: &LockFile) {
    let guard = lock.acquire(EX, NOW).unwrap();
    let (sent, received) = mpsc::channel();
    thread::scope(|scope| {
        for i in 0..4 {
            let sent = sent.clone();
            scope.spawn(move || {
                let guard = match i {
                    0 => second.acquire(EX, None),
                    1 => second.acquire(EX, STUCK),
                    2 => block_on(second.acquire_async(EX, None)),
                    _ => block_on(second.acquire_async(EX, STUCK)),
                };
                sent.send(i).unwrap();
                drop(guard.unwrap());
            });
        }
        assert!(received.recv_timeout(QUIESCENT).is_err());
        guard.release().unwrap();
        for _ in 0..4 {
            received.recv_timeout(STUCK).unwrap();
        }
    });
}

#[test]
fn a_thread_that_is_an_owner_is_alone_with_its_lock() {
    each_protocol(|options| {
        let options = options.clone().owner(Owner::Thread);
        let dir = Dir::new();
        let lock = open(&Engine::new(), &dir, &options);
        while_another_thread_holds(&lock, || {
            assert!(lock.is_locked().unwrap());
            assert_eq!(lock.state(), State::Unlocked);
            assert!(!lock.holder().unwrap().unwrap().is_self);
            let error = lock.release().unwrap_err();
            assert!(error.is_not_owner() && !error.is_not_locked(), "{error}");
        });
        in_another_thread(|| {
            let guard = lock.acquire(EX, None).unwrap();
            assert!(lock.is_locked().unwrap());
            lock.release().unwrap();
            assert!(!lock.is_locked().unwrap());
            drop(guard);
        });
        assert_eq!(lock.state(), State::Unlocked);
        let second = lock.release().unwrap_err();
        assert!(second.is_not_locked() && !second.is_not_owner(), "{second}");
    });
}

/// In pylockfile only the thread itself can release. Here a guard is the right to release,
/// wherever it goes.
#[test]
fn a_guard_releases_in_whichever_thread_it_is() {
    each_protocol(|options| {
        let options = options.clone().owner(Owner::Thread);
        let dir = Dir::new();
        let lock = open(&Engine::new(), &dir, &options);
        let guard = lock.acquire(EX, None).unwrap();
        let error = in_another_thread(|| lock.release().unwrap_err());
        assert!(error.is_not_owner() && !error.is_not_locked(), "{error}");
        assert_eq!(lock.state(), State::Held);
        in_another_thread(move || guard.release().unwrap());
        assert!(!lock.is_locked().unwrap());
        is_free(&dir, &options);
    });
}

#[test]
fn a_thread_breaks_the_lock_of_another() {
    each_protocol(|options| {
        let options = options.clone().owner(Owner::Thread);
        let dir = Dir::new();
        let lock = open(&Engine::new(), &dir, &options);
        let guard = lock.acquire(EX, None).unwrap();
        in_another_thread(|| {
            lock.break_lock().unwrap();
            assert!(!lock.is_locked().unwrap());
            assert_eq!(lock.state(), State::Unlocked, "it was not this thread's");
            assert!(lock.release().unwrap_err().is_not_locked());
        });
        assert_eq!(lock.state(), BROKEN);
        assert!(guard.release().unwrap_err().is_lost());
        is_free(&dir, &options);
    });
}

/// In locket.py the identity of an object makes one lock of each spelling of a path.
#[test]
fn options_do_not_make_another_lock() {
    each_protocol(|options| {
        let dir = Dir::new();
        let engine = Engine::new();
        let lock = open(&engine, &dir, options);
        let others = [
            options.clone(),
            options.clone().max_hold(Some(Duration::from_secs(600))),
            options.clone().skip_identity_check(true),
        ];
        let guard = lock.acquire(EX, None).unwrap();
        for other in others {
            for path in ["lock", "./lock"] {
                let same = engine.open_with(dir.path(path), &other).unwrap();
                assert_eq!(same.state(), State::Held);
            }
            let different = engine.open_with(dir.path("different"), &other).unwrap();
            assert_eq!(different.state(), State::Unlocked);
            assert!(different.try_acquire(EX).unwrap().is_some());
        }
        guard.release().unwrap();
    });
}
