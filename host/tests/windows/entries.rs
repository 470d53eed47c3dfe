//! Entries that other programs made, or have open.

use std::os::windows::fs::OpenOptionsExt as _;
use std::process;
use std::thread;

use locket::State;

use super::processes::holder;
use super::*;

/// As most programs open files, which do not share their removal: for reading and writing by others.
const SHARE_READ_AND_WRITE: u32 = 3;

fn file_of(dir: &Dir, protocol: Protocol) -> std::path::PathBuf {
    match protocol {
        Protocol::PidFile | Protocol::Soft => dir.path("lock"),
        _ => dir.path("lock.lock"),
    }
}

/// The number of a process that has ended, of which nothing is left.
fn dead() -> u32 {
    let mut child = process::Command::new(std::env::current_exe().unwrap())
        .arg("--list")
        .stdout(process::Stdio::null())
        .spawn()
        .unwrap();
    child.wait().unwrap();
    child.id()
}

/// The host and the start of this process, as it records them.
fn record() -> (String, u64) {
    let dir = Dir::new();
    let guard = open(dir.0.path(), Protocol::Soft)
        .acquire(EX, STUCK)
        .unwrap();
    let record = fs::read_to_string(dir.path("lock")).unwrap();
    guard.release().unwrap();
    let lines: Vec<_> = record.lines().collect();
    assert_eq!(lines[0], process::id().to_string(), "{record:?}");
    (lines[1].to_owned(), lines[2].parse().unwrap())
}

fn is_held(lock: &LockFile) -> bool {
    match lock.acquire(EX, Duration::ZERO) {
        Ok(guard) => {
            guard.release().unwrap();
            false
        }
        Err(e) => {
            assert!(e.is_would_block(), "{e}");
            true
        }
    }
}

/// filelock records the time of creation as one number.
#[test]
fn a_process_is_known_by_its_number_and_its_time_of_creation() {
    let (host, start) = record();
    let me = process::id();
    for (record, held) in [
        (format!("{me}\n{host}\n{start}\n"), true),
        (format!("{me}\n{host}\n{}\n", start + 1), false),
        (format!("{me}\n{host}\n"), true),
        (format!("{}\n{host}\n{start}\n", dead()), false),
        (format!("{}\nelsewhere\n{start}\n", dead()), true),
        ("filelock/released\n".to_owned(), false),
        (String::new(), true),
    ] {
        let dir = Dir::new();
        fs::write(dir.path("lock"), &record).unwrap();
        let lock = open(dir.0.path(), Protocol::Soft);
        assert_eq!(is_held(&lock), held, "{record:?}");
        assert_eq!(dir.path("lock").exists(), held, "{record:?}");
        if held {
            lock.break_lock().unwrap();
            assert!(!is_held(&lock));
        }
    }
}

#[test]
fn entries_of_pylockfile_are_held_by_living_processes() {
    let (host, _) = record();
    for (pid, held) in [(process::id(), true), (dead(), false)] {
        let dir = Dir::new();
        fs::write(dir.path("lock"), format!("{pid}\n")).unwrap();
        assert_eq!(is_held(&open(dir.0.path(), Protocol::PidFile)), held);

        let dir = Dir::new();
        fs::create_dir(dir.path("lock.lock")).unwrap();
        let mkdir = open(dir.0.path(), Protocol::Mkdir);
        // Its holder has not said yet who it is.
        assert!(is_held(&mkdir));
        fs::write(dir.path("lock.lock").join(format!("{host}.{pid}")), "").unwrap();
        assert_eq!(is_held(&mkdir), held);

        let dir = Dir::new();
        let own = dir.path(&format!("{host}.{pid}-1299480933727220916"));
        fs::write(&own, "").unwrap();
        fs::hard_link(&own, dir.path("lock.lock")).unwrap();
        assert_eq!(is_held(&open(dir.0.path(), Protocol::Link)), held);
        assert_eq!(own.exists(), held);
    }
}

/// Python opens files in a way that lets others neither rename nor remove them.
#[test]
fn a_program_that_reads_the_record_delays_the_release() {
    for protocol in [Protocol::PidFile, Protocol::Soft, Protocol::Link] {
        let dir = Dir::new();
        let lock = open(dir.0.path(), protocol);
        let guard = lock.acquire(EX, STUCK).unwrap();
        let mut reader = fs::OpenOptions::new();
        reader.read(true).share_mode(SHARE_READ_AND_WRITE);
        let reader = reader.open(file_of(&dir, protocol)).unwrap();
        let release = thread::spawn(move || guard.release());
        thread::sleep(QUIESCENT);
        assert!(!release.is_finished(), "{protocol}");
        drop(reader);
        release.join().unwrap().unwrap();
        assert!(dir.names().is_empty(), "{protocol}: {:?}", dir.names());
    }
}

#[test]
fn a_program_that_reads_the_record_of_a_dead_process_delays_the_takeover() {
    for protocol in [Protocol::PidFile, Protocol::Soft, Protocol::Link] {
        let dir = Dir::new();
        let mut dead = holder("hold", protocol, dir.0.path());
        let mut reader = fs::OpenOptions::new();
        reader.read(true).share_mode(SHARE_READ_AND_WRITE);
        let reader = reader.open(file_of(&dir, protocol)).unwrap();
        dead.kill();
        let lock = open(dir.0.path(), protocol);
        let waits = pending(&lock, EX);
        drop(reader);
        block_on(waits).unwrap().release().unwrap();
    }
}

#[test]
fn the_holder_of_a_broken_lock_learns_of_it() {
    for protocol in all().filter(|protocol| protocol.is_existence_lock()) {
        let dir = Dir::new();
        let lock = open(dir.0.path(), protocol);
        let guard = lock.acquire(EX, STUCK).unwrap();
        open(dir.0.path(), protocol).break_lock().unwrap();
        // The system tells of it.
        eventually("the holder learns it", || {
            matches!(lock.state(), State::Lost(_))
        });
        let next = open(dir.0.path(), protocol)
            .acquire(EX, Duration::ZERO)
            .unwrap();
        assert!(guard.release().unwrap_err().is_lost(), "{protocol}");
        next.release().unwrap();
    }
}

#[test]
fn the_directory_of_a_lock_stays_while_it_is_open() {
    let dir = Dir::new();
    fs::create_dir(dir.path("folder")).unwrap();
    let lock = open(&dir.path("folder"), Protocol::Mkdir);
    assert!(fs::rename(dir.path("folder"), dir.path("other")).is_err());
    assert!(fs::remove_dir(dir.path("folder")).is_err());
    drop(lock);
    fs::rename(dir.path("folder"), dir.path("other")).unwrap();
}

/// Windows renames no directory while a program has something in it open.
#[test]
fn a_program_that_reads_in_a_directory_delays_the_release() {
    let dir = Dir::new();
    let lock = open(dir.0.path(), Protocol::Mkdir);
    let guard = lock.acquire(EX, STUCK).unwrap();
    let inside = fs::read_dir(dir.path("lock.lock")).unwrap().next();
    let reader = fs::File::open(inside.unwrap().unwrap().path()).unwrap();
    let release = thread::spawn(move || guard.release());
    thread::sleep(QUIESCENT);
    // Wine renames it.
    drop(reader);
    release.join().unwrap().unwrap();
    assert!(dir.names().is_empty(), "{:?}", dir.names());
}
