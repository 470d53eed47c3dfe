//! Existence locks: what happens to them if a holder dies, if another process breaks or replaces them,
//! and if something else is found in their place.
#![cfg(target_os = "linux")]

mod breaks;
#[path = "../common/mod.rs"]
mod common;
mod containers;
#[cfg(feature = "sqlite")]
mod database_locks;
#[cfg(feature = "sqlite")]
mod databases;
mod directories;
mod foreign_data;
mod killed;
mod processes;
mod promises;
pub(crate) mod random_bytes;
mod record;
mod records;
mod release;
mod takeover;
mod waits;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use common::*;
use locket::{Engine, LockFile, Options, Protocol, State};
use record::*;

/// Long enough to see that a waiter waits, short enough to do it often.
const SHORT: Duration = Duration::from_millis(5);

/// The existence locks of this build: those of a directory, and the row in a database if it is built in.
fn all() -> impl Iterator<Item = Protocol> {
    let row = cfg!(feature = "sqlite").then_some(Protocol::Sqlite);
    let all = NAMES.into_iter().chain(row);
    all.inspect(|protocol| println!("protocol {protocol}"))
}

fn open_in(engine: &Engine, protocol: Protocol, dir: &Path) -> LockFile {
    let options = Options::new().protocol(protocol);
    let options = options.database(dir.join("locks.db"));
    engine.open_with(dir.join("lock"), &options).unwrap()
}

fn open_at(dir: &Path, protocol: Protocol) -> LockFile {
    open_in(&Engine::new(), protocol, dir)
}

fn open(dir: &Dir, protocol: Protocol) -> LockFile {
    let options = Options::new().protocol(protocol);
    let options = options.database(dir.path("locks.db"));
    Engine::new().open_with(dir.path("lock"), &options).unwrap()
}

/// Where the entry of the lock is.
fn place(dir: &Dir, protocol: Protocol) -> PathBuf {
    match protocol {
        Protocol::PidFile | Protocol::Soft => dir.path("lock"),
        _ => dir.path("lock.lock"),
    }
}

fn listing(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).unwrap();
    let mut names: Vec<_> = names
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Everything in a directory, with what would tell that it was touched or replaced.
fn snapshot(dir: &Path) -> BTreeMap<PathBuf, (u64, u32, SystemTime, Vec<u8>)> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let (path, stat) = (entry.path(), entry.metadata().unwrap());
        let content = match stat.file_type() {
            kind if kind.is_file() => fs::read(&path).unwrap(),
            kind if kind.is_symlink() => {
                fs::read_link(&path).unwrap().as_os_str().as_bytes().into()
            }
            kind if kind.is_dir() => {
                all.extend(snapshot(&path));
                Vec::new()
            }
            _ => Vec::new(),
        };
        let seen = (stat.ino(), stat.mode(), stat.modified().unwrap(), content);
        all.insert(path, seen);
    }
    all
}

fn remove(path: &Path) {
    match fs::symlink_metadata(path) {
        Ok(stat) if stat.is_dir() => fs::remove_dir_all(path).unwrap(),
        Ok(_) => fs::remove_file(path).unwrap(),
        Err(_) => {}
    }
}

/// Checks that an error names the lock and says what is wrong with it.
#[track_caller]
fn is_clear(error: &locket::Error, dir: &Dir) {
    assert_eq!(error.path(), dir.path("lock"));
    let text = error.to_string();
    assert!(text.contains(dir.path("lock").to_str().unwrap()), "{text}");
    assert!(error.is_invalid_path(), "{text}");
    assert!(error.os_error().is_some(), "{text}");
}

/// Checks that no call acquires the lock, and that the files stay as they are.
#[track_caller]
fn is_refused(dir: &Dir, lock: &LockFile) {
    let before = snapshot(dir.0.path());
    match lock.acquire(EX, Duration::ZERO) {
        Err(e) if e.is_would_block() => {
            assert!(lock.acquire(EX, SHORT).unwrap_err().is_timeout());
            let task = lock.acquire_async(EX, SHORT);
            assert!(block_on(task).unwrap_err().is_timeout());
            assert!(lock.is_locked().unwrap());
            assert!(!lock.holder().unwrap().unwrap().is_self);
            assert!(lock.release().unwrap_err().is_not_owner());
        }
        Err(e) => {
            is_clear(&e, dir);
            is_clear(&lock.acquire(EX, SHORT).unwrap_err(), dir);
            is_clear(&block_on(lock.acquire_async(EX, None)).unwrap_err(), dir);
            is_clear(&lock.is_locked().unwrap_err(), dir);
            is_clear(&lock.holder().unwrap_err(), dir);
            is_clear(&lock.release().unwrap_err(), dir);
        }
        Ok(_) => panic!("another holder's lock was acquired"),
    }
    assert!(
        lock.acquire(SH, Duration::ZERO)
            .unwrap_err()
            .is_unsupported()
    );
    assert_eq!(lock.state(), State::Unlocked);
    assert_eq!(snapshot(dir.0.path()), before, "a file was touched");
}

/// Checks that the lock is acquired at once, and that only `rest` is left after its release.
#[track_caller]
fn is_taken_over(dir: &Dir, lock: &LockFile, rest: &[&str]) {
    assert!(!lock.is_locked().unwrap());
    assert_eq!(lock.holder().unwrap(), None);
    assert!(lock.release().unwrap_err().is_not_locked());
    let guard = lock.acquire(EX, Duration::ZERO).unwrap();
    let other = open(dir, lock.protocol());
    assert!(other.try_acquire(EX).unwrap().is_none());
    assert_eq!(lock.state(), State::Held);
    guard.release().unwrap();
    let mut left: Vec<_> = fs::read_dir(dir.0.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(left, rest);
}
