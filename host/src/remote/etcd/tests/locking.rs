//! Who gets a lock, and in which order.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::*;
use crate::remote::etcd::FAREWELL;
use crate::remote::etcd::error::Failure;

const EXCLUSIVE: Mode = Mode::Exclusive;
const SHARED: Mode = Mode::Shared;

#[test]
fn a_lock_excludes_etcdctl_and_is_excluded_by_it() {
    let Some(cluster) = Cluster::start(1) else {
        return;
    };
    let remote = remote(&cluster.url("locks"), 5);
    let ours = seat(&remote, "jobs/a");
    let first = hold(&ours, EXCLUSIVE);
    let mut theirs = cluster.lock("/locks/jobs/a", 5);
    keys(&cluster, "/locks/jobs/a", 2);
    assert!(theirs.waits(QUIESCENT));
    // In the queue before the grant whose token its own has to exceed.
    let waiter = Waiter::forever(seat(&remote, "jobs/a"), EXCLUSIVE);
    keys(&cluster, "/locks/jobs/a", 3);
    ours.unlock().expect("it is given back");
    assert_eq!(ours.standing(), Standing::Free);
    let second = theirs.held();
    assert!(!ours.try_lock(EXCLUSIVE).expect("the server answers"));
    assert!(!ours.try_lock(SHARED).expect("the server answers"));
    let holder = remote
        .holder("jobs/a")
        .expect("the server answers")
        .expect("there is one");
    assert_eq!(
        (holder.mode, holder.label),
        (EXCLUSIVE, None),
        "etcdctl says nothing"
    );
    waiter.waits();
    theirs.release();
    let held = waiter.granted();
    let third = token(&held);
    assert!(
        first < second && second < third,
        "tokens grow: {first}, {second}, {third}"
    );
    held.unlock().expect("it is given back");
    keys(&cluster, "/locks/jobs/a", 0);
}

#[test]
fn a_try_finds_each_of_the_six_cases() {
    let Some(cluster) = Cluster::start(1) else {
        return;
    };
    let (one, two) = (remote(&cluster.url(""), 5), remote(&cluster.url(""), 5));
    let tried = |seat: &Arc<dyn Seat>, mode| seat.try_lock(mode).expect("the server answers");
    for (number, (holder, request)) in [
        (None, EXCLUSIVE),
        (None, SHARED),
        (Some(EXCLUSIVE), EXCLUSIVE),
        (Some(EXCLUSIVE), SHARED),
        (Some(SHARED), EXCLUSIVE),
        (Some(SHARED), SHARED),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("try{number}");
        let (held, trying) = (seat(&one, &name), seat(&two, &name));
        let free = match holder {
            None => true,
            Some(mode) => {
                hold(&held, mode);
                (mode, request) == (SHARED, SHARED)
            }
        };
        assert_eq!(tried(&trying, request), free, "{holder:?}, {request:?}");
        let count = usize::from(holder.is_some()) + usize::from(free);
        assert_eq!(
            cluster.keys(&format!("/{name}/")).len(),
            count,
            "a try leaves no key"
        );
        assert_eq!(is_held(&trying), free);
    }
}

#[test]
fn readers_share_and_do_not_overtake_a_writer() {
    let Some(cluster) = Cluster::start(1) else {
        return;
    };
    let remotes = [(); 4].map(|()| remote(&cluster.url(""), 5));
    let [one, two, three, four] = remotes.each_ref().map(|remote| seat(remote, "a"));
    hold(&one, SHARED);
    hold(&two, SHARED);
    let mut writer = cluster.lock("/a", 5);
    keys(&cluster, "/a", 3);
    assert!(
        !three.try_lock(SHARED).expect("the server answers"),
        "a writer waits"
    );
    let reader = Waiter::forever(three, SHARED);
    keys(&cluster, "/a", 4);
    let last = Waiter::forever(four, EXCLUSIVE);
    keys(&cluster, "/a", 5);
    one.unlock().expect("it is given back");
    assert!(writer.waits(QUIESCENT), "one reader is left");
    two.unlock().expect("it is given back");
    writer.held();
    reader.waits();
    writer.release();
    let reader = reader.granted();
    last.waits();
    reader.unlock().expect("it is given back");
    last.granted();
}

