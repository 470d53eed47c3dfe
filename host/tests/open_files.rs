//! Locks of files that the caller opened, and of paths in the shared engine.

mod common;

use std::fs::File;
use std::time::Duration;

use common::*;
use locket::{Engine, LockFile, LostReason, OnRelease, Options, Protocol, State};

/// Opens the file, and creates it if it is missing.
fn open(dir: &Dir) -> File {
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false);
    options.open(dir.path("file")).unwrap()
}

fn is_ready(future: impl Future) -> bool {
    poll(&mut Box::pin(future)).is_ready()
}

#[test]
fn an_open_file_and_its_path_are_one_lock() {
    let dir = Dir::new();
    let engine = Engine::new();
    let lock = engine.from_file(open(&dir)).unwrap();
    let by_path = engine.open(dir.path("file")).unwrap();
    let elsewhere = Engine::new().from_file(open(&dir)).unwrap();
    let guard = lock.acquire(EX, None).unwrap();
    assert_eq!(by_path.state(), State::Held);
    assert!(by_path.try_acquire(EX).unwrap().is_none());
    assert!(elsewhere.try_acquire(EX).unwrap().is_none());
    let mut waits = elsewhere.acquire_async(EX, None);
    assert!(poll(&mut waits).is_pending());
    guard.release().unwrap();
    drop(waits);
    drop(elsewhere.acquire(EX, STUCK).unwrap());
}

#[test]
fn the_lock_of_an_open_file_outlives_its_name() {
    let dir = Dir::new();
    let file = open(&dir);
    let engine = Engine::new();
    let lock = engine.from_file(file.try_clone().unwrap()).unwrap();
    let guard = lock.acquire(EX, None).unwrap();
    std::fs::remove_file(dir.path("file")).unwrap();
    assert!(guard.is_held());
    // The new file of that name has another lock.
    let other = Engine::new().from_file(open(&dir)).unwrap();
    assert!(other.try_acquire(EX).unwrap().is_some());
    guard.release().unwrap();
    match engine.from_file(file) {
        Err(e) if cfg!(windows) && e.is_not_found() => {
            not_tested(format_args!("this system opens a file again by its name"));
        }
        again => {
            let again = again.unwrap();
            again.acquire(EX, None).unwrap().release().unwrap();
        }
    }
}

#[test]
fn errors_name_the_path_of_an_open_file() {
    let dir = Dir::new();
    let lock = Engine::new().from_file(open(&dir)).unwrap();
    let error = lock.release().unwrap_err();
    assert!(error.is_not_locked());
    let path = dir.path("file").canonicalize().unwrap();
    // Windows has two forms of a path, of which people know the one without this.
    let path = path.to_str().unwrap().trim_start_matches(r"\\?\");
    assert_eq!(error.path(), std::path::Path::new(path));
}

#[test]
#[cfg(unix)]
fn a_file_that_is_open_for_reading_has_no_exclusive_record_lock() {
    let dir = Dir::new();
    drop(open(&dir));
    let lock = Engine::new().from_file(File::open(dir.path("file")).unwrap());
    let lock = lock.unwrap();
    assert!(lock.acquire(EX, None).unwrap_err().is_denied());
    drop(lock.acquire(SH, None).unwrap());
    let options = Options::new().protocol(Protocol::Flock);
    let file = File::open(dir.path("file")).unwrap();
    let flock = Engine::new().from_file_with(file, &options).unwrap();
    drop(flock.acquire(EX, None).unwrap());
}

#[test]
fn what_needs_a_path_is_refused_for_an_open_file() {
    let dir = Dir::new();
    let engine = Engine::new();
    let removing = Options::new().on_release(OnRelease::Remove);
    let refused = engine.from_file_with(open(&dir), &removing).unwrap_err();
    assert!(refused.is_unsupported(), "{refused}");
    for &protocol in Protocol::ALL {
        let options = Options::new().protocol(protocol);
        let opened = engine.from_file_with(open(&dir), &options);
        let refused = opened.err().is_some_and(|error| error.is_unsupported());
        assert_eq!(refused, protocol.is_existence_lock(), "{protocol}");
    }
}

#[test]
#[cfg(unix)]
fn what_is_not_a_regular_file_has_a_flock_alone() {
    let dir = Dir::new();
    for path in [dir.0.path().to_owned(), "/dev/null".into()] {
        let open = || File::open(&path).unwrap();
        let refused = Engine::new().from_file(open());
        assert!(refused.unwrap_err().is_invalid_path());
        let options = Options::new().protocol(Protocol::Flock);
        let lock = Engine::new().from_file_with(open(), &options).unwrap();
        let elsewhere = Engine::new().from_file_with(open(), &options).unwrap();
        let guard = lock.acquire(EX, STUCK).unwrap();
        assert!(elsewhere.try_acquire(EX).unwrap().is_none());
        guard.release().unwrap();
        drop(elsewhere.acquire(EX, STUCK).unwrap());
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_lock_that_writes_late_opens_for_writing_only_when_it_has_to() {
    let dir = Dir::new();
    drop(open(&dir));
    let may_write = |lock: &LockFile, mode| {
        let guard = lock.acquire(mode, STUCK).unwrap();
        let flags = rustix::fs::fcntl_getfl(&guard).unwrap();
        flags.contains(rustix::fs::OFlags::RDWR)
    };
    let options = Options::new().late_write(true);
    let late = Engine::new().open_with(dir.path("file"), &options).unwrap();
    assert!(!may_write(&late, SH));
    assert!(may_write(&late, EX));
    let early = Engine::new().open(dir.path("file")).unwrap();
    assert!(may_write(&early, SH));
}

#[test]
fn paths_opened_without_an_engine_share_one() {
    let dir = Dir::new();
    let (one, other) = (
        LockFile::open(dir.path("file")),
        LockFile::open(dir.path("file")),
    );
    let (one, other) = (one.unwrap(), other.unwrap());
    let _guard = one.acquire(EX, None).unwrap();
    // Two engines would be two owners.
    assert_eq!(other.state(), State::Held);
    let third = Engine::shared().open(dir.path("file")).unwrap();
    assert_eq!(third.state(), State::Held);
    other.release().unwrap();
    assert_eq!(one.state(), State::Unlocked);
}

/// The handle's loss is hidden while the process holds the lock otherwise; the guard's is not.
#[test]
fn a_guard_reports_the_loss_of_its_own_hold() {
    let dir = Dir::new();
    let engine = Engine::new();
    let short = Options::new().max_hold(Some(Duration::from_millis(30)));
    let (short, long) = (
        engine.open_with(dir.path("file"), &short),
        engine.open(dir.path("file")),
    );
    let (short, long) = (short.unwrap(), long.unwrap());
    let kept = long.acquire(SH, None).unwrap();
    let expiring = short.acquire(SH, None).unwrap();
    let mut lost = Box::pin(expiring.lost());
    assert!(poll(&mut lost).is_pending());
    assert!(!is_ready(kept.lost()));
    let reason = block_on(lost);
    assert_eq!(reason, LostReason::Expired);
    assert!(!expiring.is_held() && kept.is_held());
    assert!(!is_ready(kept.lost()));
    assert!(!is_ready(long.lost()));
    assert!(expiring.release().unwrap_err().is_lost());
    // Nothing is left to lose.
    let later = kept.lost();
    kept.release().unwrap();
    assert!(!is_ready(later));
}
