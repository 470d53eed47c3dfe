//! Locks that are rows of a database.

use std::thread;
use std::time::Instant;

use rusqlite::Connection;

use super::*;

/// Makes the database, and opens a second connection to it.
fn connection(dir: &Dir) -> Connection {
    let _ = open(dir, Protocol::Sqlite);
    Connection::open(dir.path("locks.db")).unwrap()
}

#[test]
fn a_busy_database_is_waited_for() {
    let dir = Dir::new();
    let connection = connection(&dir);
    let lock = open(&dir, Protocol::Sqlite);
    connection.execute_batch("begin exclusive").unwrap();
    assert!(lock.try_acquire(EX).unwrap().is_none());
    let brief = lock.acquire(EX, QUIESCENT).unwrap_err();
    assert!(brief.is_timeout(), "{brief:?}");
    let wait = pending(&lock, EX);
    connection.execute_batch("commit").unwrap();
    block_on(wait).unwrap().release().unwrap();
}

/// Each connection to a database in WAL mode creates files beside it and removes them.
#[test]
fn a_wait_is_not_woken_by_its_own_checks() {
    use rustix::fs::inotify;
    use std::mem::MaybeUninit;
    let dir = Dir::new();
    let wal = connection(&dir);
    wal.execute_batch("pragma journal_mode = wal").unwrap();
    drop(wal);
    let first = open(&dir, Protocol::Sqlite);
    let guard = first.acquire(EX, STUCK).unwrap();
    let second = open(&dir, Protocol::Sqlite);
    let wait = pending(&second, EX);
    let notices = inotify::init(inotify::CreateFlags::NONBLOCK).unwrap();
    inotify::add_watch(&notices, dir.0.path(), inotify::WatchFlags::DELETE).unwrap();
    thread::sleep(10 * QUIESCENT);
    let mut buffer = [MaybeUninit::uninit(); 65536];
    let mut reader = inotify::Reader::new(&notices, &mut buffer);
    let removed = std::iter::from_fn(|| reader.next().ok().map(drop)).count();
    // Each connection removes two files, and the waiter connects a few times each 200 ms. If each
    // removal woke the waiter, there would be thousands.
    assert!(removed <= 60, "{removed}");
    let start = Instant::now();
    guard.release().unwrap();
    block_on(wait).unwrap().release().unwrap();
    println!("handed over in {:?}", start.elapsed());
}

#[test]
fn a_lock_is_lost_with_its_database() {
    let dir = Dir::new();
    let lock = open(&dir, Protocol::Sqlite);
    let guard = lock.acquire(EX, STUCK).unwrap();
    fs::remove_file(dir.path("locks.db")).unwrap();
    eventually("the loss is reported", || lock.state() != State::Held);
    assert!(guard.release().unwrap_err().is_lost());
    // The next acquire makes another database.
    lock.acquire(EX, STUCK).unwrap().release().unwrap();
}

/// The row cannot be deleted while another program has a transaction open, for up to 10 s. Nothing
/// but that call waits for it.
#[test]
fn a_release_that_waits_for_the_database_holds_up_nothing_else() {
    let dir = Dir::new();
    let connection = connection(&dir);
    let engine = Engine::new();
    let lock = open_in(&engine, Protocol::Sqlite, dir.0.path());
    let other = open_in(&engine, Protocol::Native, dir.0.path());
    let guard = lock.acquire(EX, STUCK).unwrap();
    connection.execute_batch("begin immediate").unwrap();
    let release = thread::spawn(move || guard.release());
    let second = lock.clone();
    eventually("the release has begun", || lock.state() != State::Held);
    drop(pending(&lock, EX));
    let timeout = block_on(lock.acquire_async(EX, QUIESCENT)).unwrap_err();
    assert!(timeout.is_timeout(), "{timeout}");
    assert!(second.acquire(EX, QUIESCENT).unwrap_err().is_timeout());
    assert!(second.try_acquire(EX).unwrap().is_none());
    assert!(second.is_locked().unwrap(), "it is not free before it is");
    second.cancel_waits();
    let unrelated = other.acquire(EX, None).unwrap();
    assert!(
        block_on(other.acquire_async(EX, QUIESCENT))
            .unwrap_err()
            .is_timeout()
    );
    unrelated.release().unwrap();
    assert!(!release.is_finished(), "all of it happened meanwhile");
    connection.execute_batch("commit").unwrap();
    release.join().unwrap().unwrap();
    lock.acquire(EX, STUCK).unwrap().release().unwrap();
}