#[test]
fn ten_waiters_are_served_in_the_order_of_their_arrival() {
    let Some(cluster) = Cluster::start(1) else {
        return;
    };
    let holder = remote(&cluster.url(""), 5);
    let held = seat(&holder, "a");
    hold(&held, EXCLUSIVE);
    let order = Arc::new(AtomicU32::new(0));
    let remotes: Vec<_> = (0..10).map(|_| remote(&cluster.url(""), 5)).collect();
    let wait = |(number, remote): (usize, &Etcd)| {
        let (waiting, order) = (seat(remote, "a"), Arc::clone(&order));
        let waiter = thread::spawn(move || {
            let result = waiting.wait(EXCLUSIVE, Deadline::Never, &Stop::default());
            result.expect("it is granted");
            let served = order.fetch_add(1, Ordering::SeqCst);
            let token = token(&waiting);
            waiting.unlock().expect("it is given back");
            (served, token)
        });
        keys(&cluster, "/a", number + 2);
        waiter
    };
    let waiters: Vec<_> = remotes.iter().enumerate().map(wait).collect();
    held.unlock().expect("it is given back");
    let served = waiters
        .into_iter()
        .map(|waiter| waiter.join().expect("it works"));
    let served: Vec<_> = served.collect();
    assert!(served.iter().map(|(at, _)| *at).eq(0..10), "{served:?}");
    assert!(served.is_sorted_by(|one, two| one.1 < two.1), "{served:?}");
}

#[test]
fn a_wait_that_ends_leaves_no_key() {
    let Some(cluster) = Cluster::start(1) else {
        return;
    };
    let (one, two) = (remote(&cluster.url(""), 5), remote(&cluster.url(""), 5));
    let held = seat(&one, "a");
    hold(&held, EXCLUSIVE);
    let waiter = Waiter::forever(seat(&two, "a"), EXCLUSIVE);
    keys(&cluster, "/a", 2);
    waiter.stop.stop();
    let stopped = waiter.result().expect_err("it was stopped");
    assert_eq!(stopped.kind(), ErrorKind::Interrupted);
    keys(&cluster, "/a", 1);
    let late = Waiter::start(seat(&two, "a"), SHARED, soon(Duration::from_millis(100)));
    let late = late.result().expect_err("it is held");
    assert_eq!(late.kind(), ErrorKind::TimedOut);
    keys(&cluster, "/a", 1);
    let waiter = seat(&two, "a");
    let stop = Stop::default();
    stop.stop();
    let stopped = waiter.wait(EXCLUSIVE, Deadline::Never, &stop);
    assert_eq!(
        stopped.expect_err("it was stopped").kind(),
        ErrorKind::Interrupted
    );
    assert_eq!(waiter.standing(), Standing::Free);
    held.unlock().expect("it is given back");
    keys(&cluster, "/a", 0);
    assert!(
        waiter.try_lock(EXCLUSIVE).expect("the server answers"),
        "nothing is in the way"
    );
}

#[test]
fn what_is_dropped_is_given_back_and_the_last_one_takes_the_lease_along() {
    let Some(cluster) = Cluster::start(1) else {
        return;
    };
    let remote = remote(&cluster.url(""), 60);
    let (one, two) = (seat(&remote, "a"), seat(&remote, "b"));
    hold(&one, EXCLUSIVE);
    hold(&two, EXCLUSIVE);
    assert_eq!(cluster.leases().len(), 1, "a process has one lease");
    drop(one);
    keys(&cluster, "/a", 0);
    drop(remote);
    assert_eq!(cluster.keys("/b/").len(), 1, "a seat lives on");
    let start = Instant::now();
    drop(two);
    if start.elapsed() >= FAREWELL {
        // It has waited for a slow server for as long as it does, and goes on in the background.
        return nothing_is_left(&cluster);
    }
    // Not eventually: what a process leaves when it exits after that stays for a minute.
    assert_eq!(cluster.keys("/").len(), 0);
    assert_eq!(cluster.leases().len(), 0);
}

