//! At the level of the trait, against a real server.

mod ends;
mod errors;
mod losses;
mod network;

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;
use std::thread;
use std::time::{Duration, Instant};

use locket_test_support::servers::postgres::Postgres as Cluster;
use locket_test_support::waits::{Count, QUIESCENT, STUCK, eventually};

use super::Postgres;
use crate::deadline::Deadline;
use crate::remote::{Changed, Seat, Server, Settings, Standing, Stop};
use crate::types::Mode;

const NEVER: Deadline = Deadline::Never;

fn settings() -> Settings {
    Settings {
        ttl: Duration::from_secs(10),
        request_timeout: STUCK,
        password: None,
        label: Some("tester".into()),
    }
}

fn remote(url: &str) -> Postgres {
    Postgres::new(url, &settings()).expect("the URL is one of a server")
}

/// A seat that tells no one.
fn seat(remote: &Postgres, name: &str) -> Arc<dyn Seat> {
    remote.seat(name, &Arc::default())
}

/// A seat, and how often it told of a change.
fn listening(remote: &Postgres, name: &str) -> (Arc<dyn Seat>, Arc<Count>) {
    let (changed, count) = (Arc::<Changed>::default(), Arc::<Count>::default());
    changed.listen(Waker::from(Arc::clone(&count)));
    (remote.seat(name, &changed), count)
}

fn told(count: &Count) -> usize {
    count.0.load(Ordering::SeqCst)
}

/// Waits until the lock is uncertain, and that has been told since it was told `before` times. The
/// time to live is that of [`settings`]: a shorter one leaves a busy machine too little to see it in.
#[track_caller]
fn is_uncertain_and_tells(seat: &Arc<dyn Seat>, count: &Count, before: usize) {
    eventually("it is uncertain", || {
        matches!(seat.standing(), Standing::Uncertain(_))
    });
    eventually("that is told", || told(count) > before);
}

fn token(seat: &Arc<dyn Seat>) -> u64 {
    match seat.standing() {
        Standing::Held(grant) => grant.token.expect("grants carry a token"),
        other => panic!("it is held: {other:?}"),
    }
}

fn is_held(seat: &Arc<dyn Seat>) -> bool {
    matches!(seat.standing(), Standing::Held(_))
}

fn after(time: Duration) -> Deadline {
    Deadline::after(Some(time))
}

/// The key of a name, in SQL, as the documentation has it.
fn sql_key(name: &str) -> String {
    format!(
        "('x' || left(encode(sha256(convert_to('{name}', 'UTF8')), 'hex'), 16))::bit(64)::bigint"
    )
}

/// Advisory locks on the server, granted or awaited.
fn locks(cluster: &Cluster, granted: bool) -> usize {
    let sql = format!(
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted = {granted}"
    );
    cluster.sql(&sql).parse().expect("it counts")
}

#[track_caller]
fn nothing_is_left(cluster: &Cluster) {
    eventually("no lock is held or awaited", || {
        locks(cluster, true) + locks(cluster, false) == 0
    });
}

#[test]
fn excludes_sql_clients_and_is_excluded_by_them() {
    let Some(cluster) = &Cluster::start(&[]) else {
        return;
    };
    let (remote, key) = (remote(&cluster.url("postgres")), sql_key("jobs/ä'"));
    let key = key.replace("ä'", "ä''");
    let seat = seat(&remote, "jobs/ä'");
    let mut psql = cluster.psql();

    assert!(seat.try_lock(Mode::Exclusive).unwrap());
    assert_eq!(
        psql.ask(&format!("SELECT pg_try_advisory_lock_shared({key})")),
        "f"
    );
    psql.send(&format!("SELECT pg_advisory_lock({key})"));
    eventually("psql waits", || locks(cluster, false) == 1);
    seat.unlock().unwrap();
    psql.answer();

    assert!(!seat.try_lock(Mode::Exclusive).unwrap());
    assert!(!seat.try_lock(Mode::Shared).unwrap());
    thread::scope(|s| {
        let waits = s.spawn(|| seat.wait(Mode::Exclusive, NEVER, &Stop::default()));
        eventually("the seat waits", || locks(cluster, false) == 1);
        assert_eq!(psql.ask(&format!("SELECT pg_advisory_unlock({key})")), "t");
        waits.join().unwrap().unwrap();
    });
    assert!(is_held(&seat));
    seat.unlock().unwrap();
    assert_eq!(seat.standing(), Standing::Free);
    nothing_is_left(cluster);
}

#[test]
fn shares_and_lets_no_reader_pass_a_writer() {
    let Some(cluster) = &Cluster::start(&[]) else {
        return;
    };
    let remote = remote(&cluster.url("postgres"));
    let [one, two, writer, late] = [(); 4].map(|()| seat(&remote, "shared"));
    assert!(one.try_lock(Mode::Shared).unwrap());
    two.wait(Mode::Shared, NEVER, &Stop::default()).unwrap();
    let mut psql = cluster.psql();
    let key = sql_key("shared");
    let tried = psql.ask(&format!("SELECT pg_try_advisory_lock_shared({key})"));
    assert_eq!(tried, "t");
    psql.kill();
    thread::scope(|s| {
        let waits = s.spawn(|| writer.wait(Mode::Exclusive, NEVER, &Stop::default()));
        eventually("the writer waits", || locks(cluster, false) == 1);
        assert!(!late.try_lock(Mode::Shared).unwrap());
        one.unlock().unwrap();
        thread::sleep(QUIESCENT);
        assert!(!waits.is_finished());
        two.unlock().unwrap();
        waits.join().unwrap().unwrap();
    });
    assert!(!late.try_lock(Mode::Shared).unwrap());
    writer.unlock().unwrap();
    assert!(late.try_lock(Mode::Shared).unwrap());
    late.unlock().unwrap();
}

