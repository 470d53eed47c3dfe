//! The promises of the predecessors, for the threads and tasks of one process.
//!
//! The numbers are those of the design's table. The same promises for processes and for guests
//! are tested end to end, in the workspace's `tests` folder.

mod common;

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use common::*;
use locket::{Engine, OnRelease, State};

#[test]
fn promise_01_same_file_same_lock_whatever_the_spelling() {
    each_kernel_protocol(|options| {
        let dir = Dir::new();
        let engine = Engine::new();
        let path = dir.path("lock");
        let lock = engine.open_with(&path, options).unwrap();
        let linked = symlink(&path, dir.path("symlink"));
        std::fs::hard_link(&path, dir.path("hardlink")).unwrap();
        std::fs::create_dir(dir.path("sub")).unwrap();
        let _guard = lock.acquire(EX, None).unwrap();
        for other in [
            "./lock",
            "symlink",
            "hardlink",
            "sub/../lock",
            "./sub/.././lock",
        ] {
            if other == "symlink" && !linked {
                continue;
            }
            let other = engine.open_with(dir.path(other), options).unwrap();
            assert!(
                other.try_acquire(EX).unwrap().is_none(),
                "{}",
                other.path().display()
            );
            assert_eq!(other.state(), State::Held);
            // Another engine is to this one like another process.
            let foreign = Engine::new().open_with(other.path(), options).unwrap();
            assert!(foreign.try_acquire(EX).unwrap().is_none());
            assert_eq!(foreign.state(), State::Unlocked);
            assert!(foreign.is_locked().unwrap());
        }
        assert!(
            engine
                .open(dir.path("other"))
                .unwrap()
                .try_acquire(EX)
                .unwrap()
                .is_some()
        );
    });
}

#[test]
fn promise_02_acquire_of_an_unlocked_lock_returns_at_once() {
    each_protocol(|options| {
        let dir = Dir::new();
        let lock = Engine::new().open_with(dir.path("lock"), options).unwrap();
        for timeout in [None, Some(Duration::ZERO), Some(Duration::from_secs(60))] {
            lock.acquire(EX, timeout).unwrap().release().unwrap();
            let shared = !lock.protocol().is_existence_lock();
            let mut acquire = lock.acquire_async(if shared { SH } else { EX }, timeout);
            assert!(matches!(poll(&mut acquire), std::task::Poll::Ready(Ok(_))));
        }
    });
}

#[test]
fn promise_03_acquire_of_a_locked_lock_waits_until_unlocked_or_timeout() {
    each_protocol(|options| {
        let dir = Dir::new();
        // In one engine the queue makes them wait, across engines the kernel does.
        let mine = Engine::new();
        for holder in [mine.clone(), Engine::new()] {
            let lock = mine.open_with(dir.path("lock"), options).unwrap();
            let guard = holder
                .open_with(dir.path("lock"), options)
                .unwrap()
                .acquire(EX, None)
                .unwrap();
            assert!(
                lock.acquire(EX, Duration::ZERO)
                    .unwrap_err()
                    .is_would_block()
            );
            let start = Instant::now();
            assert!(
                lock.acquire(EX, Duration::from_millis(50))
                    .unwrap_err()
                    .is_timeout()
            );
            let task = lock.acquire_async(EX, Duration::from_millis(50));
            assert!(block_on(task).unwrap_err().is_timeout());
            assert!(start.elapsed() >= Duration::from_millis(100));
            let (sent, received) = mpsc::channel();
            let waiters: Vec<_> = (0..4)
                .map(|i| {
                    let (lock, sent) = (lock.clone(), sent.clone());
                    thread::spawn(move || {
                        let guard = match i {
                            0 => lock.acquire(EX, None),
                            1 => lock.acquire(EX, STUCK),
                            2 => block_on(lock.acquire_async(EX, None)),
                            _ => block_on(lock.acquire_async(EX, STUCK)),
                        };
                        sent.send(i).unwrap();
                        drop(guard.unwrap());
                    })
                })
                .collect();
            assert!(received.recv_timeout(QUIESCENT).is_err());
            guard.release().unwrap();
            for _ in 0..4 {
                received.recv_timeout(STUCK).unwrap();
            }
            waiters
                .into_iter()
                .for_each(|waiter| waiter.join().unwrap());
        }
    });
}

