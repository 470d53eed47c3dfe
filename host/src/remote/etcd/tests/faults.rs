//! Servers and connections that fail.

use std::io::ErrorKind;

use locket_test_support::servers::proxy::{Proxy, Traffic};

use super::*;

const EXCLUSIVE: Mode = Mode::Exclusive;

#[test]
fn answers_that_are_lost_are_asked_for_again() {
    let Some(cluster) = Cluster::start(1) else {
        return;
    };
    let proxy = Proxy::new(&cluster.addresses()[0]);
    let url = format!("etcd://{}/", proxy.address());
    let remote = remote(&url, 20);
    let (one, two) = (seat(&remote, "a"), seat(&remote, "b"));
    hold(&two, EXCLUSIVE);
    proxy.set(Traffic::LosesAnswers);
    thread::scope(|scope| {
        let tried = scope.spawn(|| one.try_lock(EXCLUSIVE));
        keys(&cluster, "/a", 1);
        proxy.set(Traffic::Flows);
        assert!(
            tried.join().expect("it works").expect("it is repeated"),
            "it has the lock"
        );
    });
    assert!(is_held(&one));
    proxy.set(Traffic::LosesAnswers);
    thread::scope(|scope| {
        let unlocked = scope.spawn(|| one.unlock());
        keys(&cluster, "/a", 0);
        proxy.set(Traffic::Flows);
        unlocked.join().expect("it works").expect("it is repeated");
    });
    proxy.set(Traffic::LosesAnswers);
    let waiter = Waiter::forever(Arc::clone(&one), EXCLUSIVE);
    keys(&cluster, "/a", 1);
    proxy.set(Traffic::Flows);
    waiter.granted();
    keys(&cluster, "/a", 1);
    drop((one, two, remote));
    nothing_is_left(&cluster);
}

/// The request is repeated, and finds the key that it added.
#[test]
fn a_shared_try_whose_answer_is_lost_knows_its_key() {
    let Some(cluster) = Cluster::start(1) else {
        return;
    };
    let proxy = Proxy::new(&cluster.addresses()[0]);
    let remote = remote(&format!("etcd://{}/", proxy.address()), 20);
    let (one, other) = (seat(&remote, "a"), seat(&remote, "b"));
    hold(&other, EXCLUSIVE);
    proxy.set(Traffic::LosesAnswers);
    thread::scope(|scope| {
        let tried = scope.spawn(|| one.try_lock(Mode::Shared));
        keys(&cluster, "/a", 1);
        proxy.set(Traffic::Flows);
        let tried = tried.join().expect("it works");
        assert!(tried.expect("it is repeated"), "no one is in the way");
    });
    one.renew().expect("its key is there");
    assert!(is_held(&one));
    one.unlock().expect("it is given back");
    keys(&cluster, "/a", 0);
}

#[test]
fn a_request_that_fails_leaves_no_key() {
    let Some(cluster) = Cluster::start(1) else {
        return;
    };
    let proxy = Proxy::new(&cluster.addresses()[0]);
    let url = format!("etcd://{}/", proxy.address());
    let hasty = Settings {
        request_timeout: Duration::from_secs(8),
        ..settings(60)
    };
    let remote = Etcd::new(&url, &hasty).expect("the URL is valid");
    let (one, two) = (seat(&remote, "a"), seat(&remote, "b"));
    hold(&two, EXCLUSIVE);
    proxy.set(Traffic::LosesAnswers);
    thread::scope(|scope| {
        let tried = scope.spawn(|| one.try_lock(EXCLUSIVE));
        keys(&cluster, "/a", 1);
        proxy.set(Traffic::Stalls);
        let failed = tried
            .join()
            .expect("it works")
            .expect_err("there is no answer");
        assert_eq!(failed.kind(), ErrorKind::NotConnected, "{failed}");
    });
    assert_eq!(one.standing(), Standing::Free);
    let failed = two.unlock().expect_err("there is no answer");
    assert_eq!(failed.kind(), ErrorKind::NotConnected, "{failed}");
    let left = [cluster.keys("/a/").len(), cluster.keys("/b/").len()];
    assert_eq!(left, [1, 1], "no request has arrived since");
    proxy.set(Traffic::Flows);
    keys(&cluster, "/a", 0);
    keys(&cluster, "/b", 0);
    assert_eq!(cluster.leases().len(), 1, "the lease is still in use");
}

