//! Locks of PostgreSQL. Seats and servers have tests of their own beside their code.

use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use locket::{Engine, LockFile, LostReason, Mode, Protocol, Remote, Scope, State};
use locket_test_support::servers::free_port;
use locket_test_support::servers::postgres::Postgres;
use locket_test_support::waits::{STUCK, block_on, eventually, pending, poll};

/// The key of a name, as a page of the crate has it.
const KEY: &str = "CREATE FUNCTION locket_key(name text) RETURNS bigint LANGUAGE sql IMMUTABLE \
     STRICT PARALLEL SAFE AS $$ SELECT ('x' || left(encode(sha256(convert_to(name, 'UTF8')), \
     'hex'), 16))::bit(64)::bigint $$";

/// The lock `a`, as a process has it that others know as `label`.
fn process(server: &Postgres, label: &str, ttl: u64) -> (Engine, LockFile) {
    let remote = Remote::builder(&server.url("postgres"))
        .ttl(Duration::from_secs(ttl))
        .request_timeout(STUCK)
        .label(label)
        .build()
        .expect("the URL is valid");
    let engine = Engine::new();
    let lock = engine.open_remote(&remote, "a").expect("the name is valid");
    (engine, lock)
}

/// Locks that are awaited on the server, or held.
fn locks(server: &Postgres, granted: bool) -> usize {
    let sql = format!(
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted = {granted}"
    );
    server.sql(&sql).parse().expect("it counts")
}

fn increment(counter: &Path) {
    let text = fs::read_to_string(counter).expect("the counter can be read");
    let number: u32 = text.parse().expect("it is a number");
    fs::write(counter, (number + 1).to_string()).expect("the counter can be written");
}

/// Engines in threads and tasks, and `psql`. Without the lock, they lose counts.
#[test]
fn engines_and_psql_count_exactly_and_tokens_ascend() {
    let Some(server) = &Postgres::start(&[]) else {
        return;
    };
    server.sql(KEY);
    let folder = tempfile::tempdir().expect("a directory can be created");
    let counter = &folder.path().join("counter");
    fs::write(counter, "0").expect("the counter can be written");
    let tokens = &Mutex::new(Vec::new());
    let processes = [process(server, "one", 10), process(server, "two", 10)];
    let (each, foreign) = (100, 50);
    thread::scope(|s| {
        for (_, lock) in &processes {
            for blocking in [true, false] {
                s.spawn(move || {
                    for _ in 0..each {
                        let guard = match blocking {
                            true => lock.acquire(Mode::Exclusive, STUCK),
                            false => block_on(lock.acquire_async(Mode::Exclusive, STUCK)),
                        };
                        let guard = guard.expect("its turn comes");
                        let token = guard.token().expect("there is a sequence");
                        tokens.lock().unwrap().push(token);
                        increment(counter);
                        guard.release().expect("it was held");
                    }
                });
            }
        }
        s.spawn(|| {
            let mut psql = server.psql();
            for _ in 0..foreign {
                psql.ask("SELECT pg_advisory_lock(locket_key('a'))");
                increment(counter);
                psql.ask("SELECT pg_advisory_unlock(locket_key('a'))");
            }
        });
    });
    let total = fs::read_to_string(counter).expect("the counter can be read");
    assert_eq!(total, (4 * each + foreign).to_string());
    let tokens = tokens.lock().unwrap();
    assert!(tokens.is_sorted_by(|one, two| one < two), "{tokens:?}");
    eventually("nothing is left", || locks(server, true) == 0);
}

#[test]
fn one_waiter_of_an_engine_waits_on_the_server() {
    let Some(server) = &Postgres::start(&[]) else {
        return;
    };
    server.sql(KEY);
    let (_, lock) = process(server, "many", 10);
    let mut psql = server.psql();
    psql.ask("SELECT pg_advisory_lock(locket_key('a'))");
    let mut waits: Vec<_> = (0..20).map(|_| pending(&lock, Mode::Exclusive)).collect();
    eventually("one waits", || locks(server, false) == 1);
    // Some give up, the first one among them, and are not in the way of the others.
    waits.drain(..5);
    eventually("one waits", || locks(server, false) == 1);
    assert!(
        lock.try_acquire(Mode::Shared)
            .expect("it is held")
            .is_none()
    );
    let error = lock.acquire(Mode::Exclusive, Duration::from_millis(50));
    assert!(error.unwrap_err().is_timeout());
    psql.ask("SELECT pg_advisory_unlock(locket_key('a'))");
    for wait in waits {
        drop(block_on(wait).expect("its turn comes"));
    }
    psql.ask("SELECT pg_advisory_lock(locket_key('a'))");
    let mut wait = pending(&lock, Mode::Exclusive);
    eventually("it waits", || locks(server, false) == 1);
    lock.cancel_waits();
    let error = block_on(&mut wait).unwrap_err();
    assert!(error.is_canceled(), "{error}");
    eventually("none waits", || locks(server, false) == 0);
}