#[test]
fn promise_04_not_reentrant() {
    each_protocol(|options| {
        let dir = Dir::new();
        let engine = Engine::new();
        let lock = engine.open_with(dir.path("lock"), options).unwrap();
        let _guard = lock.acquire(EX, None).unwrap();
        let second = engine.open_with(dir.path("lock"), options).unwrap();
        for lock in [&lock, &second] {
            assert!(lock.try_acquire(EX).unwrap().is_none());
            assert!(lock.try_acquire(SH).unwrap().is_none());
            assert!(
                lock.acquire(EX, Duration::from_millis(10))
                    .unwrap_err()
                    .is_timeout()
            );
        }
    });
}

#[test]
fn promise_05_any_thread_of_the_process_releases() {
    each_protocol(|options| {
        let dir = Dir::new();
        let engine = Engine::new();
        let lock = engine.open_with(dir.path("lock"), options).unwrap();
        // Through the guard.
        let guard = lock.acquire(EX, None).unwrap();
        thread::spawn(move || guard.release().unwrap())
            .join()
            .unwrap();
        assert!(!lock.is_locked().unwrap());
        // Through another handle on the same file.
        let guard = lock.acquire(EX, None).unwrap();
        let (engine, path) = (engine.clone(), dir.path("lock"));
        let options = options.clone();
        thread::spawn(move || engine.open_with(path, &options).unwrap().release().unwrap())
            .join()
            .unwrap();
        assert!(!lock.is_locked().unwrap());
        let next = lock.acquire(EX, Duration::ZERO).unwrap();
        // The first guard is empty now, and leaves the second hold alone.
        drop(guard);
        assert_eq!(lock.state(), State::Held);
        next.release().unwrap();
    });
}

#[test]
fn promise_06_release_of_an_unlocked_lock_and_of_somebody_elses_are_different_errors() {
    each_protocol(|options| {
        let dir = Dir::new();
        let lock = Engine::new().open_with(dir.path("lock"), options).unwrap();
        let e = lock.release().unwrap_err();
        assert!(e.is_not_locked() && !e.is_not_owner(), "{e}");
        let other = Engine::new().open_with(dir.path("lock"), options).unwrap();
        let guard = other.acquire(EX, None).unwrap();
        let e = lock.release().unwrap_err();
        assert!(e.is_not_owner() && !e.is_not_locked(), "{e}");
        assert!(e.to_string().contains(dir.path("lock").to_str().unwrap()));
        guard.release().unwrap();
        let guard = lock.acquire(EX, None).unwrap();
        lock.release().unwrap();
        assert!(guard.release().unwrap_err().is_not_locked());
    });
}

#[test]
fn promise_07_scoped_use_releases_on_every_way_out() {
    let dir = Dir::new();
    let lock = dir.lock(&Engine::new());
    {
        let _guard = lock.acquire(EX, None).unwrap();
        assert!(lock.is_locked().unwrap());
    }
    assert!(!lock.is_locked().unwrap());
    let panicked = {
        let lock = lock.clone();
        thread::spawn(move || {
            let _guard = lock.acquire(EX, None).unwrap();
            panic!("on purpose");
        })
    };
    panicked.join().unwrap_err();
    assert!(!lock.is_locked().unwrap());
    fn early(lock: &locket::LockFile) -> locket::Result<()> {
        let _guard = lock.acquire(EX, None)?;
        let _second = lock.acquire(EX, Duration::ZERO)?;
        unreachable!()
    }
    assert!(early(&lock).unwrap_err().is_would_block());
    assert!(!lock.is_locked().unwrap());
}