#[test]
fn a_connection_that_stalls_or_breaks_ends_no_wait() {
    let Some(cluster) = Cluster::start(1) else {
        return;
    };
    let proxy = Proxy::new(&cluster.addresses()[0]);
    let near = remote(&cluster.url(""), 20);
    let far = remote(&format!("etcd://{}/", proxy.address()), 20);
    let held = seat(&near, "a");
    hold(&held, EXCLUSIVE);
    let waiter = Waiter::forever(seat(&far, "a"), EXCLUSIVE);
    keys(&cluster, "/a", 2);
    proxy.set(Traffic::Stalls);
    waiter.waits();
    held.unlock().expect("it is given back");
    waiter.waits();
    proxy.set(Traffic::Flows);
    let next = waiter.granted();
    let waiter = Waiter::forever(Arc::clone(&held), EXCLUSIVE);
    keys(&cluster, "/a", 2);
    proxy.set(Traffic::Breaks);
    proxy.set(Traffic::Flows);
    next.unlock().expect("it is given back");
    waiter.granted();
    let waiter = Waiter::start(next, EXCLUSIVE, soon(Duration::from_millis(200)));
    proxy.set(Traffic::Stalls);
    let late = waiter.result().expect_err("it is held");
    assert_eq!(
        late.kind(),
        ErrorKind::TimedOut,
        "though the server is silent"
    );
    proxy.set(Traffic::Flows);
    keys(&cluster, "/a", 1);
}

#[test]
fn leaders_may_be_killed_and_stopped() {
    let Some(mut cluster) = Cluster::start(3) else {
        return;
    };
    // An election may take longer than requests usually may.
    let patient = Settings {
        request_timeout: STUCK,
        ..settings(10)
    };
    let remote = || Etcd::new(&cluster.url(""), &patient).expect("the URL is valid");
    let (one, two) = (remote(), remote());
    let mut seats = [seat(&one, "a"), seat(&two, "a")];
    let mut last = hold(&seats[0], EXCLUSIVE);
    for round in 0..4 {
        let waiter = Waiter::forever(Arc::clone(&seats[1]), EXCLUSIVE);
        keys(&cluster, "/a", 2);
        let mut leader = None;
        eventually("there is a leader", || {
            leader = cluster.leader();
            leader.is_some()
        });
        let leader = leader.expect("there is one");
        match round % 2 {
            0 => cluster.kill(leader),
            _ => cluster.pause(leader),
        }
        seats[0].unlock().expect("the others answer");
        let next = token(&waiter.granted());
        assert!(next > last, "{next} after {last}");
        last = next;
        match round % 2 {
            0 => cluster.begin(leader),
            _ => cluster.proceed(leader),
        }
        cluster.wait_until_it_serves();
        seats.reverse();
    }
    drop((seats, one, two));
    nothing_is_left(&cluster);
}

#[test]
fn a_copy_of_a_request_that_arrives_late_is_swept_away() {
    let Some(cluster) = Cluster::start(1) else {
        return;
    };
    let direct = &cluster.addresses()[0];
    let proxy = Proxy::new(direct);
    let remote = remote(&format!("etcd://{},{direct}/", proxy.address()), 3);
    let (one, two) = (seat(&remote, "a"), seat(&remote, "b"));
    hold(&two, EXCLUSIVE);
    proxy.set(Traffic::Stalls);
    // By the other way, once this one is silent.
    hold(&one, EXCLUSIVE);
    one.unlock().expect("it is given back");
    keys(&cluster, "/a", 0);
    // A server may carry a request out that its client has given up, or may not. This one does.
    let lease = cluster.keys("/b/")[0].clone();
    let lease = lease.trim_start_matches("/b/").split('.').next();
    let lease = lease.expect("a key begins with its lease");
    let late = format!("/a/{lease}.1");
    cluster.lines(&["put", &format!("--lease={lease}"), &late, ""]);
    proxy.set(Traffic::Flows);
    keys(&cluster, "/a", 0);
    keys(&cluster, "/b", 1);
    assert!(is_held(&two));
}

#[test]
fn a_thousand_waiters_ask_nothing_while_they_wait() {
    let Some(cluster) = Cluster::start(1) else {
        return;
    };
    let (one, two) = (remote(&cluster.url(""), 30), remote(&cluster.url(""), 30));
    let held = seat(&one, "a");
    hold(&held, EXCLUSIVE);
    let mut waiters = Vec::new();
    for hundred in 1..=10 {
        let more = (0..100).map(|_| Waiter::forever(seat(&two, "a"), EXCLUSIVE));
        waiters.extend(more);
        keys(&cluster, "/a", hundred * 100 + 1);
    }
    let core = two.shared.core().expect("it is not forked");
    let mut rate = 0;
    eventually("they are at rest", || {
        let before = core.cluster.answered();
        thread::sleep(Duration::from_secs(1));
        rate = core.cluster.answered() - before;
        rate < 100
    });
    let before = core.cluster.answered();
    held.unlock().expect("it is given back");
    eventually("one has it", || {
        waiters.iter().any(|waiter| is_held(&waiter.seat))
    });
    let woken = core.cluster.answered() - before;
    eprintln!("1,000 waiters: {rate} requests a second at rest, {woken} for a release");
    assert!(
        woken < 300,
        "a release has woken more than the next one: {woken} requests"
    );
    waiters.iter().for_each(|waiter| waiter.stop.stop());
    let ends = waiters.iter().map(Waiter::result);
    assert_eq!(ends.filter(Result::is_ok).count(), 1);
    keys(&cluster, "/a", 1);
}
