//! Whatever may be found where a lock that is a name should be: garbage, things that are no locks,
//! databases that are none, records of the dead, of the living, and of those who cannot be judged.
//! A clear error or "held"; never a panic, never a living holder that loses his lock, never a file
//! that is lost. And the dead are displaced at once.
#![cfg(target_os = "linux")]

pub(crate) mod anything;
#[path = "../common/mod.rs"]
mod common;
#[cfg(feature = "sqlite")]
mod databases;
mod killed;
mod records;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use common::*;
use locket::{Engine, LockFile, Options, Protocol, State};

/// Long enough to see that it waits, short enough to do it often.
const SHORT: Duration = Duration::from_millis(5);

/// Where the lock of `lock` is.
fn place(dir: &Dir, protocol: Protocol) -> PathBuf {
    match protocol {
        Protocol::PidFile | Protocol::Soft => dir.path("lock"),
        _ => dir.path("lock.lock"),
    }
}

fn open(dir: &Dir, protocol: Protocol) -> LockFile {
    let options = Options::new().protocol(protocol);
    let options = options.database(dir.path("locks.db"));
    Engine::new().open_with(dir.path("lock"), &options).unwrap()
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

/// An error that says which lock it is about, and in words of its own what is wrong with it.
#[track_caller]
fn is_clear(error: &locket::Error, dir: &Dir) {
    assert_eq!(error.path(), dir.path("lock"));
    let text = error.to_string();
    assert!(text.contains(dir.path("lock").to_str().unwrap()), "{text}");
    assert!(error.is_invalid_path(), "{text}");
    assert!(error.os_error().is_some(), "{text}");
}

/// Nobody gets the lock, by whatever call, and what is there stays as it is.
#[track_caller]
fn is_not_to_be_had(dir: &Dir, lock: &LockFile) {
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
        Ok(_) => panic!("somebody else's lock"),
    }
    assert!(
        lock.acquire(SH, Duration::ZERO)
            .unwrap_err()
            .is_unsupported()
    );
    assert_eq!(lock.state(), State::Unlocked);
    assert_eq!(snapshot(dir.0.path()), before, "it was touched");
}

/// The lock is had at once, and when it is released there is nothing left but `rest`.
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

/// Makes what is not expected at a path.
type Make = fn(&Path);

/// What may be in the place of a lock.
struct Thing {
    name: &'static str,
    make: Make,
    /// In which protocols it is no more than a lock, so that it can be broken by hand.
    breaks: &'static [Protocol],
}

const BESIDE: &[Protocol] = &[Protocol::Link, Protocol::Symlink, Protocol::Mkdir];

macro_rules! content {
    ($name:literal, $content:expr, $breaks:expr) => {
        Thing {
            name: $name,
            make: |path| fs::write(path, $content).unwrap(),
            breaks: $breaks,
        }
    };
}

macro_rules! link {
    ($name:literal, $target:expr, $breaks:expr) => {
        Thing {
            name: $name,
            make: |path| symlink($target, path).unwrap(),
            breaks: $breaks,
        }
    };
}

const THINGS: &[Thing] = &[
    content!("an empty file", "", &NAMES),
    content!("garbage", "garbage", &[]),
    content!("a half-written number", "12", &[]),
    content!("two numbers", "1 2\n", &[]),
    content!("no number", "\n", &[]),
    content!("a number with a space", " 1\n", &[]),
    content!("a number with a sign", "+1\n", &[]),
    content!("a half-written record", "1\nho", &[]),
    content!("a record that goes on", "1\nhost\n1\n1\n", &[]),
    content!("a start that is none", "1\nhost\nx\n", &[]),
    content!("another system's lines", "1\r\nhost\r\n", &[]),
    content!("process 0", "0\n", &[]),
    content!("process -1", "-1\n", &[]),
    content!("process 2^31", "2147483648\n", &[]),
    content!("process 2^32 + 1", "4294967297\n", &[]),
    content!("process 10^19", "99999999999999999999\n", &[]),
    content!("a record of process 0", "0\nhost\n", &[]),
    content!("a record of process -1", "-1\nhost\n1\n", &[]),
    content!("a record of process 2^32 + 1", "4294967297\nhost\n", &[]),
    content!(
        "what a breaker leaves while it works",
        "filelock/break\n123\n",
        &[]
    ),
    content!("a lease", "filelock/2\npid=1\nhost=h\nmode=lease\n", &[]),
    content!("a sentinel", "1\nfilelock-strict-v1\0\n0\n", &[]),
    content!("every byte", (0..=255).collect::<Vec<u8>>(), &[]),
    content!("zeroes", [0; 512], &[]),
    content!("a huge file", vec![b'1'; 8 << 20], &[]),
    content!(
        "a record that is too long",
        format!("1\n{}\n", "h".repeat(2000)),
        &[]
    ),
    link!("a dangling link", "nowhere", &NAMES),
    link!("a dangling link elsewhere", "none/of/this", &NAMES),
    link!("a link to process 0", "host.0-1", &NAMES),
    link!("a link to process -1", "host.-1-1", &NAMES),
    link!("a link to process 2^32 + 1", "host.4294967297-1", &NAMES),
    link!("a link to a thread", "host-12ab.-5bbccb80123", &NAMES),
    link!(
        "a link that is not text",
        std::ffi::OsStr::from_bytes(b"\xff\xfe.1-\x80"),
        &NAMES
    ),
    link!("a link to a file", "data", &[]),
    link!("a link to a directory", "folder", &[]),
    link!("a link to a dead record", "dead", &[]),
    Thing {
        name: "a loop",
        make: |path| symlink(path.file_name().unwrap(), path).unwrap(),
        breaks: &NAMES,
    },
    Thing {
        name: "an empty directory",
        make: |path| fs::create_dir(path).unwrap(),
        breaks: BESIDE,
    },
    Thing {
        name: "a directory with an empty file",
        make: |path| {
            fs::create_dir(path).unwrap();
            fs::write(path.join("host.0"), "").unwrap();
        },
        breaks: BESIDE,
    },
    Thing {
        name: "a directory with two files",
        make: |path| {
            fs::create_dir(path).unwrap();
            fs::write(path.join("host.1-1"), "").unwrap();
            fs::write(path.join("host.2-1"), "").unwrap();
        },
        breaks: &[],
    },
    Thing {
        name: "a directory with a file that is not empty",
        make: |path| {
            fs::create_dir(path).unwrap();
            fs::write(path.join("precious"), "precious").unwrap();
        },
        breaks: &[],
    },
    Thing {
        name: "a directory with a directory",
        make: |path| fs::create_dir_all(path.join("host.1-1")).unwrap(),
        breaks: &[],
    },
    Thing {
        name: "a FIFO",
        make: |path| {
            let mode = rustix::fs::Mode::from_raw_mode(0o600);
            let kind = rustix::fs::FileType::Fifo;
            rustix::fs::mknodat(rustix::fs::CWD, path, kind, mode, 0).unwrap();
        },
        breaks: &[],
    },
    Thing {
        name: "a socket",
        make: |path| drop(std::os::unix::net::UnixListener::bind(path).unwrap()),
        breaks: &[],
    },
];

