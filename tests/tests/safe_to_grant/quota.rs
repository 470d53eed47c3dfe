//! The limits of a guest bound whatever it keeps open, and whatever it creates.

use locket_tests::harness::descriptors;

use super::*;

/// A guest that polls.
async fn poller(host: &Host, limits: Limits) -> Guest {
    host.guest("poll", host.ctx().limits(limits).build()).await
}

/// Begins to acquire a free lock under a name, and has it.
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
    // Nothing is left of them that could be lost.
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
    // What is given back can be had again, any number of times.
    for _ in 0..100 {
        guest.ok("drop l0").await;
        guest.ok("lost l0 f").await;
    }
    // They count as much as locks do.
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
    // Three of them are left; the lock would be the fourth handle, and its acquire the fifth.
    assert_eq!(
        guest.err("start g /locks/g exclusive 0").await,
        "limit-exceeded"
    );
    guest.ok("drop f0").await;
    hold(&mut guest, "g", "g").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_files_that_a_guest_creates_are_limited() {
    let host = Host::new();
    let limits = Limits::new().created(3);
    let mut guest = limited(&host, &host.locks, Rights::READ_WRITE, limits).await;
    for name in ["a", "b", "c"] {
        guest.ok(&format!("open {name} /locks/{name} remove")).await;
        guest.ok(&format!("drop {name}")).await;
    }
    for protocol in ["native", "flock", "fcntl"] {
        let open = format!("open d /locks/d keep {protocol}");
        assert_eq!(guest.err(&open).await, "limit-exceeded", "{protocol}");
    }
    assert!(!host.path("d").exists());
    // Those that there are can be had, whoever created them.
    fs::write(host.path("d"), "").unwrap();
    for name in ["a", "b", "c", "d"] {
        guest.ok(&format!("open {name} /locks/{name}")).await;
        guest.ok(&format!("acquire {name} exclusive 0")).await;
        guest.ok(&format!("drop {name}")).await;
    }
    // Freed by a removal, be it another's or the guest's own.
    fs::remove_file(host.path("a")).unwrap();
    guest.ok("open e /locks/e").await;
    assert_eq!(guest.err("open a /locks/a").await, "limit-exceeded");
    guest.ok("open b /locks/b remove").await;
    guest.ok("acquire b exclusive 0").await;
    guest.ok("release b").await;
    assert!(!host.path("b").exists());
    guest.ok("open a /locks/a").await;
    // A lock that is open creates its file anew, within the limit.
    assert_eq!(guest.err("acquire b exclusive 0").await, "limit-exceeded");
    fs::remove_file(host.path("a")).unwrap();
    guest.ok("acquire b exclusive 0").await;
    assert_eq!(names(&host), ["b", "c", "d", "e"]);
    // What could not be created was not.
    fs::remove_file(host.path("c")).unwrap();
    for _ in 0..5 {
        assert_eq!(guest.err("open x /locks/none/x").await, "no-entry");
    }
    guest.ok("open c /locks/c").await;
    // Another guest has its own.
    let limits = Limits::new().created(1);
    let mut other = limited(&host, &host.locks, Rights::LOCKS, limits).await;
    other.ok("open f /locks/f").await;
    assert_eq!(other.err("open g /locks/g").await, "limit-exceeded");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_opens_create_no_more_than_the_default() {
    let host = Host::new();
    let mut guest = guest(&host, &host.locks, Rights::LOCKS).await;
    for i in 0..1024 {
        guest.ok(&format!("open a /locks/{i}")).await;
    }
    for i in 1024..1034 {
        let open = format!("open a /locks/{i}");
        assert_eq!(guest.err(&open).await, "limit-exceeded");
    }
    assert_eq!(names(&host).len(), 1024);
}
