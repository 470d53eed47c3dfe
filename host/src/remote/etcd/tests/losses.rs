//! Locks that are lost, and when their holders know.

use std::io::{BufRead as _, Write as _};
use std::process::{Command, Stdio};

use locket_test_support::process::Process;
use locket_test_support::servers::proxy::{Proxy, Traffic};
use rustix::process::{Pid, Signal, kill_process};

use super::*;
use crate::error::lost_reason;
use crate::remote::Moment;
use crate::types::LostReason;

const EXCLUSIVE: Mode = Mode::Exclusive;
const HELPER: &str = "remote::etcd::tests::losses::a_process_that_holds_a_lock";
const URL: &str = "LOCKET_TEST_URL";

/// Another process, which holds the lock `a` by a lease of two seconds.
fn holder(cluster: &Cluster) -> Process {
    let mut command = Command::new(std::env::current_exe().expect("this test has a path"));
    command
        .args(["--exact", HELPER, "--ignored", "--nocapture", "--quiet"])
        .env(URL, cluster.url(""))
        .stderr(Stdio::null());
    let mut process = Process::spawn(&mut command);
    while process.answer() != "held" {}
    process
}

#[test]
#[ignore = "other tests start it"]
fn a_process_that_holds_a_lock() {
    let url = std::env::var(URL).expect("a test has started this");
    let remote = remote(&url, 2);
    let held = seat(&remote, "a");
    hold(&held, EXCLUSIVE);
    let mut output = std::io::stdout();
    writeln!(output, "\nheld").expect("the test reads");
    for line in std::io::stdin().lock().lines() {
        let line = line.expect("the test writes");
        match &line[..] {
            "standing" => writeln!(output, "{:?}", held.standing()),
            "unlock" => writeln!(output, "{:?}", held.unlock()),
            _ => unreachable!("{line}"),
        }
        .expect("the test reads");
    }
}

#[test]
fn the_lock_of_a_process_that_is_killed_is_free_when_its_lease_ends() {
    let Some(cluster) = Cluster::start(1) else {
        return;
    };
    let remote = remote(&cluster.url(""), 5);
    let mut process = holder(&cluster);
    let waiter = Waiter::forever(seat(&remote, "a"), EXCLUSIVE);
    keys(&cluster, "/a", 2);
    process.kill();
    waiter.granted();
    keys(&cluster, "/a", 0);
    eventually("its lease ends", || cluster.leases().len() == 1);
}

#[test]
fn a_holder_that_was_stopped_past_its_lease_knows_its_loss_first() {
    let Some(cluster) = Cluster::start(1) else {
        return;
    };
    let remote = remote(&cluster.url(""), 5);
    let mut process = holder(&cluster);
    let pid = Pid::from_raw(process.id().cast_signed()).expect("a process has a number");
    let waiter = Waiter::forever(seat(&remote, "a"), EXCLUSIVE);
    keys(&cluster, "/a", 2);
    kill_process(pid, Signal::STOP).expect("it can be stopped");
    let next = waiter.granted();
    kill_process(pid, Signal::CONT).expect("it can be continued");
    assert_eq!(process.ask("standing"), "Lost(Expired)");
    assert!(is_held(&next));
    assert_eq!(process.ask("unlock"), "Ok(())", "it is no error");
    assert!(is_held(&next), "and no harm");
    next.renew().expect("it is still held");
    assert!(process.finish());
}

#[test]
fn a_holder_without_a_server_is_uncertain_then_lost_and_begins_anew() {
    let Some(cluster) = Cluster::start(1) else {
        return;
    };
    let ttl = Duration::from_secs(10);
    let remote = remote(&cluster.url(""), ttl.as_secs());
    let (changed, told) = listener();
    let held = remote.seat("a", &changed);
    let first = hold(&held, EXCLUSIVE);
    cluster.pause(0);
    // No renewal arrives that is sent later.
    let start = Moment::now();
    let mut standings = vec![];
    loop {
        let now = Moment::now();
        let standing = held.standing();
        if let Standing::Uncertain(left) = standing {
            let lost = now.after(left);
            assert!(lost <= start.after(ttl), "the server's time is over before");
        }
        if standings.last().map(std::mem::discriminant) != Some(std::mem::discriminant(&standing)) {
            standings.push(standing);
        }
        if let Standing::Lost(_) = standing {
            break;
        }
        told.recv_timeout(STUCK).expect("each change is told");
    }
    assert!(
        matches!(
            standings[..],
            [
                Standing::Held(_),
                Standing::Uncertain(_),
                Standing::Lost(LostReason::Disconnected)
            ]
        ),
        "{standings:?}"
    );
    cluster.proceed(0);
    held.unlock().expect("a loss is no error");
    eventually("the lock is free again", || {
        held.try_lock(EXCLUSIVE).unwrap_or(false)
    });
    assert!(token(&held) > first);
    eventually("one lease", || cluster.leases().len() == 1);
}

