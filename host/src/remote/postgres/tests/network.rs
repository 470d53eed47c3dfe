//! A network that stalls, loses answers, and breaks connections.

use locket_test_support::servers::proxy::{Proxy, Traffic};

use rustix::process::{Pid, Signal, kill_process};

use super::*;
use crate::types::LostReason;

/// The shortest time to live.
const TTL: Duration = Duration::from_secs(2);

/// A network between the server and a client whose locks live for `TTL`.
fn network(cluster: &Cluster) -> (Proxy, Postgres) {
    network_with(cluster, TTL)
}

/// The same with another time to live.
fn network_with(cluster: &Cluster, ttl: Duration) -> (Proxy, Postgres) {
    let proxy = Proxy::new(&format!("127.0.0.1:{}", cluster.port()));
    let settings = Settings { ttl, ..settings() };
    let url = format!("postgres://postgres@{}/postgres", proxy.address());
    let remote = Postgres::new(&url, &settings).expect("the URL is one of a server");
    (proxy, remote)
}

/// What it does about a network that is cut, the kernels do: nothing here can cut one for them.
#[test]
fn the_server_is_told_to_be_as_patient_as_the_client() {
    let Some(cluster) = &Cluster::start(&[]) else {
        return;
    };
    let (_proxy, remote) = network(cluster);
    let names = [
        "tcp_user_timeout",
        "tcp_keepalives_idle",
        "tcp_keepalives_interval",
        "tcp_keepalives_count",
        "client_connection_check_interval",
    ];
    let values = names.map(|name| {
        let shown = remote.ask(format!("SHOW {name}"), |rows| {
            rows[0].get(0).map(str::to_owned)
        });
        shown.unwrap().unwrap()
    });
    assert_eq!(values, ["2000", "1", "1", "3", "1s"]);
}

#[test]
fn a_hold_is_lost_before_another_client_has_the_lock() {
    let Some(cluster) = &Cluster::start(&[]) else {
        return;
    };
    let ttl = settings().ttl;
    let (proxy, remote) = network_with(cluster, ttl);
    let (seat, count) = listening(&remote, "cut");
    let mut psql = cluster.psql();
    assert!(seat.try_lock(Mode::Exclusive).unwrap());
    let Standing::Held(grant) = seat.standing() else {
        panic!("it is held: {seat:?}");
    };
    let valid = grant.valid_for.expect("silence ends it");
    assert!(
        valid <= ttl * 9 / 10,
        "the server waits no longer: {valid:?}"
    );
    psql.send(&format!("SELECT pg_advisory_lock({})", sql_key("cut")));
    eventually("psql waits", || locks(cluster, false) == 1);
    let before = told(&count);
    proxy.set(Traffic::Stalls);
    is_uncertain_and_tells(&seat, &count, before);
    let before = told(&count);
    let lost = Standing::Lost(LostReason::Disconnected);
    eventually("it is lost", || seat.standing() == lost);
    eventually("the loss is told", || told(&count) > before);
    assert_eq!(locks(cluster, false), 1, "psql does not have it yet");
    proxy.set(Traffic::Flows);
    psql.answer();
    assert_eq!(seat.standing(), lost);
}

/// The grant is under way for longer than the time to live; then its answer is lost altogether.
#[test]
fn a_grant_counts_from_its_confirmation() {
    let Some(cluster) = &Cluster::start(&[]) else {
        return;
    };
    let near = remote(&cluster.url("postgres"));
    let (proxy, far) = network(cluster);
    let (holder, waiter) = (seat(&near, "grant"), seat(&far, "grant"));
    for traffic in [Traffic::Stalls, Traffic::LosesAnswers] {
        assert!(holder.try_lock(Mode::Exclusive).unwrap());
        thread::scope(|s| {
            let waits = s.spawn(|| waiter.wait(Mode::Exclusive, NEVER, &Stop::default()));
            eventually("it waits", || locks(cluster, false) == 1);
            proxy.set(traffic);
            holder.unlock().unwrap();
            eventually("it is granted", || locks(cluster, false) == 0);
            thread::sleep(TTL);
            assert!(!waits.is_finished());
            if traffic == Traffic::Stalls {
                // The grant arrives, and says nothing about the time since.
                proxy.set(Traffic::KeepsRequests);
                thread::sleep(QUIESCENT);
                assert!(!waits.is_finished());
            }
            assert_eq!(waiter.standing(), Standing::Free);
            proxy.set(Traffic::Flows);
            waits.join().unwrap().unwrap();
        });
        assert!(is_held(&waiter), "{:?}", waiter.standing());
        assert!(!holder.try_lock(Mode::Shared).unwrap());
        waiter.unlock().unwrap();
    }
}

#[test]
fn a_waiter_whose_connection_breaks_leaves_the_queue() {
    let Some(cluster) = &Cluster::start(&[]) else {
        return;
    };
    let near = remote(&cluster.url("postgres"));
    let (proxy, far) = network(cluster);
    let (holder, waiter) = (seat(&near, "breaks"), seat(&far, "breaks"));
    assert!(holder.try_lock(Mode::Exclusive).unwrap());
    let stop = Stop::default();
    thread::scope(|s| {
        let waits = s.spawn(|| waiter.wait(Mode::Exclusive, NEVER, &stop));
        eventually("it waits", || locks(cluster, false) == 1);
        proxy.set(Traffic::Breaks);
        eventually("it has left", || locks(cluster, false) == 0);
        proxy.set(Traffic::Flows);
        eventually("it waits again", || locks(cluster, false) == 1);
        drop(proxy);
        eventually("it has left", || locks(cluster, false) == 0);
        assert!(!waits.is_finished(), "it tries to come back");
        stop.stop();
        let error = waits.join().unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Interrupted, "{error}");
    });
    holder.unlock().unwrap();
}

/// The server breaks the lock, and the answer is lost. By the time that this is known, the next one
/// has it, who is not to lose it.
#[test]
fn a_lock_is_broken_only_once() {
    let Some(cluster) = &Cluster::start(&[]) else {
        return;
    };
    let near = remote(&cluster.url("postgres"));
    let (proxy, far) = network(cluster);
    let (holder, next) = (seat(&near, "once"), seat(&near, "once"));
    assert!(far.holder("once").unwrap().is_none());
    assert!(holder.try_lock(Mode::Exclusive).unwrap());
    let holders = "SELECT pid FROM pg_locks WHERE locktype = 'advisory'";
    let process = Pid::from_raw(cluster.sql(holders).parse().unwrap()).unwrap();
    // It ends once it continues, and the server answers then.
    kill_process(process, Signal::STOP).unwrap();
    thread::scope(|s| {
        let breaks = s.spawn(|| far.break_lock("once"));
        let asks = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' \
                    AND query LIKE '%terminate%' AND pid <> pg_backend_pid()";
        eventually("it is asked to end", || cluster.sql(asks) == "1");
        proxy.set(Traffic::LosesAnswers);
        kill_process(process, Signal::CONT).unwrap();
        eventually("the next one has it", || {
            next.try_lock(Mode::Exclusive).unwrap()
        });
        eventually("the server has answered", || cluster.sql(asks) == "0");
        proxy.set(Traffic::Flows);
        let error = breaks.join().unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotConnected, "{error}");
    });
    assert_eq!(locks(cluster, true), 1, "the next one has lost it, too");
    assert!(is_held(&next));
}