#[test]
fn promise_08_the_timeout_is_one_for_the_whole_acquire() {
    // The queue takes a part of it and the kernel another; together they may not take more.
    let dir = Dir::new();
    let engine = Engine::new();
    let lock = dir.lock(&engine);
    let foreign = dir.lock(&Engine::new());
    let foreign = foreign.acquire(EX, None).unwrap();
    let timeout = Duration::from_millis(200);
    let first = {
        let lock = lock.clone();
        thread::spawn(move || lock.acquire(EX, timeout / 2).unwrap_err().is_timeout())
    };
    let start = Instant::now();
    let error = lock.acquire(EX, timeout).unwrap_err();
    let took = start.elapsed();
    assert!(error.is_timeout());
    assert!(took >= timeout && took < timeout * 3, "{took:?}");
    assert!(first.join().unwrap());
    foreign.release().unwrap();
}

#[test]
fn promise_09_keeps_or_removes_the_file_and_never_splits_the_lock() {
    each_kernel_protocol(|options| {
        let dir = Dir::new();
        let path = dir.path("lock");
        let kept = Engine::new().open_with(&path, options).unwrap();
        kept.acquire(EX, None).unwrap().release().unwrap();
        assert!(path.exists());
        let removing = options.clone().on_release(OnRelease::Remove);
        let lock = Engine::new().open_with(&path, &removing).unwrap();
        lock.acquire(EX, None).unwrap().release().unwrap();
        assert!(!removes_open_files(&dir) || !path.exists());

        // Engines that remove the file under each other's feet all the time.
        let inside = Arc::new(AtomicBool::new(false));
        let threads: Vec<_> = (0..4)
            .map(|i| {
                let engine = Engine::new();
                let lock = engine.open_with(&path, &removing).unwrap();
                let inside = Arc::clone(&inside);
                thread::spawn(move || {
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
                })
            })
            .collect();
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
        drop((kept, lock));
        assert!(!path.exists());
    });
}

#[test]
fn promise_10_granted_in_the_order_of_arrival() {
    each_kernel_protocol(|options| {
        let dir = Dir::new();
        let lock = Engine::new().open_with(dir.path("lock"), options).unwrap();
        let guard = lock.acquire(EX, None).unwrap();
        let (sent, received) = mpsc::channel();
        let mut tasks = Vec::new();
        let mut threads = Vec::new();
        for i in 0..40 {
            if i % 2 == 0 {
                let mut task = lock.acquire_async(EX, None);
                assert!(poll(&mut task).is_pending());
                tasks.push((i, task));
            } else {
                // In the queue as soon as it can be canceled, which its own handle tells.
                let own = lock.clone();
                let sent = sent.clone();
                let before = waiting(&lock);
                threads.push(thread::spawn(move || {
                    let guard = own.acquire(EX, None).unwrap();
                    sent.send(i).unwrap();
                    drop(guard);
                }));
                eventually("the thread waits", || waiting(&lock) > before);
            }
        }
        for (i, task) in tasks {
            let sent = sent.clone();
            threads.push(thread::spawn(move || {
                let guard = block_on(task).unwrap();
                sent.send(i).unwrap();
                drop(guard);
            }));
        }
        guard.release().unwrap();
        let order: Vec<_> = (0..40)
            .map(|_| received.recv_timeout(STUCK).unwrap())
            .collect();
        assert_eq!(order, (0..40).collect::<Vec<_>>());
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
    });
}

/// How many wait in the queue of a lock: only its debug output tells.
fn waiting(lock: &locket::LockFile) -> usize {
    let debug = format!("{lock:?}");
    let (_, count) = debug.split_once("waiting: ").unwrap();
    count
        .chars()
        .take_while(char::is_ascii_digit)
        .collect::<String>()
        .parse()
        .unwrap()
}

