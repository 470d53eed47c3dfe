//! What an owner holds, and what it excludes.

use std::fs::{self, File};
use std::ptr;
use std::time::Duration;

use super::*;

#[test]
fn what_an_owner_holds_is_converted_split_and_merged() {
    let dir = Dir::new();
    let (one, two) = two(&dir);
    one.lock(EX, 0..100, None).unwrap();
    one.lock(SH, 40..60, None).unwrap();
    let split = [held(EX, 0..40), held(SH, 40..60), held(EX, 60..100)];
    assert_eq!(one.held(), split);
    assert!(two.try_lock(SH, 45..50).unwrap());
    // The other owner shares it now.
    assert!(!one.try_lock(EX, 0..100).unwrap());
    assert_eq!(one.held(), split);
    two.unlock(..).unwrap();
    assert!(one.try_lock(EX, 0..100).unwrap());
    assert_eq!(one.held(), [held(EX, 0..100)]);
    one.unlock(10..).unwrap();
    assert_eq!(one.held(), [held(EX, 0..10)]);
    assert!(two.try_lock(EX, 10..).unwrap());
    one.unlock(1_000..).unwrap();
    drop(one);
    assert!(two.try_lock(EX, ..).unwrap());
}

#[test]
fn clones_are_one_owner_and_engines_are_apart() {
    let dir = Dir::new();
    let (one, two) = two(&dir);
    let clone = one.clone();
    one.lock(EX, 0..10, None).unwrap();
    assert!(clone.try_lock(EX, 5..15).unwrap());
    drop(one);
    assert_eq!(clone.held(), [held(EX, 0..15)]);
    let other = Engine::new().open_ranges(dir.path("file")).unwrap();
    for third in [&two, &other] {
        assert!(!third.try_lock(SH, 14..20).unwrap());
        let found = third.query(SH, 3..).unwrap();
        // Windows tells no bounds of what another engine holds.
        let bounds = if cfg!(windows) && ptr::eq(third, &other) {
            Range::from(3..)
        } else {
            Range::from(0..15)
        };
        assert_eq!(found, Some(held(EX, bounds)));
        assert_eq!(third.query(EX, 15..).unwrap(), None);
    }
}

#[test]
fn a_range_excludes_whole_file_locks_of_fcntl_and_not_of_flock() {
    use locket::{Options, Protocol};
    let dir = Dir::new();
    let engine = Engine::new();
    let ranges = engine.open_ranges(dir.path("file")).unwrap();
    ranges.lock(EX, 7..8, None).unwrap();
    let whole = |protocol| {
        let options = Options::new().protocol(protocol);
        let lock = engine.open_with(dir.path("file"), &options).unwrap();
        lock.try_acquire(EX).unwrap().is_some()
    };
    assert!(!whole(Protocol::Fcntl) && !whole(Protocol::Native));
    assert_eq!(whole(Protocol::Flock), cfg!(target_os = "linux"));
    let options = Options::new().protocol(Protocol::Fcntl);
    ranges.unlock(..).unwrap();
    let lock = engine.open_with(dir.path("file"), &options).unwrap();
    let guard = lock.acquire(SH, None).unwrap();
    assert!(ranges.try_lock(SH, ..).unwrap() && !ranges.try_lock(EX, 3..4).unwrap());
    // Windows does not tell who shares what the owner holds itself.
    let shared = cfg!(unix).then(|| held(SH, ..));
    assert_eq!(ranges.query(EX, 3..4).unwrap(), shared);
    guard.release().unwrap();
    assert!(ranges.try_lock(EX, 3..4).unwrap());
}

#[test]
fn ranges_end_where_files_do() {
    let dir = Dir::new();
    let (one, two) = two(&dir);
    let end = i64::MAX.cast_unsigned();
    one.lock(EX, end..=end, None).unwrap();
    assert!(!two.try_lock(SH, end..).unwrap());
    assert!(two.try_lock(EX, ..end).unwrap());
    assert_eq!(two.held(), [held(EX, 0..end)]);
    one.unlock(end..).unwrap();
    for range in [
        Range::from(end..=end + 1),
        Range::from(u64::MAX..),
        Range::from(5..5),
        Range {
            start: 1,
            length: u64::MAX,
        },
        Range {
            start: 2,
            length: end,
        },
    ] {
        let error = one.lock(EX, range, None).unwrap_err();
        assert!(error.is_unsupported(), "{range:?}: {error}");
        assert!(error.to_string().contains("file"), "{error}");
        assert!(one.unlock(range).unwrap_err().is_unsupported());
        assert!(one.query(EX, range).unwrap_err().is_unsupported());
    }
    assert_eq!(one.held(), []);
}

#[test]
fn a_file_that_is_open_for_reading_is_shared() {
    let dir = Dir::new();
    let path = dir.path("file");
    fs::write(&path, "content").unwrap();
    let engine = Engine::new();
    let read = engine.ranges_of(File::open(&path).unwrap()).unwrap();
    assert!(read.try_lock(SH, ..).unwrap());
    // On Windows the engine has a handle of its own, which may write if the process may.
    #[cfg(unix)]
    assert!(read.lock(EX, .., None).unwrap_err().is_denied());
    assert_eq!(read.held(), [held(SH, ..)]);
    let write = File::options().write(true).open(&path).unwrap();
    let write = engine.ranges_of(write).unwrap();
    assert!(!write.try_lock(EX, 3..).unwrap());
    read.unlock(3..).unwrap();
    assert!(write.try_lock(EX, 3..).unwrap());
    #[cfg(unix)]
    {
        let folder = File::open(dir.path("")).unwrap();
        let error = engine.ranges_of(folder).unwrap_err();
        assert!(error.is_invalid_path(), "{error}");
    }
    // On Windows, what is locked cannot be read.
    drop((read, write));
    assert_eq!(fs::read_to_string(&path).unwrap(), "content");
}

#[test]
fn the_file_that_was_opened_stays_the_one_that_is_locked() {
    let dir = Dir::new();
    if !removes_open_files(&dir) {
        return;
    }
    let path = dir.path("file");
    let engine = Engine::new();
    let old = engine.open_ranges(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let new = engine.open_ranges(&path).unwrap();
    old.lock(EX, .., None).unwrap();
    assert!(new.try_lock(EX, ..).unwrap());
    assert!(
        engine
            .open_ranges(dir.path("missing/file"))
            .unwrap_err()
            .is_not_found()
    );
}

#[test]
fn many_ranges_are_kept_and_given_back() {
    let dir = Dir::new();
    let (one, two) = two(&dir);
    for index in 0..500_u64 {
        one.lock(EX, 2 * index..2 * index + 1, Duration::ZERO)
            .unwrap();
    }
    assert_eq!(one.held().len(), 500);
    assert!(!two.try_lock(SH, 998..999).unwrap());
    assert!(two.try_lock(SH, 999..1000).unwrap());
    two.unlock(..).unwrap();
    one.lock(EX, 0..1000, None).unwrap();
    assert_eq!(one.held(), [held(EX, 0..1000)]);
}
