//! Handles, holds, waiters and created files of a guest are limited, and count until they are given back.

use locket_tests::harness::descriptors;

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_quota_of_handles_is_kept_and_given_back() {
    let host = Host::new();
    let mut guest = host
        .guest("remote", ctx_with(&host, Limits::new().handles(3)))
        .await;
    for name in 0..3 {
        guest.ok(&format!("open {name} /locks/a")).await;
    }
    assert_eq!(
        refused(&mut guest, &host, "open x /locks/new").await,
        "limit-exceeded"
    );
    assert!(!host.path("new").exists());
    // A file that could not be opened does not count.
    assert_eq!(
        refused(&mut guest, &host, "open x /locks/none/a").await,
        "limit-exceeded"
    );
    guest.ok("drop 0").await;
    for _ in 0..3 {
        assert_eq!(
            refused(&mut guest, &host, "open x /locks/none/a").await,
            "no-entry"
        );
    }
    guest.ok("open x /locks/new").await;
    assert_eq!(
        refused(&mut guest, &host, "open y /locks/a").await,
        "limit-exceeded"
    );
    // The quota of one guest is not that of another.
    host.remote().await.ok("open a /locks/a").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_million_handles_are_64() {
    let host = Host::new();
    let mut guest = host.remote().await;
    for name in 0..64 {
        guest.ok(&format!("open {name} /locks/{name}")).await;
        guest.ok(&format!("leak {name}")).await;
    }
    let open = descriptors(host.dir.path());
    assert_eq!(open, 64);
    for _ in 0..100 {
        assert_eq!(guest.err("open x /locks/x").await, "limit-exceeded");
    }
    assert_eq!(descriptors(host.dir.path()), open);
    guest.kill().await;
    assert_eq!(descriptors(host.dir.path()), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_quota_of_holds_is_kept_and_given_back() {
    let host = Host::new();
    let limits = Limits::new()
        .held(2)
        .longest_hold(Some(Duration::from_secs(3)));
    let mut guest = host.guest("remote", ctx_with(&host, limits)).await;
    for name in ["a", "b", "c"] {
        guest.ok(&format!("open {name} /locks/{name}")).await;
    }
    guest.ok("open again /locks/a").await;
    guest.ok("acquire a shared 0").await;
    guest.ok("acquire again shared 0").await;
    assert_eq!(
        refused(&mut guest, &host, "acquire b exclusive 0").await,
        "limit-exceeded"
    );
    assert_eq!(
        refused(&mut guest, &host, "acquire b exclusive none").await,
        "limit-exceeded"
    );
    assert!(host.is_free("b"));
    // They are given back by a release through another handle, by a drop, and by the end of their time.
    guest.ok("release again").await;
    guest.ok("release again").await;
    assert!(host.is_free("a"));
    guest.ok("acquire b exclusive 0").await;
    guest.ok("acquire c exclusive 0").await;
    assert_eq!(
        refused(&mut guest, &host, "acquire a shared 0").await,
        "limit-exceeded"
    );
    guest.ok("drop b").await;
    guest.ok("acquire a shared 0").await;
    assert_eq!(
        refused(&mut guest, &host, "acquire again shared 0").await,
        "limit-exceeded"
    );
    let start = Instant::now();
    while guest.ask("state a").await != "ok lost expired" {
        assert!(start.elapsed() < AT_ONCE);
    }
    while guest.ask("state c").await != "ok lost expired" {
        assert!(start.elapsed() < AT_ONCE);
    }
    guest.ok("acquire a exclusive 0").await;
    assert_eq!(guest.err("release c").await, "lost expired");
    guest.ok("acquire c exclusive 0").await;
    assert_eq!(
        refused(&mut guest, &host, "acquire again shared 0").await,
        "limit-exceeded"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_quota_of_holds_is_kept_by_waits_that_began_within_it() {
    let host = Host::new();
    let guards = ["a", "b"].map(|name| host.lock(name).acquire(EX, None).unwrap());
    let mut guest = host
        .guest("poll", ctx_with(&host, Limits::new().held(1)))
        .await;
    guest.ok("start a /locks/a exclusive none").await;
    guest.ok("start b /locks/b exclusive none").await;
    drop(guards);
    let mut answers = Vec::new();
    for name in ["a", "b"] {
        let start = Instant::now();
        let answer = loop {
            let answer = guest.ask(&format!("finish {name}")).await;
            if answer != "ok none" {
                break answer;
            }
            assert!(start.elapsed() < AT_ONCE);
        };
        answers.push(answer);
    }
    assert_eq!(
        answers,
        ["ok token=none valid-for=none", "err limit-exceeded"]
    );
    assert!(!host.is_free("a") && host.is_free("b"));
    guest.ok("release a").await;
    guest.ok("start c /locks/b exclusive none").await;
    guest.ok("finish c").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_quota_of_waiters_is_kept_and_given_back() {
    let host = Host::new();
    let guards = ["a", "b", "c"].map(|name| host.lock(name).acquire(EX, None).unwrap());
    let mut guest = host
        .guest(
            "poll",
            ctx_with(&host, Limits::new().waiters(2).handles(12)),
        )
        .await;
    guest.ok("start a /locks/a exclusive none").await;
    guest.ok("start b /locks/b exclusive 60").await;
    guest.ok("start c /locks/c exclusive none").await;
    assert_eq!(
        refused(&mut guest, &host, "finish c").await,
        "limit-exceeded"
    );
    // A lock that is free needs no wait.
    guest.ok("start d /locks/d exclusive none").await;
    assert_eq!(guest.ok("finish d").await, "token=none valid-for=none");
    guest.ok("drop c").await;
    assert_eq!(guest.ok("wait none").await, "b");
    assert_eq!(refused(&mut guest, &host, "finish b").await, "timeout");
    guest.ok("start c /locks/c exclusive none").await;
    assert_eq!(guest.ok("finish c").await, "none");
    guest.ok("abandon a").await;
    guest.ok("drop b").await;
    guest.ok("start b /locks/b exclusive none").await;
    assert_eq!(guest.ok("finish b").await, "none");
    drop(guards);
    for name in ["b", "c"] {
        while guest.ok(&format!("finish {name}")).await == "none" {
            guest.ok("wait none").await;
        }
    }
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
    // Files that exist can be locked, no matter which process created them.
    fs::write(host.path("d"), "").unwrap();
    for name in ["a", "b", "c", "d"] {
        guest.ok(&format!("open {name} /locks/{name}")).await;
        guest.ok(&format!("acquire {name} exclusive 0")).await;
        guest.ok(&format!("drop {name}")).await;
    }
    // A removal makes room, by another process as well as by the guest itself.
    fs::remove_file(host.path("a")).unwrap();
    guest.ok("open e /locks/e").await;
    assert_eq!(guest.err("open a /locks/a").await, "limit-exceeded");
    guest.ok("open b /locks/b remove").await;
    guest.ok("acquire b exclusive 0").await;
    guest.ok("release b").await;
    assert!(!host.path("b").exists());
    guest.ok("open a /locks/a").await;
    // An acquire that has to create the file anew counts it, too.
    assert_eq!(guest.err("acquire b exclusive 0").await, "limit-exceeded");
    fs::remove_file(host.path("a")).unwrap();
    guest.ok("acquire b exclusive 0").await;
    assert_eq!(names(&host), ["b", "c", "d", "e"]);
    // A file that could not be created does not count.
    fs::remove_file(host.path("c")).unwrap();
    for _ in 0..5 {
        assert_eq!(guest.err("open x /locks/none/x").await, "no-entry");
    }
    guest.ok("open c /locks/c").await;
    // The limit of one guest is not that of another.
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
