//! The contracts of three predecessors, one test for each behaviour: pylockfile's compliance tests,
//! those that it has commented out, and what it documents; lock_file's documentation; locket.py's
//! tests. For native callers; where it takes several processes, the workspace's `tests` folder has
//! the rest under the same numbers (`contract_process.rs`), and `contract_guest.rs` has guests.
//!
//! Where Locket differs on purpose, the test says what Locket promises, and a line beginning with
//! "There" says what the predecessor does.

mod common;

use std::fs;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use common::*;
use locket::{Engine, LockFile, LostReason, OnRelease, Options, State};

const NOW: Duration = Duration::ZERO;
const BROKEN: State = State::Lost(LostReason::Broken);

fn open(engine: &Engine, dir: &Dir, options: &Options) -> LockFile {
    engine.open_with(dir.path("lock"), options).unwrap()
}

/// The lock in an engine of its own, which is to every other like another process.
fn foreign(dir: &Dir, options: &Options) -> LockFile {
    open(&Engine::new(), dir, options)
}

/// Runs a test for every protocol, once with the process as the owner and once with each thread.
fn each_ownership(test: impl Fn(&Options)) {
    each_protocol(|options| {
        for threaded in [false, true] {
            println!("threaded: {threaded}");
            test(&options.clone().threaded(threaded));
        }
    });
}

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

/// Runs `test` in another thread, and passes on what came of it.
fn in_another_thread<R: Send>(test: impl FnOnce() -> R + Send) -> R {
    thread::scope(|scope| scope.spawn(test).join().unwrap())
}

/// Waits in vain for `timeout`, and no shorter.
#[track_caller]
fn times_out(timeout: Duration, acquire: impl FnOnce() -> locket::Error) {
    let start = Instant::now();
    let error = acquire();
    assert!(error.is_timeout() && !error.is_would_block(), "{error}");
    let took = start.elapsed();
    assert!(took >= timeout && took < STUCK, "{took:?}");
}

/// The lock is free for everybody, and works.
#[track_caller]
fn is_free(dir: &Dir, options: &Options) {
    let lock = foreign(dir, options);
    assert!(!lock.is_locked().unwrap());
    lock.acquire(EX, NOW).unwrap().release().unwrap();
}

// pylockfile: the tests of its compliance suite, for each of its classes.

#[test]
fn pylockfile_01_acquire_basic() {
    each_ownership(|options| {
        let dir = Dir::new();
        let lock = open(&Engine::new(), &dir, options);
        assert_eq!(lock.state(), State::Unlocked);
        let guard = lock.acquire(EX, None).unwrap();
        assert_eq!(lock.state(), State::Held);
        assert!(lock.is_locked().unwrap());
        assert!(lock.holder().unwrap().unwrap().is_self);
        guard.release().unwrap();
        assert_eq!(lock.state(), State::Unlocked);
        assert!(!lock.is_locked().unwrap());
        is_free(&dir, options);
    });
}

#[test]
fn pylockfile_02_03_acquire_timeout() {
    each_ownership(|options| {
        let dir = Dir::new();
        let lock = open(&Engine::new(), &dir, options);
        let timeout = Duration::from_millis(100);
        while_another_thread_holds(&lock, || {
            times_out(timeout, || lock.acquire(EX, timeout).unwrap_err());
            assert!(lock.is_locked().unwrap());
        });
        // Behind another process too.
        while_another_thread_holds(&foreign(&dir, options), || {
            times_out(timeout, || lock.acquire(EX, timeout).unwrap_err());
        });
    });
}

/// There the timeout is an argument of the constructor, which `acquire` falls back on.
#[test]
fn pylockfile_04_context_timeout() {
    each_ownership(|options| {
        let dir = Dir::new();
        let lock = open(&Engine::new(), &dir, options);
        let timeout = Duration::from_millis(200);
        while_another_thread_holds(&lock, || {
            let never = || unreachable!("without the lock");
            times_out(timeout, || lock.with_lock(timeout, never).unwrap_err());
        });
    });
}