#[test]
fn what_others_see_and_may_do() {
    let Some(server) = &Postgres::start(&[]) else {
        return;
    };
    let (_, holder) = process(server, "the holder", 10);
    let (_, other) = process(server, "another", 10);
    let guarantee = holder.guarantee();
    assert_eq!((guarantee.scope, guarantee.fifo), (Scope::Cluster, true));
    assert_eq!(holder.protocol(), Protocol::Remote);
    assert!(!other.is_locked().expect("the server answers"));
    let guard = holder.acquire(Mode::Shared, None).expect("it is free");
    assert!(holder.guarantee().fencing);
    let seen = other.holder().expect("the server answers");
    let seen = seen.expect("it is held");
    assert_eq!(seen.label.as_deref(), Some("the holder"));
    assert_eq!(
        (seen.mode, seen.pid, seen.elsewhere),
        (Mode::Shared, None, true)
    );
    assert!(
        other
            .try_acquire(Mode::Exclusive)
            .expect("it answers")
            .is_none()
    );
    drop(
        other
            .try_acquire(Mode::Shared)
            .expect("it answers")
            .expect("it is shared"),
    );
    let mut lost = Box::pin(guard.lost());
    assert!(poll(&mut lost).is_pending());
    other.break_lock().expect("a superuser may");
    assert_eq!(block_on(lost), LostReason::Broken);
    assert_eq!(holder.state(), State::Lost(LostReason::Broken));
    assert!(!guard.is_held());
    assert!(guard.release().unwrap_err().is_lost());
    drop(holder.acquire(Mode::Exclusive, None).expect("it is free"));
}

/// The next holder comes only after the first one knows of its loss.
#[test]
fn a_server_that_stops_costs_the_lock_and_says_so() {
    let Some(server) = &Postgres::start(&[]) else {
        return;
    };
    let ((_, first), (_, second)) = (process(server, "first", 10), process(server, "second", 10));
    let guard = first.acquire(Mode::Exclusive, None).expect("it is free");
    assert_eq!(first.state(), State::Held);
    let stopped = server.stop();
    eventually("it is uncertain", || {
        matches!(first.state(), State::Uncertain(_))
    });
    thread::scope(|s| {
        let next = s.spawn(|| second.acquire(Mode::Exclusive, STUCK));
        assert_eq!(block_on(guard.lost()), LostReason::Disconnected);
        assert!(!next.is_finished());
        drop(stopped);
        let next = next.join().unwrap().expect("it is free again");
        assert!(guard.token() < next.token());
        assert!(!guard.is_held());
    });
    assert!(guard.release().unwrap_err().is_lost());
}

#[test]
fn errors_say_what_is_wrong() {
    let open = |url: &str| Engine::new().open_remote(&Remote::new(url).unwrap(), "a");
    let nowhere = open(&format!("postgres://user@127.0.0.1:{}/db", free_port()));
    let error = nowhere
        .expect("it asks no server")
        .acquire(Mode::Shared, None);
    let error = error.unwrap_err();
    assert!(error.is_unavailable(), "{error}");
    let error = Remote::new("postgres://user:secret@localhost/db").unwrap_err();
    assert!(error.is_invalid_path(), "{error}");
    assert!(!error.to_string().contains("secret"), "{error}");
    let Some(server) = &Postgres::start(&[]) else {
        return;
    };
    server.sql("CREATE ROLE guarded LOGIN PASSWORD 'right'");
    let error = open(&server.url("guarded"))
        .unwrap()
        .try_acquire(Mode::Shared);
    assert!(error.as_ref().unwrap_err().is_denied(), "{error:?}");
    let remote = Remote::builder(&server.url("guarded"))
        .password("right")
        .build();
    let lock = Engine::new().open_remote(&remote.unwrap(), "a").unwrap();
    drop(lock.acquire(Mode::Shared, None).unwrap());
    let error = Engine::new().open_remote(&Remote::new(&server.url("guarded")).unwrap(), "");
    assert!(error.unwrap_err().is_invalid_path());
}

/// The statements of the page for users.
#[test]
fn the_page_says_what_the_server_takes() {
    let Some(server) = &Postgres::start(&[]) else {
        return;
    };
    server.sql("CREATE DATABASE locks");
    let page = include_str!("../../src/remote/postgres.md");
    let blocks = page.split("```sql").skip(1);
    let blocks: Vec<_> = blocks.filter_map(|rest| rest.split("```").next()).collect();
    let [clients, role, monitor] = blocks[..] else {
        panic!("the page has other blocks: {blocks:?}");
    };
    let mut psql = server.psql();
    assert!(
        psql.ask(clients).ends_with('t'),
        "it unlocks what it locked"
    );
    psql.ask(role);
    let remote = Remote::new(&server.url("jobs")).expect("the URL is valid");
    let lock = Engine::new().open_remote(&remote, "jobs/nightly");
    let guard = lock.expect("it is a name").acquire(Mode::Exclusive, STUCK);
    assert!(guard.as_ref().expect("it is free").token().is_some());
    let key = psql.ask("SELECT locket_key('jobs/nightly')");
    let seen = psql.ask(monitor);
    assert!(seen.starts_with(&key), "{key}: {seen}");
}