#[test]
fn a_session_never_has_the_lock_twice() {
    let Some(cluster) = &Cluster::start(&[]) else {
        return;
    };
    // The server's socket is as good as its port.
    let (dir, port) = (cluster.dir().display(), cluster.port());
    let socket = format!("postgres:///postgres?user=postgres&host={dir}&port={port}");
    let remotes = [remote(&cluster.url("postgres")), remote(&socket)];
    let [one, two] = remotes.each_ref().map(|remote| seat(remote, "twice"));
    let also = seat(&remotes[0], "twice");
    for mode in [Mode::Exclusive, Mode::Shared] {
        assert!(one.try_lock(mode).unwrap());
        assert!(!two.try_lock(Mode::Exclusive).unwrap());
        assert!(!also.try_lock(Mode::Exclusive).unwrap());
        one.unlock().unwrap();
        // The session of the first one is free again.
        for next in [also.as_ref(), two.as_ref()] {
            assert!(next.try_lock(Mode::Exclusive).unwrap());
            assert!(!one.try_lock(mode).unwrap());
            next.unlock().unwrap();
        }
    }
}

#[test]
fn ten_waiters_are_served_in_order() {
    let Some(cluster) = &Cluster::start(&[]) else {
        return;
    };
    let remotes = [(); 2].map(|()| remote(&cluster.url("postgres")));
    let mut psql = cluster.psql();
    psql.ask(&format!("SELECT pg_advisory_lock({})", sql_key("order")));
    let (sender, order) = std::sync::mpsc::channel();
    thread::scope(|s| {
        for i in 0..10 {
            let (seat, sender) = (seat(&remotes[i % 2], "order"), sender.clone());
            s.spawn(move || {
                seat.wait(Mode::Exclusive, NEVER, &Stop::default()).unwrap();
                sender.send((i, token(&seat))).unwrap();
                seat.unlock().unwrap();
            });
            eventually("it waits", || locks(cluster, false) == i + 1);
        }
        psql.kill();
    });
    drop(sender);
    let order: Vec<_> = order.iter().collect();
    assert!(order.iter().map(|(i, _)| *i).eq(0..10), "{order:?}");
    assert!(order.is_sorted_by(|one, two| one.1 < two.1), "{order:?}");
}

#[test]
fn a_thousand_tokens_ascend() {
    let Some(cluster) = &Cluster::start(&[]) else {
        return;
    };
    let remotes = [(); 2].map(|()| remote(&cluster.url("postgres")));
    let last = std::sync::Mutex::new(0);
    thread::scope(|s| {
        for i in 0..4_usize {
            let seat = seat(&remotes[i % 2], "tokens");
            let last = &last;
            s.spawn(move || {
                for _ in 0..250 {
                    seat.wait(Mode::Exclusive, NEVER, &Stop::default()).unwrap();
                    let mut last = last.try_lock().expect("one holder at a time");
                    assert!(*last < token(&seat));
                    *last = token(&seat);
                    seat.renew().unwrap();
                    assert!(*last < token(&seat), "a renewal is a new grant");
                    *last = token(&seat);
                    drop(last);
                    seat.unlock().unwrap();
                }
            });
        }
    });
    assert!(remotes[0].guarantee().fencing);
}

#[test]
fn tells_who_holds_it_and_breaks_it() {
    let Some(cluster) = &Cluster::start(&[]) else {
        return;
    };
    let remote = remote(&cluster.url("postgres"));
    assert!(remote.holder("broken").unwrap().is_none());
    assert!(!remote.break_lock("broken").unwrap());
    let mut holders = [(); 2].map(|()| listening(&remote, "broken"));
    let mut psql = cluster.psql();
    for (seat, _) in &holders {
        assert!(seat.try_lock(Mode::Shared).unwrap());
    }
    psql.ask(&format!(
        "SELECT pg_advisory_lock_shared({})",
        sql_key("broken")
    ));
    let holder = remote.holder("broken").unwrap().expect("it is held");
    assert_eq!(
        (holder.mode, holder.elsewhere, holder.pid),
        (Mode::Shared, true, None)
    );
    let labels = [Some("tester"), Some("psql")];
    assert!(labels.contains(&holder.label.as_deref()));
    assert!(remote.break_lock("broken").unwrap());
    for (seat, count) in &mut holders {
        eventually("the loss is known", || {
            matches!(seat.standing(), Standing::Lost(_))
        });
        eventually("the loss is told", || told(count) > 0);
        seat.unlock().unwrap();
        assert_eq!(seat.standing(), Standing::Free);
    }
    assert!(holders[0].0.try_lock(Mode::Exclusive).unwrap());
    let holder = remote.holder("broken").unwrap().expect("it is held");
    assert_eq!(holder.mode, Mode::Exclusive);
}

#[test]
fn what_is_dropped_is_released() {
    let Some(cluster) = &Cluster::start(&[]) else {
        return;
    };
    let remote = remote(&cluster.url("postgres"));
    for mode in [Mode::Exclusive, Mode::Shared] {
        let held = seat(&remote, "dropped");
        assert!(held.try_lock(mode).unwrap());
        drop(held);
        nothing_is_left(cluster);
    }
    let held = seat(&remote, "dropped");
    assert!(held.try_lock(Mode::Exclusive).unwrap());
    drop(remote);
    assert!(is_held(&held), "the remote is only a way to open more");
    drop(held);
    let sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tester'";
    eventually("all sessions are closed", || cluster.sql(sessions) == "0");
}
