//! A transaction that another program keeps open, for as long as it likes.
#![cfg(feature = "sqlite")]

use locket::{Options, Protocol};
use rusqlite::Connection;

use super::*;

/// A lock that is a row, and a second connection to its database.
struct Stand {
    dir: Dir,
    engine: Engine,
    lock: LockFile,
    elsewhere: Elsewhere,
    connection: Connection,
}

fn open(engine: &Engine, dir: &Dir, max_hold: Option<Duration>) -> LockFile {
    let options = Options::new().protocol(Protocol::Sqlite);
    let options = options.database(dir.path("locks.db")).max_hold(max_hold);
    engine.open_with(dir.path("lock"), &options).unwrap()
}

impl Stand {
    fn new(max_hold: Option<Duration>) -> Self {
        let (dir, engine) = (Dir::new(), Engine::new());
        let lock = open(&engine, &dir, max_hold);
        Self {
            connection: Connection::open(dir.path("locks.db")).unwrap(),
            elsewhere: Elsewhere::new(&engine),
            lock,
            engine,
            dir,
        }
    }

    fn begin(&self) {
        self.connection.execute_batch("begin immediate").unwrap();
    }

    /// Checks that waits for the row and everything elsewhere are on time, and ends the transaction.
    #[track_caller]
    fn nothing_else_waits(self) {
        let lock = self.lock.clone();
        must_end("the timeout of a task", move || {
            let late = block_on(lock.acquire_async(EX, BRIEF)).unwrap_err();
            assert!(late.is_timeout(), "{late}");
        });
        let lock = self.lock.clone();
        must_end("the timeout of a thread", move || {
            let late = lock.acquire(EX, BRIEF).unwrap_err();
            assert!(late.is_timeout(), "{late}");
        });
        let lock = self.lock.clone();
        must_end("a future that is dropped", move || {
            let mut waits = lock.acquire_async(EX, None);
            assert!(poll(&mut waits).is_pending());
            lock.cancel_waits();
        });
        self.elsewhere.goes_on();
        self.connection.execute_batch("commit").unwrap();
        let guard = self.lock.acquire(EX, STUCK).unwrap();
        let other = open(&Engine::new(), &self.dir, None);
        assert!(other.try_acquire(EX).unwrap().is_none(), "two holders");
        guard.release().unwrap();
        other.acquire(EX, STUCK).unwrap().release().unwrap();
        drop(self.engine);
    }
}

#[test]
fn a_row_that_nobody_holds_is_waited_for() {
    let stand = Stand::new(None);
    stand.begin();
    stand.nothing_else_waits();
}

#[test]
fn a_guard_is_dropped_during_a_transaction() {
    let stand = Stand::new(None);
    let guard = stand.lock.acquire(EX, STUCK).unwrap();
    stand.begin();
    must_end("the drop", move || drop(guard));
    stand.nothing_else_waits();
}

/// The future was granted the lock, and has not been polled since.
#[test]
fn a_granted_future_is_dropped_during_a_transaction() {
    let stand = Stand::new(None);
    let other = open(&Engine::new(), &stand.dir, None);
    let guard = other.acquire(EX, STUCK).unwrap();
    let waits = pending(&stand.lock, EX);
    guard.release().unwrap();
    eventually("it is granted", || waiters(&stand.lock) == 0);
    stand.begin();
    must_end("the drop", move || drop(waits));
    stand.nothing_else_waits();
}

#[test]
fn a_hold_expires_during_a_transaction() {
    let stand = Stand::new(Some(BRIEF));
    let guard = stand.lock.acquire(EX, STUCK).unwrap();
    stand.begin();
    let lost = guard.lost();
    must_end("the end of the hold", move || block_on(lost));
    assert!(guard.release().unwrap_err().is_lost());
    stand.nothing_else_waits();
}

/// A release waits, and then reports that it could not delete the row. This engine can still acquire the
/// lock.
#[test]
fn a_release_fails_if_the_transaction_outlasts_it() {
    let stand = Stand::new(None);
    let guard = stand.lock.acquire(EX, STUCK).unwrap();
    stand.begin();
    let release = thread::spawn(move || guard.release());
    stand.elsewhere.goes_on();
    let error = release.join().unwrap().unwrap_err();
    assert!(error.is_io(), "{error}");
    stand.connection.execute_batch("commit").unwrap();
    stand.lock.acquire(EX, STUCK).unwrap().release().unwrap();
}