#[test]
fn pylockfile_05_release_basic() {
    each_ownership(|options| {
        let dir = Dir::new();
        let lock = open(&Engine::new(), &dir, options);
        let guard = lock.acquire(EX, None).unwrap();
        assert!(lock.is_locked().unwrap());
        lock.release().unwrap();
        assert!(!lock.is_locked().unwrap());
        assert_eq!(lock.state(), State::Unlocked);
        for second in [lock.release().unwrap_err(), guard.release().unwrap_err()] {
            assert!(second.is_not_locked() && !second.is_not_owner(), "{second}");
        }
        is_free(&dir, options);
    });
}

#[test]
fn pylockfile_06_is_locked() {
    each_ownership(|options| {
        let dir = Dir::new();
        let lock = open(&Engine::new(), &dir, options);
        assert!(!lock.is_locked().unwrap());
        let guard = lock.acquire(EX, Duration::from_secs(2)).unwrap();
        assert!(lock.is_locked().unwrap());
        guard.release().unwrap();
        assert!(!lock.is_locked().unwrap());
    });
}

#[test]
fn pylockfile_07_i_am_locking_and_a_second_object() {
    each_ownership(|options| {
        let dir = Dir::new();
        let engine = Engine::new();
        let (lock, second) = (open(&engine, &dir, options), open(&engine, &dir, options));
        let other = foreign(&dir, options);
        let guard = lock.acquire(EX, NOW).unwrap();
        // The same owner, so it holds what the first object acquired.
        assert!(second.is_locked().unwrap());
        assert_eq!(second.state(), State::Held);
        assert!(second.holder().unwrap().unwrap().is_self);
        // Somebody else only sees it.
        assert!(other.is_locked().unwrap());
        assert_eq!(other.state(), State::Unlocked);
        assert!(!other.holder().unwrap().unwrap().is_self);
        guard.release().unwrap();
        for lock in [lock, second, other] {
            assert!(!lock.is_locked().unwrap());
            assert_eq!(lock.state(), State::Unlocked);
        }
    });
}

/// There the release of the first owner is "not locked", and if somebody else has taken the lock
/// since, it removes his.
#[test]
fn pylockfile_08_break_lock() {
    each_ownership(|options| {
        let dir = Dir::new();
        let engine = Engine::new();
        let lock = open(&engine, &dir, options);
        for breaker in [open(&engine, &dir, options), foreign(&dir, options)] {
            assert!(breaker.break_lock().unwrap_err().is_not_locked());
            let guard = lock.acquire(EX, NOW).unwrap();
            match breaker.break_lock() {
                Ok(()) => {}
                // One of the kernel that another process holds is never left behind.
                Err(e) if e.is_unsupported() && !lock.protocol().is_existence_lock() => {
                    assert_eq!(lock.state(), State::Held);
                    guard.release().unwrap();
                    continue;
                }
                Err(e) => panic!("{e}"),
            }
            assert!(!breaker.is_locked().unwrap());
            eventually("the owner learns it", || lock.state() == BROKEN);
            assert!(lock.release().unwrap_err().is_lost());
            assert!(lock.release().unwrap_err().is_not_locked());
            assert!(guard.release().unwrap_err().is_not_locked());

            // The next owner's lock is nothing to the former.
            let guard = lock.acquire(EX, NOW).unwrap();
            breaker.break_lock().unwrap();
            let third = foreign(&dir, options);
            let next = third.acquire(EX, NOW).unwrap();
            assert!(guard.release().unwrap_err().is_lost());
            assert!(lock.release().unwrap_err().is_not_owner());
            assert_eq!(third.state(), State::Held);
            next.release().unwrap();
        }
        is_free(&dir, options);
    });
}

#[test]
fn pylockfile_09_enter() {
    each_ownership(|options| {
        let dir = Dir::new();
        let lock = open(&Engine::new(), &dir, options);
        {
            let _guard = lock.acquire(EX, None).unwrap();
            assert_eq!(lock.state(), State::Held);
            assert!(foreign(&dir, options).is_locked().unwrap());
        }
        assert!(!lock.is_locked().unwrap());
        assert_eq!(lock.state(), State::Unlocked);
    });
}

