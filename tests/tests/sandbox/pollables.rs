//! The limit on handles bounds everything that a guest keeps open.

use locket_tests::harness::descriptors;

use super::*;

/// The guest that polls.
async fn poller(host: &Host, limits: Limits) -> Guest {
    host.guest("poll", host.ctx().limits(limits).build()).await
}

/// Acquires a free lock under a name.
async fn hold(guest: &mut Guest, name: &str, path: &str) {
    guest
        .ok(&format!("start {name} /locks/{path} exclusive none"))
        .await;
    assert!(
        guest
            .ok(&format!("finish {name}"))
            .await
            .starts_with("token")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pollable_for_a_loss_keeps_no_file_open() {
    let host = Host::new();
    let mut guest = poller(&host, Limits::new()).await;
    for i in 0..60 {
        hold(&mut guest, "f", &format!("f{i}")).await;
        guest.ok(&format!("lost l{i} f")).await;
        guest.ok("drop f").await;
    }
    assert_eq!(descriptors(host.dir.path()), 0);
    // The locks are closed, so none of their holds can be lost.
    assert_eq!(guest.ok("wait 20").await, "timer");
    guest.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pollables_for_losses_are_limited() {
    let host = Host::new();
    let mut guest = poller(&host, Limits::new().handles(8)).await;
    // A lock, a pending acquire and a guard.
    hold(&mut guest, "f", "f").await;
    for i in 0..13 {
        guest.ok(&format!("lost l{i} f")).await;
    }
    // A pollable that is dropped does not count any more.
    for _ in 0..100 {
        guest.ok("drop l0").await;
        guest.ok("lost l0 f").await;
    }
    // All of them count as handles.
    assert_eq!(
        guest.err("start g /locks/g exclusive 0").await,
        "limit-exceeded"
    );
    guest.tell("lost more f").await;
    let mut end = guest.end().await;
    let trap = format!("{:?}", end.result.as_ref().unwrap_err());
    assert!(trap.contains("twice as many handles"), "{trap}");
    assert!(end.resources() < 64, "{}", end.resources());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pollables_for_answers_are_limited() {
    let host = Host::new();
    let _held = host
        .lock("f")
        .acquire(locket::Mode::Exclusive, None)
        .unwrap();
    let mut guest = poller(&host, Limits::new().handles(8)).await;
    // A pollable outlives its pending acquire and its lock.
    for i in 0..7 {
        guest
            .ok(&format!("start f{i} /locks/f exclusive none"))
            .await;
        guest.ok(&format!("abandon f{i}")).await;
        guest.ok(&format!("close f{i}")).await;
    }
    // The lock is the eighth handle, and its acquire would be the ninth.
    let start = "start g /locks/f exclusive none";
    assert_eq!(guest.err(start).await, "limit-exceeded");
    guest.ok("drop f0").await;
    guest.ok(start).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_finished_acquire_counts_until_it_is_dropped() {
    let host = Host::new();
    let mut guest = poller(&host, Limits::new().handles(4)).await;
    for i in 0..3 {
        let name = format!("f{i}");
        hold(&mut guest, &name, &name).await;
        guest.ok(&format!("release {name}")).await;
        guest.ok(&format!("close {name}")).await;
    }
    // Three acquires are left. The lock is the fourth handle, and its acquire would be the fifth.
    assert_eq!(
        guest.err("start g /locks/g exclusive 0").await,
        "limit-exceeded"
    );
    guest.ok("drop f0").await;
    hold(&mut guest, "g", "g").await;
}
