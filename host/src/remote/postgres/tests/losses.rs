//! A lock that is lost is known to be, before another client has it.

use super::*;
use crate::error::lost_reason;
use crate::types::LostReason;

/// The shortest time to live.
const SHORTEST: Duration = Duration::from_secs(2);

fn with_ttl(url: &str, ttl: Duration) -> Postgres {
    let settings = Settings { ttl, ..settings() };
    Postgres::new(url, &settings).expect("the URL is one of a server")
}

/// The sessions that hold an advisory lock.
const HOLDERS: &str = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted";

#[test]
fn a_session_that_is_terminated_tells() {
    let Some(cluster) = &Cluster::start(&[]) else {
        return;
    };
    let remote = remote(&cluster.url("postgres"));
    let (seat, count) = listening(&remote, "terminated");
    assert!(seat.try_lock(Mode::Exclusive).unwrap());
    cluster.sql(&format!(
        "SELECT pg_terminate_backend(pid) FROM ({HOLDERS}) AS h"
    ));
    eventually("the loss is told", || told(&count) > 0);
    assert_eq!(seat.standing(), Standing::Lost(LostReason::Broken));
    seat.renew().unwrap_err();
    seat.unlock().unwrap();
    // The session tells of its end before it gives its locks back.
    eventually("it is free", || seat.try_lock(Mode::Exclusive).unwrap());
    // The loss is known or not, before the release.
    let sql = format!("SELECT pg_terminate_backend(pid) FROM ({HOLDERS}) AS h");
    cluster.sql(&sql);
    if let Err(error) = seat.unlock() {
        assert!(lost_reason(&error).is_some(), "{error}");
    }
    assert_eq!(seat.standing(), Standing::Free);
}

/// A statement that an administrator cancels is no loss, nor is a limit of the role.
#[test]
fn a_hold_outlives_its_time_to_live_and_the_limits_of_its_role() {
    let Some(cluster) = &Cluster::start(&[]) else {
        return;
    };
    cluster.sql("CREATE ROLE limited LOGIN");
    cluster.sql("GRANT CREATE ON SCHEMA public TO limited");
    for limit in ["statement_timeout", "lock_timeout", "idle_session_timeout"] {
        cluster.sql(&format!("ALTER ROLE limited SET {limit} = '2s'"));
    }
    cluster.sql("ALTER ROLE limited SET default_transaction_read_only = on");
    let ttl = Duration::from_secs(5);
    let (short, limited) = (
        with_ttl(&cluster.url("postgres"), ttl),
        remote(&cluster.url("limited")),
    );
    let [long, idle] = [seat(&short, "long"), seat(&limited, "idle")];
    // The role that may not do everything creates the sequence.
    for seat in [&idle, &long] {
        assert!(seat.try_lock(Mode::Exclusive).unwrap());
    }
    let first = token(&idle);
    let waiter = seat(&limited, "idle");
    thread::scope(|s| {
        let waits = s.spawn(|| waiter.wait(Mode::Exclusive, NEVER, &Stop::default()));
        // Longer than the time to live. The role allows less than what is between two heartbeats of
        // the idle session, which has a longer time to live.
        let start = Instant::now();
        while start.elapsed() < ttl * 3 / 2 {
            for seat in [&long, &idle] {
                let standing = seat.standing();
                assert!(!matches!(standing, Standing::Lost(_)), "{standing:?}");
            }
            cluster.sql(&format!(
                "SELECT pg_cancel_backend(pid) FROM ({HOLDERS}) AS h"
            ));
            thread::sleep(QUIESCENT);
        }
        assert!(!waits.is_finished());
        idle.unlock().unwrap();
        waits.join().unwrap().unwrap();
    });
    assert!(first < token(&waiter));
    waiter.unlock().unwrap();
    long.unlock().unwrap();
}

/// The server stops, for longer than the time to live and for less.
#[test]
fn a_server_that_stops_makes_a_hold_uncertain_and_then_lost() {
    let Some(cluster) = &Cluster::start(&[]) else {
        return;
    };
    let remote = remote(&cluster.url("postgres"));
    let (seat, count) = listening(&remote, "stopped");
    let mut psql = cluster.psql();
    assert!(seat.try_lock(Mode::Exclusive).unwrap());

    let stopped = cluster.stop();
    is_uncertain_and_tells(&seat, &count, 0);
    let before = told(&count);
    drop(stopped);
    eventually("it is held again", || is_held(&seat));
    eventually("that is told", || told(&count) > before);

    let before = told(&count);
    let stopped = cluster.stop();
    psql.send(&format!("SELECT pg_advisory_lock({})", sql_key("stopped")));
    is_uncertain_and_tells(&seat, &count, before);
    let before = told(&count);
    let lost = Standing::Lost(LostReason::Disconnected);
    eventually("it is lost", || seat.standing() == lost);
    eventually("that is told", || told(&count) > before);
    assert!(seat.renew().is_err());
    drop(stopped);
    // Only now.
    psql.answer();
    assert_eq!(seat.standing(), Standing::Lost(LostReason::Disconnected));
    seat.unlock().unwrap();
    assert!(!seat.try_lock(Mode::Exclusive).unwrap());
}

/// This process stops for longer than the time to live: what it says first is that it lost the lock.
#[test]
fn a_grant_that_is_read_late_does_not_count() {
    let Some(cluster) = &Cluster::start(&[]) else {
        return;
    };
    let remote = with_ttl(&cluster.url("postgres"), SHORTEST);
    let seat = seat(&remote, "late");
    assert!(seat.try_lock(Mode::Exclusive).unwrap());
    // Its thread cannot answer meanwhile.
    let runtime = remote.0.runtime().unwrap();
    let (busy, is_busy) = std::sync::mpsc::channel();
    runtime.spawn(async move {
        busy.send(()).unwrap();
        thread::sleep(SHORTEST);
    });
    is_busy.recv().unwrap();
    eventually("it is lost", || {
        matches!(seat.standing(), Standing::Lost(_))
    });
    nothing_is_left(cluster);
    assert_eq!(seat.standing(), Standing::Lost(LostReason::Disconnected));
}

#[test]
fn waits_and_tries_survive_a_restart() {
    let Some(mut cluster) = Cluster::start(&[]) else {
        return;
    };
    let remote = remote(&cluster.url("postgres"));
    let (waiter, (holder, count)) = (seat(&remote, "again"), listening(&remote, "again"));
    assert!(holder.try_lock(Mode::Exclusive).unwrap());
    let first = token(&holder);
    thread::scope(|s| {
        let waits = s.spawn(|| waiter.wait(Mode::Exclusive, NEVER, &Stop::default()));
        eventually("it waits", || locks(&cluster, false) == 1);
        cluster.crash();
        eventually("the loss is told", || told(&count) > 0);
        // A session that outlives its server for a moment can still say that it ends.
        let reason = holder.standing();
        let known = [LostReason::Disconnected, LostReason::Broken].map(Standing::Lost);
        assert!(known.contains(&reason), "{reason:?}");
        cluster.restart();
        waits.join().unwrap().unwrap();
    });
    assert!(first < token(&waiter));
    waiter.unlock().unwrap();
    // Its idle sessions are broken.
    cluster.shut_down();
    cluster.restart();
    assert!(remote.holder("again").unwrap().is_none());
    assert!(holder.try_lock(Mode::Exclusive).unwrap());
    holder.unlock().unwrap();
}