#[test]
fn pylockfile_10_locked_decorator() {
    each_ownership(|options| {
        let dir = Dir::new();
        let lock = open(&Engine::new(), &dir, options);
        let add = |a: i32, b: i32| {
            assert_eq!(lock.state(), State::Held);
            a + b
        };
        assert_eq!(lock.with_lock(None, || add(4, 3)).unwrap(), 7);
        assert!(!lock.is_locked().unwrap());
    });
}

// pylockfile: the tests that it has commented out.

/// There any timeout below zero does the same; here there is none such. And there no timeout makes
/// the pid-file fail at once; here it waits, as in every protocol.
#[test]
fn pylockfile_11_acquire_no_timeout() {
    each_protocol(|options| {
        for threaded in [false, true] {
            let dir = Dir::new();
            let engine = Engine::new();
            let options = options.clone().threaded(threaded);
            let (lock, second) = (open(&engine, &dir, &options), open(&engine, &dir, &options));
            while_another_thread_holds(&lock, || {
                let error = second.acquire(EX, NOW).unwrap_err();
                assert!(error.is_would_block() && !error.is_timeout(), "{error}");
                assert!(second.try_acquire(EX).unwrap().is_none());
                // Another thread's is this one's, unless each is an owner.
                let expected = if threaded {
                    State::Unlocked
                } else {
                    State::Held
                };
                assert_eq!(second.state(), expected);
            });
            // For ever is until it is released.
            let guard = lock.acquire(EX, NOW).unwrap();
            let (sent, received) = mpsc::channel();
            thread::scope(|scope| {
                scope.spawn(|| sent.send(second.acquire(EX, None).is_ok()).unwrap());
                assert!(received.recv_timeout(QUIESCENT).is_err());
                guard.release().unwrap();
                assert!(received.recv_timeout(STUCK).unwrap());
            });
        }
    });
}

#[test]
fn pylockfile_12_release_from_thread() {
    each_protocol(|options| {
        let dir = Dir::new();
        let engine = Engine::new();
        let threaded = open(&engine, &dir, &options.clone().threaded(true));
        let guard = threaded.acquire(EX, None).unwrap();
        let error = in_another_thread(|| threaded.release().unwrap_err());
        assert!(error.is_not_owner() && !error.is_not_locked(), "{error}");
        assert_eq!(threaded.state(), State::Held);
        // There nobody but the thread can. Here a guard is the right to release, wherever it goes.
        in_another_thread(move || guard.release().unwrap());
        assert!(!threaded.is_locked().unwrap());
        // Where the process is the owner, each of its threads is.
        let lock = open(&engine, &dir, options);
        let guard = lock.acquire(EX, None).unwrap();
        in_another_thread(|| lock.release().unwrap());
        assert!(guard.release().unwrap_err().is_not_locked());
        is_free(&dir, options);
    });
}

#[test]
fn pylockfile_13_threaded_is_locked_and_i_am_locking() {
    each_protocol(|options| {
        let options = options.clone().threaded(true);
        let dir = Dir::new();
        let lock = open(&Engine::new(), &dir, &options);
        while_another_thread_holds(&lock, || {
            assert!(lock.is_locked().unwrap());
            assert_eq!(lock.state(), State::Unlocked);
            assert!(!lock.holder().unwrap().unwrap().is_self);
            assert!(lock.release().unwrap_err().is_not_owner());
        });
        assert!(!lock.is_locked().unwrap());
    });
}

