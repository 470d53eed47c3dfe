//! What guards promise, which exist only in process: 5, 7, 11 and 16.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::Duration;

use locket::{Engine, LockFile, OnRelease, State};

use super::{BROKEN, NOW, foreign, in_another_thread, is_free, open};
use crate::common::*;

#[test]
fn any_thread_releases_through_the_guard_or_through_a_handle() {
    each_protocol(|options| {
        let dir = Dir::new();
        let engine = Engine::new();
        let lock = open(&engine, &dir, options);
        let guard = lock.acquire(EX, None).unwrap();
        in_another_thread(|| guard.release().unwrap());
        assert!(!lock.is_locked().unwrap());
        // Acquired in another thread, and released in this one.
        let guard = in_another_thread(|| lock.acquire(EX, None).unwrap());
        lock.release().unwrap();
        assert!(guard.release().unwrap_err().is_not_locked());
        is_free(&dir, options);
        // Through another handle on the same file.
        let guard = lock.acquire(EX, None).unwrap();
        in_another_thread(|| open(&engine, &dir, options).release().unwrap());
        assert!(!lock.is_locked().unwrap());
        // The first guard is empty now, and leaves the next hold alone.
        let next = lock.acquire(EX, NOW).unwrap();
        drop(guard);
        assert_eq!(lock.state(), State::Held);
        next.release().unwrap();
        is_free(&dir, options);
    });
}

#[test]
fn a_guard_of_a_released_lock_is_not_locked() {
    each_protocol(|options| {
        let dir = Dir::new();
        for on_release in [OnRelease::Keep, OnRelease::Remove] {
            if !removes_open_files(&dir) {
                continue;
            }
            let options = options.clone().on_release(on_release);
            let lock = open(&Engine::new(), &dir, &options);
            let guard = lock.acquire(EX, None).unwrap();
            assert!(guard.is_held());
            lock.release().unwrap();
            assert!(!guard.is_held());
            for second in [lock.release().unwrap_err(), guard.release().unwrap_err()] {
                assert!(second.is_not_locked() && !second.is_not_owner(), "{second}");
            }
        }
    });
}

#[test]
fn a_guard_of_a_broken_lock_is_lost_once() {
    each_protocol(|options| {
        let dir = Dir::new();
        let engine = Engine::new();
        let (lock, breaker) = (open(&engine, &dir, options), open(&engine, &dir, options));
        let guard = lock.acquire(EX, NOW).unwrap();
        breaker.break_lock().unwrap();
        assert_eq!(lock.state(), BROKEN);
        assert!(lock.release().unwrap_err().is_lost());
        assert!(lock.release().unwrap_err().is_not_locked());
        assert!(guard.release().unwrap_err().is_not_locked());
        // The lock of the next holder is not the one that was lost.
        let guard = lock.acquire(EX, NOW).unwrap();
        breaker.break_lock().unwrap();
        let third = foreign(&dir, options);
        let next = third.acquire(EX, NOW).unwrap();
        assert!(guard.release().unwrap_err().is_lost());
        assert!(lock.release().unwrap_err().is_not_owner());
        assert_eq!(third.state(), State::Held);
        next.release().unwrap();
    });
}

#[test]
fn a_scope_releases_at_its_end_on_an_error_and_on_a_panic() {
    fn fails(lock: &LockFile) -> locket::Result<()> {
        let _guard = lock.acquire(EX, None)?;
        let _second = lock.acquire(EX, Duration::ZERO)?;
        unreachable!()
    }
    each_protocol(|options| {
        let dir = Dir::new();
        let lock = open(&Engine::new(), &dir, options);
        {
            let _guard = lock.acquire(EX, None).unwrap();
            assert!(lock.is_locked().unwrap());
        }
        assert!(!lock.is_locked().unwrap());
        let panics = lock.clone();
        let panicked = thread::spawn(move || {
            let _guard = panics.acquire(EX, None).unwrap();
            panic!("on purpose");
        });
        panicked.join().unwrap_err();
        assert!(!lock.is_locked().unwrap());
        assert!(fails(&lock).unwrap_err().is_would_block());
        assert!(!lock.is_locked().unwrap());
        is_free(&dir, options);
    });
}