#[test]
fn a_lock_that_is_handed_on_gets_a_new_token() {
    let Some(cluster) = Cluster::start(1) else {
        return;
    };
    let remote = remote(&cluster.url(""), 5);
    let (one, two) = (seat(&remote, "a"), seat(&remote, "b"));
    let mut tokens = vec![hold(&one, EXCLUSIVE)];
    for _ in 0..20 {
        one.renew().expect("it is held");
        tokens.push(token(&one));
    }
    assert!(tokens.is_sorted_by(|one, two| one < two), "{tokens:?}");
    assert!(two.renew().is_err(), "it is not held");
    keys(&cluster, "/a", 1);
    one.unlock().expect("it is given back");
    keys(&cluster, "/a", 0);
}

#[test]
fn the_holder_is_known_by_its_label() {
    let Some(cluster) = Cluster::start(1) else {
        return;
    };
    let labeled = Settings {
        label: Some("nightly".into()),
        ..settings(5)
    };
    let one = Etcd::new(&cluster.url(""), &labeled).expect("the URL is valid");
    let two = remote(&cluster.url(""), 5);
    let look = || two.holder("a").expect("the server answers");
    assert_eq!(look(), None);
    let (held, waiting) = (seat(&one, "a"), seat(&one, "a"));
    hold(&held, SHARED);
    let holder = look().expect("it is held");
    assert_eq!(
        (holder.mode, holder.label.as_deref()),
        (SHARED, Some("nightly"))
    );
    assert!(holder.since.is_some() && holder.elsewhere && holder.pid.is_none());
    let waiter = Waiter::forever(waiting, EXCLUSIVE);
    keys(&cluster, "/a", 2);
    assert_eq!(
        look().expect("it is held").mode,
        SHARED,
        "not the one that waits"
    );
    held.unlock().expect("it is given back");
    let held = waiter.granted();
    assert_eq!(look().expect("it is held").mode, EXCLUSIVE);
    // A holder that has waited says since when only if it holds the lock for long.
    eventually("it says since when", || {
        look().is_some_and(|h| h.since.is_some())
    });
    assert!(is_held(&held), "that is no loss");
    held.unlock().expect("it is given back");
    assert_eq!(look(), None);
}

#[test]
fn a_lock_above_locks_is_refused() {
    let Some(cluster) = Cluster::start(1) else {
        return;
    };
    let (one, two) = (remote(&cluster.url("x"), 5), remote(&cluster.url("x"), 5));
    let (deep, above) = (seat(&one, "a/b"), seat(&two, "a"));
    hold(&deep, EXCLUSIVE);
    let refused = above.try_lock(EXCLUSIVE).expect_err("the names are nested");
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    let waiter = Waiter::forever(Arc::clone(&above), EXCLUSIVE);
    let refused = waiter.result().expect_err("the names are nested");
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    keys(&cluster, "/x/a", 1);
    assert_eq!(two.holder("a").expect("the server answers"), None);
    assert!(!two.break_lock("a").expect("the server answers"));
    deep.unlock().expect("it is given back");
    hold(&above, EXCLUSIVE);
    hold(&deep, EXCLUSIVE);
}

/// Deeper names can be older than a holder, in any number, and any number can share a lock.
#[test]
fn holders_are_found_behind_many_keys() {
    const MANY: usize = 300;
    let Some(cluster) = Cluster::start(1) else {
        return;
    };
    let one = remote(&cluster.url("x"), 5);
    let put = |name: &str| {
        let core = Arc::clone(one.shared.core().expect("it is not forked"));
        let (runtime, name) = (core.runtime.clone(), name.to_owned());
        let put = runtime.run(async move {
            for number in 0..MANY {
                let put = |mut client: etcd_client::Client| {
                    let key = format!("/x/{name}{number:x}");
                    async move { client.put(key, "", None).await }
                };
                let until = core.cluster.request_deadline();
                let put = core.cluster.ask(until, put).await;
                put.map_err(Failure::into_error)?;
            }
            Ok(())
        });
        put.expect("the server answers");
    };
    // Not in the way of those that share the lock above.
    put("a/nightly/");
    let sharer = seat(&one, "a");
    hold(&sharer, SHARED);
    let holder = one.holder("a").expect("the server answers");
    assert_eq!(holder.expect("it is held").mode, SHARED);
    put("a/r");
    assert!(one.break_lock("a").expect("the server answers"));
    keys(&cluster, "/x/a/r", 0);
    assert_eq!(one.holder("a").expect("the server answers"), None);
}
