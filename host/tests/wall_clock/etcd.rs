//! Locks of etcd while the clocks of their holder are set and stopped.

use locket::{Engine, LockFile, LostReason, Remote};
use locket_test_support::servers::etcd::Etcd;
use locket_test_support::servers::proxy::{Proxy, Traffic};

use super::*;

/// The lock `a`, through a connection that can stall.
fn lock(proxy: &Proxy) -> LockFile {
    let remote = Remote::builder(&format!("etcd://{}/locks", proxy.address()));
    let remote = remote.ttl(TTL).build();
    let remote = remote.expect("the URL is valid");
    let lock = Engine::new().open_remote(&remote, "a");
    lock.expect("the name is valid")
}

#[track_caller]
fn two_keys(cluster: &Etcd) {
    eventually("etcdctl waits", || cluster.keys("/locks/a/").len() == 2);
}

#[test]
fn a_lock_of_etcd_is_not_lost_when_the_clock_is_set() {
    let Some(cluster) = Etcd::start(1) else {
        return;
    };
    let clocks = Clocks::take();
    let proxy = Proxy::new(&cluster.addresses()[0]);
    let lock = lock(&proxy);
    let guard = lock.acquire(EX, STUCK).unwrap();
    let mut next = cluster.lock("/locks/a", 60);
    two_keys(&cluster);
    outlives_each_set(&clocks, &lock, &guard);
    assert!(next.waits(QUIESCENT));
    // And the loss is known in time, although the clock went back.
    proxy.set(Traffic::Stalls);
    let token = next.held();
    assert!(!guard.is_held());
    assert_eq!(block_on(guard.lost()), LostReason::Disconnected);
    assert!(guard.token().is_none_or(|ours| ours < token));
}

#[test]
fn a_holder_knows_its_loss_although_its_clock_stands_still() {
    let Some(cluster) = Etcd::start(1) else {
        return;
    };
    let clocks = Clocks::take();
    let proxy = Proxy::new(&cluster.addresses()[0]);
    let lock = lock(&proxy);
    let guard = lock.acquire(EX, STUCK).unwrap();
    let mut next = cluster.lock("/locks/a", 60);
    two_keys(&cluster);
    let _still = clocks.stop();
    let before = Instant::now();
    proxy.set(Traffic::Stalls);
    next.held();
    assert!(!guard.is_held());
    // As if this process had not run meanwhile: no renewal has failed by its clock.
    assert_eq!(block_on(guard.lost()), LostReason::Expired);
    assert_eq!(before, Instant::now(), "the clock did not stand still");
}