#[test]
fn pylockfile_14_threaded_break_lock() {
    each_protocol(|options| {
        let options = options.clone().threaded(true);
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

#[test]
fn pylockfile_15_release_basic_threaded() {
    each_protocol(|options| {
        let options = options.clone().threaded(true);
        let dir = Dir::new();
        let lock = open(&Engine::new(), &dir, &options);
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

// pylockfile: what its documentation says beside.

/// There the owner succeeds, and one release frees it. Here it is an error, never a second hold.
#[test]
fn pylockfile_16_acquire_by_the_owner() {
    each_ownership(|options| {
        let dir = Dir::new();
        let engine = Engine::new();
        let (lock, second) = (open(&engine, &dir, options), open(&engine, &dir, options));
        let guard = lock.acquire(EX, None).unwrap();
        for again in [&lock, &second] {
            assert!(again.acquire(EX, NOW).unwrap_err().is_would_block());
            let timeout = Duration::from_millis(20);
            times_out(timeout, || again.acquire(EX, timeout).unwrap_err());
        }
        assert_eq!(lock.state(), State::Held);
        guard.release().unwrap();
        assert!(lock.release().unwrap_err().is_not_locked());
    });
}

#[test]
#[cfg(target_os = "linux")]
fn pylockfile_17_lock_failed_where_nothing_can_be_made() {
    each_ownership(|options| {
        let dir = Dir::new();
        // The database is elsewhere, and so must be made unwritable as well.
        let options = options.clone().database(dir.path("locks.db"));
        let acquire = || {
            Engine::new()
                .open_with(dir.path("lock"), &options)?
                .acquire(EX, None)
        };
        let error = without_privileges(&dir, || acquire().unwrap_err());
        assert!(!error.is_would_block() && !error.is_timeout(), "{error}");
        assert_eq!(error.path(), dir.path("lock"));
        // SQLite says no more than that it cannot.
        assert!(error.is_denied() || error.is_io(), "{error}");
        let left: Vec<_> = fs::read_dir(dir.0.path()).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
        acquire().unwrap().release().unwrap();
    });
}

/// There the link beside the lock once had the same name for both, and so one was the other.
#[test]
fn pylockfile_18_adjacent_locks() {
    each_ownership(|options| {
        let dir = Dir::new();
        let engine = Engine::new();
        let [a, b] = ["a", "b"].map(|name| engine.open_with(dir.path(name), options).unwrap());
        let first = a.acquire(EX, NOW).unwrap();
        assert!(!b.is_locked().unwrap());
        let second = b.acquire(EX, NOW).unwrap();
        first.release().unwrap();
        assert!(!a.is_locked().unwrap());
        assert_eq!(b.state(), State::Held);
        assert!(b.try_acquire(EX).unwrap().is_none());
        second.release().unwrap();
    });
}

/// What is on disk while a lock is held, and that nothing is afterwards.
#[test]
#[cfg(unix)]
fn pylockfile_19_what_is_on_disk() {
    use std::os::unix::fs::MetadataExt;
    use std::path::Path;

    use locket::Protocol;
    each_ownership(|options| {
        let dir = Dir::new();
        let lock = open(&Engine::new(), &dir, options);
        if !lock.protocol().is_existence_lock() {
            return;
        }
        let guard = lock.acquire(EX, NOW).unwrap();
        let (file, beside) = (dir.path("lock"), dir.path("lock.lock"));
        let stat = |path: &Path| fs::symlink_metadata(path).unwrap();
        match lock.protocol() {
            Protocol::Link => {
                // The file of the holder's own is the other of the two.
                assert!(stat(&beside).is_file() && stat(&beside).len() == 0);
                assert_eq!(stat(&beside).nlink(), 2);
            }
            Protocol::Symlink => {
                let target = fs::read_link(&beside).unwrap();
                assert!(target.is_relative() && !dir.0.path().join(target).exists());
            }
            Protocol::Mkdir => {
                let inside: Vec<_> = fs::read_dir(&beside).unwrap().map(Result::unwrap).collect();
                assert_eq!(inside.len(), 1);
                assert_eq!(inside[0].metadata().unwrap().len(), 0);
            }
            Protocol::PidFile => {
                let pid = format!("{}\n", std::process::id());
                assert_eq!(fs::read_to_string(&file).unwrap(), pid);
            }
            Protocol::Soft => {
                let record = fs::read_to_string(&file).unwrap();
                let pid = format!("{}\n", std::process::id());
                assert!(
                    record.starts_with(&pid) && record.ends_with('\n'),
                    "{record:?}"
                );
            }
            _ => assert!(!file.exists() && !beside.exists()),
        }
        guard.release().unwrap();
        let left: Vec<_> = fs::read_dir(dir.0.path()).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
    });
}

// lock_file: what its documentation and source promise.

/// There the constructor acquires.
#[test]
fn lock_file_01_acquires_and_creates() {
    each_kernel_protocol(|options| {
        let dir = Dir::new();
        let lock = open(&Engine::new(), &dir, options);
        let guard = lock.acquire(EX, None).unwrap();
        let made = fs::metadata(dir.path("lock")).unwrap();
        assert_eq!(made.len(), 0);
        fs::write(dir.path("other"), "").unwrap();
        // As any file is made: 0666 less the umask.
        let other = fs::metadata(dir.path("other")).unwrap();
        assert_eq!(made.permissions(), other.permissions());
        guard.release().unwrap();
    });
}

#[test]
fn lock_file_02_without_waiting_it_is_an_error_that_names_the_path() {
    each_protocol(|options| {
        let dir = Dir::new();
        let _guard = foreign(&dir, options).acquire(EX, None).unwrap();
        let error = foreign(&dir, options).acquire(EX, NOW).unwrap_err();
        assert!(error.is_would_block());
        let path = dir.path("lock");
        assert_eq!(error.path(), path);
        assert!(
            error.to_string().contains(path.to_str().unwrap()),
            "{error}"
        );
    });
}

#[test]
fn lock_file_03_waiting_lasts_until_it_is_free() {
    each_protocol(|options| {
        let dir = Dir::new();
        let guard = foreign(&dir, options).acquire(EX, None).unwrap();
        let (sent, received) = mpsc::channel();
        let lock = foreign(&dir, options);
        thread::scope(|scope| {
            scope.spawn(|| sent.send(lock.acquire(EX, None).unwrap()).unwrap());
            assert!(received.recv_timeout(QUIESCENT).is_err());
            guard.release().unwrap();
            let guard = received.recv_timeout(STUCK).unwrap();
            assert_eq!(lock.state(), State::Held);
            guard.release().unwrap();
        });
    });
}

/// There an interrupted wait is such an error. Here it goes on; what ends it is `cancel_waits`.
#[test]
fn lock_file_04_other_errors_are_those_of_the_system() {
    each_protocol(|options| {
        let dir = Dir::new();
        let missing = dir.path("none/lock");
        let error = Engine::new().open_with(&missing, options).unwrap_err();
        assert!(error.is_not_found(), "{error}");
        assert!(error.os_error().is_some());
        let named = missing.to_str().unwrap();
        assert!(error.to_string().contains(named), "{error}");
        let as_io = std::io::Error::from(error);
        assert_eq!(as_io.kind(), std::io::ErrorKind::NotFound);

        let _guard = foreign(&dir, options).acquire(EX, None).unwrap();
        let lock = foreign(&dir, options);
        let mut waiting = pending(&lock, EX);
        lock.cancel_waits();
        assert!(block_on(&mut waiting).unwrap_err().is_canceled());
    });
}

#[test]
fn lock_file_05_what_is_acquired_is_the_file_at_the_path() {
    each_kernel_protocol(|options| {
        let dir = Dir::new();
        if !removes_open_files(&dir) {
            return;
        }
        let (a, b) = (foreign(&dir, options), foreign(&dir, options));
        // Removed between opening and locking.
        fs::remove_file(dir.path("lock")).unwrap();
        let held = a.acquire(EX, NOW).unwrap();
        assert!(dir.path("lock").exists());
        // Replaced, while somebody waits for the one that was.
        let mut waiting = pending(&b, EX);
        fs::remove_file(dir.path("lock")).unwrap();
        let third = foreign(&dir, options);
        let replaced = third.acquire(EX, NOW).unwrap();
        assert!(held.release().unwrap_err().is_lost());
        // It has moved on to the new file, and waits for that.
        thread::sleep(QUIESCENT);
        assert!(poll(&mut waiting).is_pending());
        replaced.release().unwrap();
        let guard = block_on(waiting).unwrap();
        assert!(third.try_acquire(EX).unwrap().is_none());
        guard.release().unwrap();
    });
}

/// There removal is the default.
#[test]
fn lock_file_06_release_removes_or_keeps_the_file() {
    each_kernel_protocol(|options| {
        let dir = Dir::new();
        let path = dir.path("lock");
        let lock = open(&Engine::new(), &dir, options);
        lock.acquire(EX, None).unwrap().release().unwrap();
        assert!(path.exists());
        let options = options.clone().on_release(OnRelease::Remove);
        let lock = open(&Engine::new(), &dir, &options);
        let guard = lock.acquire(EX, None).unwrap();
        assert!(path.exists());
        if removes_open_files(&dir) {
            guard.release().unwrap();
            assert!(!path.exists());
        }
    });
}

/// There the second release is a `ValueError`. Here that of a guard does not compile; that of a
/// lock is an error of its own.
#[test]
fn lock_file_07_release_twice() {
    each_protocol(|options| {
        let dir = Dir::new();
        for on_release in [OnRelease::Keep, OnRelease::Remove] {
            if !removes_open_files(&dir) {
                continue;
            }
            let options = options.clone().on_release(on_release);
            let lock = open(&Engine::new(), &dir, &options);
            let guard = lock.acquire(EX, None).unwrap();
            lock.release().unwrap();
            assert!(lock.release().unwrap_err().is_not_locked());
            assert!(guard.release().unwrap_err().is_not_locked());
        }
    });
}

/// There each of these is a `ValueError` after the release; here none can be asked of a guard that
/// is released, for there is none any more.
#[test]
fn lock_file_08_the_guard_its_path_and_its_descriptor() {
    each_protocol(|options| {
        let dir = Dir::new();
        let lock = open(&Engine::new(), &dir, options);
        let guard = lock.acquire(EX, None).unwrap();
        assert_eq!(guard.path(), dir.path("lock"));
        assert_eq!(guard.mode(), EX);
        #[cfg(unix)]
        {
            use std::os::fd::AsFd;
            use std::os::unix::fs::MetadataExt;

            use locket::Protocol;
            let open = fs::File::from(guard.as_fd().try_clone_to_owned().unwrap());
            // That of a name is the directory in which it is, or its database is.
            let named = match lock.protocol() {
                Protocol::Sqlite => None,
                protocol if protocol.is_existence_lock() => Some(dir.0.path().to_owned()),
                _ => Some(dir.path("lock")),
            };
            if let Some(named) = named {
                let (open, named) = (open.metadata().unwrap(), named.metadata().unwrap());
                assert_eq!((open.dev(), open.ino()), (named.dev(), named.ino()));
            }
        }
        guard.release().unwrap();
        assert_eq!(lock.path(), dir.path("lock"));
    });
}

#[test]
fn lock_file_09_leaving_the_scope_releases_and_passes_on_errors() {
    each_protocol(|options| {
        let dir = Dir::new();
        if !removes_open_files(&dir) {
            return;
        }
        let engine = Engine::new();
        let lock = open(&engine, &dir, options);
        let breaker = open(&engine, &dir, options);
        let mut ran = false;
        let error = lock
            .with_lock(None, || {
                breaker.break_lock().unwrap();
                ran = true;
            })
            .unwrap_err();
        assert!(ran && error.is_lost(), "{error}");
        is_free(&dir, options);
        // On the way of a panic too.
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            lock.with_lock(None, || panic!("on purpose"))
        }));
        assert!(caught.is_err());
        is_free(&dir, options);
    });
}

#[test]
fn lock_file_10_what_they_print() {
    each_protocol(|options| {
        let dir = Dir::new();
        let lock = open(&Engine::new(), &dir, options);
        let path = format!("{:?}", dir.path("lock"));
        let protocol = format!("{:?}", lock.protocol());
        let print = || {
            let text = format!("{lock:?}");
            assert!(text.starts_with("LockFile"), "{text}");
            assert!(text.contains(&path) && text.contains(&protocol), "{text}");
            text
        };
        let guard = lock.acquire(EX, None).unwrap();
        assert!(print().contains("holding: 1"));
        let text = format!("{guard:?}");
        assert!(text.starts_with("Guard") && text.contains(&path), "{text}");
        guard.release().unwrap();
        assert!(print().contains("holding: 0"));
        let error = lock.release().unwrap_err();
        let text = format!("{error:?}");
        assert!(text.contains("NotLocked") && text.contains(&path), "{text}");
    });
}

#[test]
#[cfg(target_os = "linux")]
fn lock_file_11_a_release_that_cannot_remove_the_file_frees_the_lock() {
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
        assert_eq!(lock.state(), State::Unlocked);
        assert!(path.exists());
        let kept = options.clone().on_release(OnRelease::Keep);
        is_free(&dir, &kept);
    });
}

/// Between processes in the order of the kernel's queue, as long as nobody removes the file.
#[test]
#[cfg(target_os = "linux")]
fn lock_file_12_first_come_first_served() {
    each_kernel_protocol(|options| {
        const WAITERS: usize = 6;
        let dir = Dir::new();
        let path = dir.path("lock");
        let guard = foreign(&dir, options).acquire(EX, None).unwrap();
        let (sent, received) = mpsc::channel();
        thread::scope(|scope| {
            for i in 0..WAITERS {
                let (sent, lock) = (sent.clone(), foreign(&dir, options));
                scope.spawn(move || {
                    let guard = lock.acquire(EX, None).unwrap();
                    sent.send(i).unwrap();
                    guard.release().unwrap();
                });
                eventually("it is in the queue", || kernel_waiters(&path) == i + 1);
            }
            guard.release().unwrap();
            let next = || received.recv_timeout(STUCK).unwrap();
            let order: Vec<_> = (0..WAITERS).map(|_| next()).collect();
            assert_eq!(order, (0..WAITERS).collect::<Vec<_>>());
        });
    });
}

// `lock_file_13_…`, that the kernel frees the locks of the dead, takes a process.

// locket.py: its tests; 12 to 16 take another process and are in `contract_process.rs` too.

#[test]
fn locket_py_01_an_uncontested_lock_is_had() {
    each_protocol(|options| {
        let dir = Dir::new();
        let lock = open(&Engine::new(), &dir, options);
        let _guard = lock.acquire(EX, None).unwrap();
        assert_eq!(lock.state(), State::Held);
    });
}

#[test]
fn locket_py_02_with_a_timeout_of_zero_too() {
    each_protocol(|options| {
        let dir = Dir::new();
        let lock = open(&Engine::new(), &dir, options);
        let _guard = lock.acquire(EX, NOW).unwrap();
        assert_eq!(lock.state(), State::Held);
    });
}

#[test]
fn locket_py_03_leaving_the_scope_releases_though_the_lock_is_still_there() {
    each_protocol(|options| {
        let dir = Dir::new();
        let lock = open(&Engine::new(), &dir, options);
        drop(lock.acquire(EX, None).unwrap());
        let _next = foreign(&dir, options).acquire(EX, NOW).unwrap();
        assert_eq!(lock.state(), State::Unlocked);
    });
}

#[test]
fn locket_py_04_acquire_and_release_by_hand() {
    each_protocol(|options| {
        let dir = Dir::new();
        let lock = open(&Engine::new(), &dir, options);
        for _ in 0..2 {
            let guard = lock.acquire(EX, None).unwrap();
            lock.release().unwrap();
            drop(guard);
        }
        is_free(&dir, options);
    });
}

#[test]
fn locket_py_05_to_07_not_twice_by_one_object_nor_by_two_whatever_their_timeouts() {
    each_protocol(|options| {
        let dir = Dir::new();
        let engine = Engine::new();
        let lock = open(&engine, &dir, options);
        for first in [None, Some(NOW), Some(Duration::from_secs(60))] {
            let guard = lock.acquire(EX, first).unwrap();
            assert!(lock.acquire(EX, NOW).unwrap_err().is_would_block());
            let second = open(&engine, &dir, options);
            assert!(second.acquire(EX, NOW).unwrap_err().is_would_block());
            let timeout = Duration::from_millis(10);
            times_out(timeout, || second.acquire(EX, timeout).unwrap_err());
            guard.release().unwrap();
        }
    });
}

#[test]
fn locket_py_08_release_of_an_unlocked_lock() {
    each_protocol(|options| {
        let dir = Dir::new();
        let lock = open(&Engine::new(), &dir, options);
        let error = lock.release().unwrap_err();
        assert!(error.is_not_locked());
        let text = error.to_string();
        assert!(
            text.starts_with("cannot release") && text.contains("not held"),
            "{text}"
        );
    });
}

/// There by the identity of an object beneath, which is one for each spelling of a path.
#[test]
fn locket_py_09_to_11_one_path_is_one_lock_and_two_are_two() {
    each_protocol(|options| {
        let dir = Dir::new();
        let engine = Engine::new();
        let lock = open(&engine, &dir, options);
        let others = [
            options.clone(),
            options.clone().max_hold(Some(Duration::from_secs(600))),
            options.clone().pinned(true),
        ];
        let guard = lock.acquire(EX, None).unwrap();
        for other in others {
            let same = open(&engine, &dir, &other);
            assert_eq!(same.state(), State::Held);
            let spelled = engine.open_with(dir.path("./lock"), &other).unwrap();
            assert_eq!(spelled.state(), State::Held);
            let different = engine.open_with(dir.path("different"), &other).unwrap();
            assert_eq!(different.state(), State::Unlocked);
            assert!(different.try_acquire(EX).unwrap().is_some());
        }
        guard.release().unwrap();
    });
}

#[test]
fn locket_py_12_and_16_a_waiter_gets_it_as_soon_as_it_is_released() {
    each_protocol(|options| {
        for timeout in [None, Some(STUCK)] {
            let dir = Dir::new();
            let (holder, waiter) = (foreign(&dir, options), foreign(&dir, options));
            let guard = holder.acquire(EX, None).unwrap();
            let (sent, received) = mpsc::channel();
            thread::scope(|scope| {
                let waits = waiter.clone();
                scope.spawn(move || sent.send(waits.acquire(EX, timeout)).unwrap());
                assert!(received.recv_timeout(QUIESCENT).is_err());
                assert_eq!(
                    (holder.state(), waiter.state()),
                    (State::Held, State::Unlocked)
                );
                guard.release().unwrap();
                let next = received.recv_timeout(STUCK).unwrap().unwrap();
                assert_eq!(
                    (holder.state(), waiter.state()),
                    (State::Unlocked, State::Held)
                );
                next.release().unwrap();
            });
        }
    });
}

#[test]
fn locket_py_14_an_error_at_once_stays_one_when_the_lock_is_released() {
    each_protocol(|options| {
        let dir = Dir::new();
        let guard = foreign(&dir, options).acquire(EX, None).unwrap();
        let lock = foreign(&dir, options);
        let error = lock.acquire(EX, NOW).unwrap_err();
        guard.release().unwrap();
        assert!(error.is_would_block());
        assert_eq!(lock.state(), State::Unlocked);
        is_free(&dir, options);
    });
}

#[test]
fn locket_py_15_an_error_after_the_timeout_and_the_holder_keeps_it() {
    each_protocol(|options| {
        let dir = Dir::new();
        let holder = foreign(&dir, options);
        let guard = holder.acquire(EX, None).unwrap();
        let timeout = Duration::from_millis(200);
        let lock = foreign(&dir, options);
        times_out(timeout, || lock.acquire(EX, timeout).unwrap_err());
        assert_eq!(
            (holder.state(), lock.state()),
            (State::Held, State::Unlocked)
        );
        guard.release().unwrap();
    });
}

// locket.py: what its documentation and its code say beside.

#[test]
fn locket_py_17_any_thread_may_release() {
    each_protocol(|options| {
        let dir = Dir::new();
        let lock = open(&Engine::new(), &dir, options);
        let guard = in_another_thread(|| lock.acquire(EX, None).unwrap());
        lock.release().unwrap();
        drop(guard);
        is_free(&dir, options);
    });
}

/// There a missing directory is an error of the file system when the lock is made.
#[test]
fn locket_py_18_a_missing_directory() {
    each_protocol(|options| {
        let dir = Dir::new();
        let error = Engine::new()
            .open_with(dir.path("missing/lock"), options)
            .unwrap_err();
        assert!(error.is_not_found(), "{error}");
        assert!(!dir.path("missing").exists());
    });
}

/// There every try, even one that fails, truncates the file.
#[test]
fn locket_py_19_the_file_stays_and_so_does_what_is_in_it() {
    each_kernel_protocol(|options| {
        let dir = Dir::new();
        let path = dir.path("lock");
        fs::write(&path, "precious").unwrap();
        let before = fs::metadata(&path).unwrap().modified().unwrap();
        let lock = open(&Engine::new(), &dir, options);
        let guard = lock.acquire(EX, None).unwrap();
        let contender = foreign(&dir, options);
        assert!(contender.try_acquire(EX).unwrap().is_none());
        assert!(contender.is_locked().unwrap());
        guard.release().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
        assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), before);
    });
}