/// A directory with neighbours that are nobody's lock, and a link's targets.
fn neighbourhood() -> Dir {
    let dir = Dir::new();
    fs::write(dir.path("data"), "precious").unwrap();
    fs::write(dir.path("dead"), format!("{}\n", records::GONE)).unwrap();
    fs::create_dir(dir.path("folder")).unwrap();
    fs::write(dir.path("folder/file"), "precious").unwrap();
    dir
}

fn each_thing(test: impl Fn(&Dir, &Thing, Protocol)) {
    for thing in THINGS {
        for protocol in NAMES {
            println!("{} in the protocol {protocol}", thing.name);
            let dir = neighbourhood();
            (thing.make)(&place(&dir, protocol));
            test(&dir, thing, protocol);
        }
    }
}

#[test]
fn what_cannot_be_read_is_held_or_an_error() {
    each_thing(|dir, _, protocol| {
        let lock = open(dir, protocol);
        is_not_to_be_had(dir, &lock);
        // Nor does it leave anything behind in here.
        remove(&place(dir, protocol));
        lock.acquire(EX, Duration::ZERO).unwrap().release().unwrap();
    });
}

/// Somebody's age limit is no reason to remove what is more than a lock.
#[test]
fn what_cannot_be_read_is_not_removed_for_its_age() {
    let old = SystemTime::now() - Duration::from_secs(86_400);
    each_thing(|dir, thing, protocol| {
        let place = place(dir, protocol);
        let kind = fs::symlink_metadata(&place).unwrap().file_type();
        // Of other kinds the time cannot be set without following them, or opening them.
        if kind.is_file() || kind.is_dir() {
            let open = fs::File::open(&place).unwrap();
            open.set_modified(old).unwrap();
        } else {
            return;
        }
        let before = snapshot(dir.0.path());
        let options = Options::new().protocol(protocol);
        let options = options.stale_after(Some(Duration::from_secs(3600)));
        let lock = Engine::new().open_with(dir.path("lock"), &options).unwrap();
        // Only a lock of this protocol grows old.
        let one = (protocol == Protocol::Mkdir) == kind.is_dir() && protocol != Protocol::Symlink;
        match lock.acquire(EX, Duration::ZERO) {
            Ok(guard) => {
                assert!(one && thing.breaks.contains(&protocol), "not a lock");
                guard.release().unwrap();
                assert!(!place.exists());
            }
            Err(e) => {
                assert!(!(one && thing.breaks.contains(&protocol)), "{e}");
                assert_eq!(snapshot(dir.0.path()), before);
            }
        }
    });
}

#[test]
fn breaking_removes_no_more_than_a_lock() {
    each_thing(|dir, thing, protocol| {
        let place = place(dir, protocol);
        let mut expected = snapshot(dir.0.path());
        let lock = open(dir, protocol);
        match lock.break_lock() {
            Ok(()) => {
                assert!(thing.breaks.contains(&protocol), "it was more than a lock");
                expected.retain(|path, _| !path.starts_with(&place));
                assert!(!lock.is_locked().unwrap());
                assert!(lock.break_lock().unwrap_err().is_not_locked());
            }
            Err(e) => {
                is_clear(&e, dir);
                assert!(!thing.breaks.contains(&protocol), "{e}");
            }
        }
        assert_eq!(snapshot(dir.0.path()), expected);
    });
}

/// Which protocol it is in is told by the name of a holder, and these have none.
#[test]
fn breaking_in_whatever_protocol_leaves_alone_what_names_nobody() {
    each_thing(|dir, _, _| {
        let before = snapshot(dir.0.path());
        let error = Engine::new().break_lock(dir.path("lock")).unwrap_err();
        assert!(error.is_not_locked() || error.is_invalid_path(), "{error}");
        assert_eq!(error.path(), dir.path("lock"));
        assert_eq!(snapshot(dir.0.path()), before);
    });
}