#[test]
fn promise_11_path_and_descriptor_of_a_held_lock() {
    let dir = Dir::new();
    let lock = dir.lock(&Engine::new());
    let guard = lock.acquire(EX, None).unwrap();
    assert_eq!(guard.path(), dir.path("lock"));
    assert_eq!(lock.path(), dir.path("lock"));
    assert_eq!(guard.mode(), EX);
    #[cfg(unix)]
    {
        use std::os::fd::AsFd;
        use std::os::unix::fs::MetadataExt;
        let open = File::from(guard.as_fd().try_clone_to_owned().unwrap());
        let (open, named) = (open.metadata().unwrap(), guard.path().metadata().unwrap());
        assert_eq!((open.dev(), open.ino()), (named.dev(), named.ino()));
    }
    #[cfg(windows)]
    {
        use std::os::windows::io::AsHandle;
        let open = File::from(guard.as_handle().try_clone_to_owned().unwrap());
        let created = |metadata: std::fs::Metadata| metadata.created().unwrap();
        assert_eq!(
            created(open.metadata().unwrap()),
            created(guard.path().metadata().unwrap())
        );
    }
}

#[test]
fn promise_12_waiting_is_interruptible() {
    each_kernel_protocol(|options| {
        let dir = Dir::new();
        // Waiting in the queue, and waiting in the kernel.
        let mine = Engine::new();
        for holder in [mine.clone(), Engine::new()] {
            let guard = holder
                .open_with(dir.path("lock"), options)
                .unwrap()
                .acquire(EX, None)
                .unwrap();
            let lock = mine.open_with(dir.path("lock"), options).unwrap();
            let waiter = {
                let lock = lock.clone();
                thread::spawn(move || lock.acquire(EX, None))
            };
            eventually("it waits", || waiting(&lock) == 1);
            lock.cancel_waits();
            assert!(waiter.join().unwrap().unwrap_err().is_canceled());
            let mut task = lock.acquire_async(EX, None);
            assert!(poll(&mut task).is_pending());
            lock.cancel_waits();
            assert!(block_on(task).unwrap_err().is_canceled());
            let mut task = lock.acquire_async(EX, None);
            assert!(poll(&mut task).is_pending());
            drop(task);
            guard.release().unwrap();
            lock.acquire(EX, STUCK).unwrap().release().unwrap();
        }
    });
}

#[test]
fn promise_15_distinct_errors_that_name_the_path() {
    let dir = Dir::new();
    let lock = dir.lock(&Engine::new());
    let path = dir.path("lock");
    let _held = dir.lock(&Engine::new()).acquire(EX, None).unwrap();
    let errors = [
        lock.acquire(EX, Duration::ZERO).unwrap_err(),
        lock.acquire(EX, Duration::from_millis(5)).unwrap_err(),
        lock.release().unwrap_err(),
    ];
    let predicates = |e: &locket::Error| [e.is_would_block(), e.is_timeout(), e.is_not_owner()];
    for (i, error) in errors.iter().enumerate() {
        let mut expected = [false; 3];
        expected[i] = true;
        assert_eq!(predicates(error), expected, "{error}");
        assert_eq!(error.path(), path);
        assert!(
            error.to_string().contains(path.to_str().unwrap()),
            "{error}"
        );
    }
    let missing = Engine::new().open(dir.path("none/lock")).unwrap_err();
    assert!(missing.is_not_found(), "{missing}");
    let named = dir.path("none/lock").display().to_string();
    assert!(missing.to_string().contains(&named), "{missing}");
}

#[test]
fn promise_16_runs_a_function_with_the_lock_held() {
    let dir = Dir::new();
    let lock = dir.lock(&Engine::new());
    let sum = lock.with_lock(None, || {
        assert!(lock.is_locked().unwrap());
        4 + 3
    });
    assert_eq!(sum.unwrap(), 7);
    assert!(!lock.is_locked().unwrap());
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        lock.with_lock(None, || panic!("on purpose"))
    }));
    assert!(caught.is_err());
    assert!(!lock.is_locked().unwrap());
    let _held = lock.acquire(EX, None).unwrap();
    let e = lock
        .with_lock(Duration::ZERO, || unreachable!("without the lock"))
        .unwrap_err();
    assert!(e.is_would_block());
}
