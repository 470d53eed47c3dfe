//! Locks of PostgreSQL while the clocks of their holder, or of the server, are set and stopped.

use locket::{Engine, LockFile, LostReason, Remote};
use locket_test_support::servers::clock::Clock;
use locket_test_support::servers::postgres::Postgres;
use locket_test_support::servers::proxy::{Proxy, Traffic};

use super::*;

/// The lock `a`, by a server at this address.
fn lock(address: &str) -> LockFile {
    let remote = Remote::builder(&format!("postgres://postgres@{address}/postgres"));
    let remote = remote.ttl(TTL).request_timeout(STUCK).build();
    let lock = Engine::new().open_remote(&remote.expect("the URL is valid"), "a");
    lock.expect("the name is valid")
}

fn address(server: &Postgres) -> String {
    format!("127.0.0.1:{}", server.port())
}

/// How many wait on the server.
fn waiting(server: &Postgres) -> String {
    server.sql("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
}

#[test]
fn a_lock_of_postgresql_is_not_lost_when_the_clock_is_set() {
    let Some(server) = Postgres::start(&[]) else {
        return;
    };
    let clocks = Clocks::take();
    let proxy = Proxy::new(&address(&server));
    let lock = lock(&proxy.address());
    let guard = lock.acquire(EX, STUCK).unwrap();
    outlives_each_set(&clocks, &lock, &guard);
    // And the loss is known in time, although the clock went back.
    proxy.set(Traffic::Stalls);
    server.sql(&format!("SELECT pg_sleep({})", TTL.as_secs()));
    assert!(!guard.is_held());
    assert_eq!(block_on(guard.lost()), LostReason::Disconnected);
}

#[test]
fn a_holder_knows_its_loss_although_its_clock_stands_still() {
    let Some(server) = Postgres::start(&[]) else {
        return;
    };
    let clocks = Clocks::take();
    let proxy = Proxy::new(&address(&server));
    let guard = lock(&proxy.address()).acquire(EX, STUCK).unwrap();
    let _still = clocks.stop();
    let before = Instant::now();
    proxy.set(Traffic::Stalls);
    server.sql(&format!("SELECT pg_sleep({})", TTL.as_secs()));
    assert!(!guard.is_held());
    assert_eq!(block_on(guard.lost()), LostReason::Disconnected);
    assert_eq!(before, Instant::now(), "the clock did not stand still");
}

/// The server's clock, not that of this process.
#[test]
fn a_server_whose_clock_is_set_ends_no_hold_and_no_wait() {
    let Some(clock) = Clock::start() else {
        return;
    };
    let Some(server) = Postgres::start_by(&clock) else {
        return;
    };
    let (holder, waiter) = (lock(&address(&server)), lock(&address(&server)));
    let guard = holder.acquire(EX, STUCK).unwrap();
    let now = "SELECT extract(epoch FROM clock_timestamp())::bigint";
    for set in [HOUR, -HOUR] {
        let timeout = TTL * 3 / 2;
        let waited = thread::scope(|scope| {
            let wait = scope.spawn(|| {
                let start = Instant::now();
                let refused = waiter.acquire(EX, timeout).expect_err("it is held");
                assert!(refused.is_timeout(), "{refused}");
                start.elapsed()
            });
            eventually("it waits", || waiting(&server) == "1");
            clock.set(set);
            let before: i64 = server.sql(now).parse().expect("it is a number");
            let right = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            let wrong = before - right.expect("it is past 1970").as_secs().cast_signed();
            assert!(
                (wrong - set).abs() < HOUR / 2,
                "the clock was not set: {wrong}"
            );
            wait.join().expect("it does not panic")
        });
        assert!(waited >= timeout, "{waited:?}");
        // It was renewed meanwhile.
        assert!(guard.is_held());
        clock.set(0);
    }
    thread::scope(|scope| {
        let wait = scope.spawn(|| waiter.acquire(EX, None));
        eventually("it waits", || waiting(&server) == "1");
        clock.set(HOUR);
        guard.release().expect("it is held");
        assert!(wait.join().expect("it does not panic").is_ok());
    });
}