/// The server counts from when it grants, which is before its answer arrives.
#[test]
fn a_lease_counts_from_the_request_for_it() {
    let Some(cluster) = Cluster::start(1) else {
        return;
    };
    let proxy = Proxy::new(&cluster.addresses()[0]);
    let patient = Settings {
        request_timeout: STUCK,
        ..settings(60)
    };
    let (ttl, travels) = (patient.ttl, Duration::from_millis(500));
    loop {
        let url = format!("etcd://{}/", proxy.address());
        let remote = Etcd::new(&url, &patient).expect("the URL is valid");
        let before = cluster.leases().len();
        remote.holder("a").expect("there is a connection");
        proxy.set(Traffic::KeepsAnswers);
        let held = seat(&remote, "a");
        let asked = thread::scope(|scope| {
            let tried = scope.spawn(|| held.try_lock(EXCLUSIVE));
            eventually("the server has the request", || {
                cluster.leases().len() > before
            });
            let asked = Moment::now();
            thread::sleep(travels);
            proxy.set(Traffic::Flows);
            assert!(tried.join().expect("it works").expect("it is answered"));
            asked
        });
        let now = Moment::now();
        let Standing::Held(Grant { valid_for, .. }) = held.standing() else {
            panic!("it is not held: {held:?}");
        };
        let end = now.after(valid_for.expect("a lease ends"));
        // A busy machine is late, and the request is repeated.
        if cluster.leases().len() > before + 1 {
            continue;
        }
        // Nine tenths of the time are for the holder.
        assert!(end <= asked.after(ttl - ttl / 10), "it counts from later");
        return;
    }
}

#[test]
fn a_holder_that_is_cut_off_knows_its_loss_before_the_next_one_has_the_lock() {
    let Some(cluster) = Cluster::start(1) else {
        return;
    };
    let proxy = Proxy::new(&cluster.addresses()[0]);
    let far = remote(&format!("etcd://{}/", proxy.address()), 2);
    let near = remote(&cluster.url(""), 20);
    let (changed, told) = listener();
    let held = far.seat("a", &changed);
    let first = hold(&held, EXCLUSIVE);
    let waiter = Waiter::forever(seat(&near, "a"), EXCLUSIVE);
    keys(&cluster, "/a", 2);
    proxy.set(Traffic::Stalls);
    let next = waiter.granted();
    let lost = Standing::Lost(LostReason::Disconnected);
    assert_eq!(held.standing(), lost);
    told.recv_timeout(STUCK).expect("it is told");
    // Answers that come now prolong nothing.
    proxy.set(Traffic::Flows);
    keys(&cluster, "/a", 1);
    assert_eq!(held.standing(), lost);
    assert!(token(&next) > first);
    held.unlock().expect("the loss is known");
    assert!(!held.try_lock(EXCLUSIVE).expect("there is a new lease"));
}

#[test]
fn a_lock_that_is_broken_is_lost_and_the_next_one_has_it() {
    let Some(cluster) = Cluster::start(1) else {
        return;
    };
    let (one, two) = (remote(&cluster.url(""), 5), remote(&cluster.url(""), 5));
    let (changed, told) = listener();
    let held = one.seat("a", &changed);
    hold(&held, EXCLUSIVE);
    let waiter = Waiter::forever(seat(&two, "a"), EXCLUSIVE);
    keys(&cluster, "/a", 2);
    assert!(two.break_lock("a").expect("the server answers"));
    let next = waiter.granted();
    while is_held(&held) {
        told.recv_timeout(STUCK).expect("the loss is told");
    }
    assert_eq!(held.standing(), Standing::Lost(LostReason::Broken));
    assert!(held.renew().is_err(), "it is lost");
    held.unlock().expect("a loss is no error");
    assert!(is_held(&next));
    assert!(two.break_lock("a").expect("the server answers"));
    eventually("the loss is known", || !is_held(&next));
    assert!(
        !two.break_lock("a").expect("the server answers"),
        "it is free"
    );
}