#[test]
fn a_call_has_the_lock_and_passes_on_result_panic_and_loss() {
    each_protocol(|options| {
        let dir = Dir::new();
        let engine = Engine::new();
        let lock = open(&engine, &dir, options);
        let add = |a: i32, b: i32| {
            assert_eq!(lock.state(), State::Held);
            assert!(lock.is_locked().unwrap());
            a + b
        };
        assert_eq!(lock.with_lock(None, || add(4, 3)).unwrap(), 7);
        assert!(!lock.is_locked().unwrap());
        let caught = catch_unwind(AssertUnwindSafe(|| {
            lock.with_lock(None, || panic!("on purpose"))
        }));
        assert!(caught.is_err());
        is_free(&dir, options);

        let held = lock.acquire(EX, None).unwrap();
        for (timeout, is_expected) in [
            (NOW, locket::Error::is_would_block as fn(&_) -> _),
            (Duration::from_millis(50), locket::Error::is_timeout),
        ] {
            let call = lock.with_lock(timeout, || unreachable!("without the lock"));
            assert!(is_expected(&call.unwrap_err()));
        }
        held.release().unwrap();
        if !removes_open_files(&dir) {
            return;
        }
        let breaker = open(&engine, &dir, options);
        let mut ran = false;
        let error = lock.with_lock(None, || {
            breaker.break_lock().unwrap();
            ran = true;
        });
        assert!(ran && error.unwrap_err().is_lost());
        is_free(&dir, options);
    });
}

#[test]
fn a_guard_has_its_path_its_mode_and_its_descriptor() {
    each_protocol(|options| {
        let dir = Dir::new();
        let lock = open(&Engine::new(), &dir, options);
        let guard = lock.acquire(EX, None).unwrap();
        assert_eq!(guard.path(), dir.path("lock"));
        assert_eq!(guard.mode(), EX);
        has_its_descriptor(&dir, &lock, &guard);
        guard.release().unwrap();
        assert_eq!(lock.path(), dir.path("lock"));
    });
}

#[cfg(unix)]
fn has_its_descriptor(dir: &Dir, lock: &LockFile, guard: &locket::Guard) {
    use std::os::fd::AsFd;
    use std::os::unix::fs::MetadataExt;

    use locket::Protocol;
    let open = fs::File::from(guard.as_fd().try_clone_to_owned().unwrap());
    // An existence lock has that of its marker's file; without one, of its directory or database.
    let named = match lock.protocol() {
        Protocol::Sqlite => return,
        Protocol::Symlink => dir.0.path().to_owned(),
        Protocol::Link => dir.path("lock.lock"),
        Protocol::Mkdir => {
            let mut inside = fs::read_dir(dir.path("lock.lock")).unwrap();
            inside.next().unwrap().unwrap().path()
        }
        _ => dir.path("lock"),
    };
    let (open, named) = (open.metadata().unwrap(), named.metadata().unwrap());
    assert_eq!((open.dev(), open.ino()), (named.dev(), named.ino()));
}

#[cfg(windows)]
fn has_its_descriptor(dir: &Dir, lock: &LockFile, guard: &locket::Guard) {
    use std::os::windows::io::AsHandle;
    let open = fs::File::from(guard.as_handle().try_clone_to_owned().unwrap());
    let created = |metadata: fs::Metadata| metadata.created().unwrap();
    // Windows passes no existence lock on: it has the handle of its directory.
    let named = match lock.protocol() {
        locket::Protocol::Sqlite => return,
        protocol if protocol.is_existence_lock() => dir.0.path().to_owned(),
        _ => dir.path("lock"),
    };
    let named = named.metadata().unwrap();
    assert_eq!(created(open.metadata().unwrap()), created(named));
}