#[test]
fn a_loss_is_told_by_the_release_or_before() {
    let Some(cluster) = Cluster::start(1) else {
        return;
    };
    let remote = remote(&cluster.url(""), 5);
    for _ in 0..10 {
        let (changed, told) = listener();
        let held = remote.seat("a", &changed);
        hold(&held, EXCLUSIVE);
        assert!(remote.break_lock("a").expect("the server answers"));
        let release = held.unlock().err();
        match release.as_ref().and_then(lost_reason) {
            Some(reason) => assert_eq!(reason, LostReason::Broken),
            None => assert!(told.try_recv().is_ok(), "{release:?}"),
        }
        assert_eq!(held.standing(), Standing::Free);
        held.unlock().expect("nothing is held");
    }
}

#[test]
fn all_who_share_a_lock_lose_it_and_a_waiter_keeps_its_place() {
    let Some(cluster) = Cluster::start(1) else {
        return;
    };
    let remotes = [(); 3].map(|()| remote(&cluster.url(""), 5));
    let [one, two, three] = remotes.each_ref().map(|remote| seat(remote, "a"));
    hold(&one, Mode::Shared);
    hold(&two, Mode::Shared);
    let waiter = Waiter::forever(three, EXCLUSIVE);
    keys(&cluster, "/a", 3);
    assert!(remotes[0].break_lock("a").expect("the server answers"));
    waiter.granted();
    for seat in [&one, &two] {
        let lost = Standing::Lost(LostReason::Broken);
        eventually("the loss is known", || seat.standing() == lost);
    }
}

#[test]
fn a_waiter_whose_key_is_deleted_begins_anew_and_does_not_take_the_lock_for_its_own() {
    let Some(cluster) = Cluster::start(1) else {
        return;
    };
    let (one, two) = (remote(&cluster.url(""), 20), remote(&cluster.url(""), 20));
    for mode in [EXCLUSIVE, Mode::Shared] {
        let held = seat(&one, "a");
        hold(&held, EXCLUSIVE);
        let waiter = Waiter::forever(seat(&two, "a"), mode);
        keys(&cluster, "/a", 2);
        let first = cluster.keys("/a/")[1].clone();
        cluster.lines(&["del", &first]);
        eventually("it is in the queue again", || {
            let keys = cluster.keys("/a/");
            keys.len() == 2 && keys[1] != first
        });
        waiter.waits();
        held.unlock().expect("it is given back");
        let held = waiter.granted();
        keys(&cluster, "/a", 1);
        held.unlock().expect("it is given back");
    }
}

#[test]
fn a_lease_that_is_revoked_costs_its_holder_the_lock_and_its_waiters_their_place() {
    let Some(cluster) = Cluster::start(1) else {
        return;
    };
    let (one, two) = (remote(&cluster.url(""), 5), remote(&cluster.url(""), 60));
    let (held, waiting) = (seat(&one, "a"), seat(&two, "a"));
    hold(&held, EXCLUSIVE);
    let other = seat(&two, "b");
    hold(&other, EXCLUSIVE);
    let waiter = Waiter::forever(waiting, EXCLUSIVE);
    keys(&cluster, "/a", 2);
    let lease = cluster.keys("/b/")[0].trim_start_matches("/b/").to_owned();
    let lease = lease
        .split('.')
        .next()
        .expect("the key names it")
        .to_owned();
    cluster.lines(&["lease", "revoke", &lease]);
    eventually("the loss is known", || {
        matches!(other.standing(), Standing::Lost(_))
    });
    // The waiter has begun anew, with another lease.
    eventually("it is in the queue again", || {
        let keys = cluster.keys("/a/");
        keys.len() == 2 && !keys[1].contains(&lease)
    });
    waiter.waits();
    held.unlock().expect("it is given back");
    waiter.granted();
}
