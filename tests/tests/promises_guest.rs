//! The promises of the design, for guests: a test for each, named after it. The holders are other
//! guests, this process, and programs in Python.

use std::fs;
use std::os::unix::fs::symlink;
use std::thread;
use std::time::{Duration, Instant};

use locket::Mode;
use locket::sandbox::Rights;
use locket_tests::harness::{AT_ONCE, Foreign, Guest, Host, QUIESCENT, eventually, waiters};
use locket_tests::process::kernel_waiters;

const EX: Mode = Mode::Exclusive;

/// A guest that has opened `/locks/a` as `a`.
async fn remote(host: &Host) -> Guest {
    let mut guest = host.remote().await;
    guest.ok("open a /locks/a").await;
    guest
}

/// Milliseconds that the last command took, as the guest measured them.
async fn elapsed(guest: &mut Guest) -> u64 {
    guest.ok("elapsed").await.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promise_01_the_file_is_the_lock() {
    let host = Host::new();
    fs::create_dir(host.path("sub")).unwrap();
    fs::write(host.path("a"), "").unwrap();
    symlink("a", host.path("soft")).unwrap();
    symlink("..", host.path("sub/up")).unwrap();
    fs::hard_link(host.path("a"), host.path("hard")).unwrap();
    // The directory has three names, and the working directory is one.
    let ctx = host.ctx();
    let ctx = ctx.grant_dir(&host.dir, ".", Rights::READ_WRITE).unwrap();
    let ctx = ctx
        .grant_dir(&host.dir, "other/name/", Rights::READ_WRITE)
        .unwrap();
    let mut guest = host.guest("remote", ctx.build()).await;
    let spellings = [
        "/locks/a",
        "//locks//./a",
        "/locks/sub/../a",
        "/locks/sub/up/a",
        "/locks/soft",
        "/locks/hard",
        "a",
        "./a",
        "sub/../a",
        "/a",
        "other/name/a",
        "/other/name/./soft",
    ];
    for (index, path) in spellings.iter().enumerate() {
        guest.ok(&format!("open {index} {path}")).await;
        assert_eq!(guest.ok(&format!("path {index}")).await, *path);
    }
    for index in 0..spellings.len() {
        guest.ok(&format!("acquire {index} exclusive 0")).await;
        for other in 0..spellings.len() {
            assert_eq!(guest.ok(&format!("is-locked {other}")).await, "true");
            let reply = guest.err(&format!("acquire {other} exclusive 0")).await;
            assert_eq!(
                reply, "would-block",
                "{} {}",
                spellings[index], spellings[other]
            );
        }
        guest.ok(&format!("release {index}")).await;
    }
    // Across processes too.
    for function in ["flock", "lockf"] {
        let foreign = Foreign::hold(&host.path("hard"), function);
        for (index, path) in spellings.iter().enumerate() {
            let reply = guest.err(&format!("acquire {index} exclusive 0")).await;
            assert_eq!(reply, "would-block", "{function} {path}");
        }
        foreign.release();
    }
    guest.ok("acquire 0 exclusive 0").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promise_02_a_free_lock_is_had_at_once() {
    let host = Host::new();
    let mut guest = remote(&host).await;
    for wait in ["none", "0", "60000"] {
        assert_eq!(guest.ok("state a").await, "unlocked");
        assert_eq!(
            guest.ok(&format!("acquire a exclusive {wait}")).await,
            "token=none valid-for=none"
        );
        assert!(elapsed(&mut guest).await < AT_ONCE.as_millis() as u64);
        assert_eq!(guest.ok("state a").await, "held token=none valid-for=none");
        guest.ok("release a").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promise_03_a_held_lock_is_awaited() {
    let host = Host::new();
    let mut guest = remote(&host).await;
    let mut other = remote(&host).await;
    // Held by another guest, by this process, by another engine, by another program.
    other.ok("acquire a exclusive 0").await;
    guest.wait("acquire a exclusive none").await;
    other.ok("release a").await;
    assert!(guest.reply().await.starts_with("ok"));
    guest.ok("release a").await;

    for lock in [host.lock("a"), host.foreign("a")] {
        let guard = lock.acquire(EX, None).unwrap();
        guest.wait("acquire a exclusive 60000").await;
        guard.release().unwrap();
        assert!(guest.reply().await.starts_with("ok"));
        guest.ok("release a").await;
    }
    for function in ["flock", "lockf"] {
        let foreign = Foreign::hold(&host.path("a"), function);
        guest.wait("acquire a exclusive none").await;
        foreign.release();
        assert!(guest.reply().await.starts_with("ok"), "{function}");
        guest.ok("release a").await;
        let foreign = Foreign::hold(&host.path("a"), function);
        guest.wait("acquire a exclusive none").await;
        foreign.kill();
        assert!(guest.reply().await.starts_with("ok"), "{function}");
        guest.ok("release a").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promise_03_until_the_timeout() {
    let host = Host::new();
    let mut guest = remote(&host).await;
    for function in ["", "flock", "lockf"] {
        let native = function
            .is_empty()
            .then(|| host.lock("a").acquire(EX, None).unwrap());
        let foreign = native
            .is_none()
            .then(|| Foreign::hold(&host.path("a"), function));
        assert_eq!(guest.err("acquire a exclusive 0").await, "would-block");
        assert!(elapsed(&mut guest).await < AT_ONCE.as_millis() as u64);
        assert_eq!(guest.err("acquire a exclusive 80").await, "timeout");
        let time = elapsed(&mut guest).await;
        assert!(
            (80..80 + AT_ONCE.as_millis() as u64).contains(&time),
            "{time}"
        );
        drop((native, foreign));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promise_03_sharers_share_and_writers_wait() {
    let host = Host::new();
    let (mut first, mut second) = (remote(&host).await, remote(&host).await);
    let mut writer = remote(&host).await;
    first.ok("acquire a shared 0").await;
    second.ok("acquire a shared 0").await;
    assert!(
        host.foreign("a")
            .try_acquire(Mode::Shared)
            .unwrap()
            .is_some()
    );
    assert_eq!(writer.err("acquire a exclusive 0").await, "would-block");
    writer.wait("acquire a exclusive none").await;
    // A writer that waits is not overtaken.
    let mut late = remote(&host).await;
    late.wait("acquire a shared none").await;
    first.ok("release a").await;
    second.ok("release a").await;
    assert!(writer.reply().await.starts_with("ok"));
    assert_eq!(late.reply_within(QUIESCENT).await, None);
    writer.ok("release a").await;
    assert!(late.reply().await.starts_with("ok"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promise_04_not_reentrant() {
    let host = Host::new();
    let mut guest = remote(&host).await;
    guest.ok("open again /locks/a").await;
    guest.ok("acquire a exclusive 0").await;
    for name in ["a", "again"] {
        assert_eq!(
            guest.err(&format!("acquire {name} exclusive 0")).await,
            "would-block"
        );
        assert_eq!(
            guest.err(&format!("acquire {name} shared 0")).await,
            "would-block"
        );
        // Rather than to wait for ever for itself, or for a while in vain.
        for wait in ["none", "60000"] {
            assert_eq!(
                guest.err(&format!("acquire {name} exclusive {wait}")).await,
                "deadlock"
            );
            assert!(elapsed(&mut guest).await < AT_ONCE.as_millis() as u64);
        }
    }
    assert_eq!(guest.ok("state a").await, "held token=none valid-for=none");
    guest.ok("release a").await;
    assert!(host.is_free("a"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promise_04_nor_is_a_circle_of_guests() {
    let host = Host::new();
    let (mut first, mut second) = (host.remote().await, host.remote().await);
    for guest in [&mut first, &mut second] {
        guest.ok("open a /locks/a").await;
        guest.ok("open b /locks/b").await;
    }
    first.ok("acquire a exclusive 0").await;
    second.ok("acquire b exclusive 0").await;
    first.wait("acquire b exclusive none").await;
    assert_eq!(second.err("acquire a exclusive none").await, "deadlock");
    assert!(elapsed(&mut second).await < AT_ONCE.as_millis() as u64);
    second.ok("release b").await;
    assert!(first.reply().await.starts_with("ok"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promise_05_any_handle_of_the_guest_releases() {
    let host = Host::new();
    let mut guest = remote(&host).await;
    guest.ok("open again /locks/a").await;
    guest.ok("acquire a exclusive 0").await;
    guest.ok("release again").await;
    assert!(host.is_free("a"));
    assert_eq!(guest.err("release a").await, "not-locked");
    // Dropping a handle releases what was acquired through it, and nothing else.
    guest.ok("acquire a exclusive 0").await;
    guest.ok("drop again").await;
    assert!(!host.is_free("a"));
    guest.ok("drop a").await;
    assert!(host.is_free("a"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promise_06_who_may_not_release_is_told_why() {
    let host = Host::new();
    let mut guest = remote(&host).await;
    assert_eq!(guest.err("release a").await, "not-locked");
    let mut other = remote(&host).await;
    other.ok("acquire a exclusive 0").await;
    assert_eq!(guest.err("release a").await, "not-owner");
    other.ok("release a").await;
    let guard = host.lock("a").acquire(EX, None).unwrap();
    assert_eq!(guest.err("release a").await, "not-owner");
    assert!(host.lock("a").is_locked().unwrap());
    guard.release().unwrap();
    for function in ["flock", "lockf"] {
        let _foreign = Foreign::hold(&host.path("a"), function);
        assert_eq!(guest.err("release a").await, "not-owner", "{function}");
    }
    guest.ok("acquire a exclusive none").await;
    // Nor does this process release what a guest holds.
    assert!(host.lock("a").release().unwrap_err().is_not_owner());
    guest.ok("release a").await;
    assert_eq!(guest.err("release a").await, "not-locked");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promise_07_guards_release_on_every_way_out() {
    let host = Host::new();
    let mut guest = remote(&host).await;
    guest.ok("guard g a exclusive 0").await;
    assert!(!host.is_free("a"));
    guest.ok("drop g").await;
    assert!(host.is_free("a"));
    guest.ok("guard g a exclusive 0").await;
    guest.ok("unguard g").await;
    assert!(host.is_free("a"));
    // A panic is a trap in a component; then it is the end of the store that releases.
    guest.tell("with-panic /locks/a 0").await;
    let end = guest.end().await;
    assert!(end.result.is_err());
    drop(end);
    assert!(host.is_free("a"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promise_08_one_timeout_for_the_whole_acquire() {
    // A part of the time goes by behind somebody of this process, the rest as the head of the
    // queue, which waits for another process.
    let host = Host::new();
    let lock = host.lock("a");
    let mut guest = remote(&host).await;
    let foreign = host.foreign("a").acquire(EX, None).unwrap();
    let ahead = {
        let lock = lock.clone();
        thread::spawn(move || lock.acquire(EX, Duration::from_millis(300)).unwrap_err())
    };
    eventually("the one ahead waits", || waiters(&lock) == 1);
    guest.tell("acquire a exclusive 600").await;
    assert!(ahead.join().unwrap().is_timeout());
    assert_eq!(guest.reply().await, "err timeout");
    let time = elapsed(&mut guest).await;
    // With a timeout for either part it would be 900.
    assert!((600..850).contains(&time), "{time}");
    foreign.release().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promise_09_the_file_is_kept_or_removed() {
    let host = Host::new();
    let mut guest = host.remote().await;
    guest.ok("open kept /locks/a keep").await;
    guest.ok("acquire kept exclusive 0").await;
    guest.ok("release kept").await;
    assert!(host.path("a").exists());
    guest.ok("open a /locks/a remove").await;
    guest.ok("acquire a exclusive 0").await;
    assert!(host.path("a").exists());
    guest.ok("release a").await;
    assert!(!host.path("a").exists());
    guest.ok("acquire a exclusive 0").await;
    assert!(host.path("a").exists());
    guest.kill().await;
    assert!(!host.path("a").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promise_09_removal_never_splits_the_lock() {
    let host = Host::new();
    let mut first = host.remote().await;
    first.ok("open a /locks/a remove").await;
    first.ok("acquire a exclusive 0").await;
    // Another process of ours, which the removal takes by surprise in the kernel.
    let foreign = host.foreign("a");
    let waiting = thread::spawn(move || {
        let guard = foreign.acquire(EX, None).unwrap();
        (foreign, guard)
    });
    eventually("the other process waits", || {
        kernel_waiters(&host.path("a")) == 1
    });
    first.ok("release a").await;
    let (_foreign, guard) = waiting.join().unwrap();
    assert!(host.path("a").exists());
    assert_eq!(first.err("acquire a exclusive 0").await, "would-block");
    guard.release().unwrap();

    // Guests that wait in this one keep the file, or move on to the next.
    let mut others = [host.remote().await, host.remote().await];
    first.ok("acquire a exclusive 0").await;
    for other in &mut others {
        other.ok("open a /locks/a remove").await;
        other.wait("acquire a exclusive none").await;
    }
    first.ok("release a").await;
    for other in &mut others {
        assert!(other.reply().await.starts_with("ok"));
        assert!(host.path("a").exists() && !host.is_free("a"));
        other.ok("release a").await;
    }
    assert!(!host.path("a").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promise_10_the_order_of_arrival_is_the_order_of_grants() {
    let host = Host::new();
    let lock = host.lock("a");
    let guard = lock.acquire(EX, None).unwrap();
    let mut guests = Vec::new();
    for index in 0..6 {
        let mut guest = remote(&host).await;
        guest.tell("acquire a exclusive none").await;
        eventually("the guest waits", || waiters(&lock) == index + 1);
        guests.push(guest);
    }
    // Who gives up leaves the order of the others.
    guests.remove(2).kill().await;
    guard.release().unwrap();
    while !guests.is_empty() {
        assert!(guests[0].reply().await.starts_with("ok"));
        for other in &mut guests[1..] {
            assert_eq!(other.reply_within(Duration::from_millis(10)).await, None);
        }
        guests[0].ok("release a").await;
        guests.remove(0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promise_11_the_path_of_a_held_lock_can_be_asked_for() {
    let host = Host::new();
    let mut guest = host.remote().await;
    guest.ok("open a /locks/./a").await;
    guest.ok("acquire a exclusive 0").await;
    assert_eq!(guest.ok("path a").await, "/locks/./a");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promise_12_a_release_that_fails_leaves_the_lock_free() {
    let host = Host::new();
    let mut guest = remote(&host).await;
    guest.ok("acquire a exclusive 0").await;
    fs::remove_file(host.path("a")).unwrap();
    assert_eq!(guest.err("release a").await, "lost broken");
    assert_eq!(guest.err("release a").await, "not-locked");
    guest.ok("acquire a exclusive 0").await;
    guest.ok("release a").await;
    assert!(host.is_free("a"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promise_14_who_holds_the_lock_can_be_asked() {
    let host = Host::new();
    let mut worker = host
        .guest("remote", host.ctx().label("worker 7").build())
        .await;
    let mut guest = remote(&host).await;
    worker.ok("open a /locks/a").await;
    assert_eq!(guest.ok("holder a").await, "none");
    assert_eq!(guest.ok("is-locked a").await, "false");
    worker.ok("acquire a exclusive 0").await;
    assert_eq!(
        guest.ok("holder a").await,
        "label=worker%207 mode=exclusive self=false"
    );
    assert_eq!(
        worker.ok("holder a").await,
        "label=worker%207 mode=exclusive self=true"
    );
    assert_eq!(guest.ok("is-locked a").await, "true");
    worker.ok("release a").await;
    worker.ok("acquire a shared 0").await;
    assert_eq!(
        guest.ok("holder a").await,
        "label=worker%207 mode=shared self=false"
    );
    worker.kill().await;
    assert_eq!(guest.ok("holder a").await, "none");
    let _foreign = Foreign::hold(&host.path("a"), "lockf");
    assert_eq!(
        guest.ok("holder a").await,
        "label=none mode=exclusive self=false"
    );
    assert_eq!(
        guest.ok("guarantee a").await,
        "scope=host ttl=none fifo=true fencing=false"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promise_15_every_refusal_has_its_own_error() {
    let host = Host::new();
    let mut guest = remote(&host).await;
    let guard = host.lock("a").acquire(EX, None).unwrap();
    assert_eq!(guest.err("acquire a exclusive 0").await, "would-block");
    assert_eq!(guest.err("acquire a exclusive 20").await, "timeout");
    assert_eq!(guest.err("open x /else/a").await, "access-denied");
    assert_eq!(guest.err("open x /locks/none/a").await, "no-entry");
    assert_eq!(
        guest.err("open x /locks/a keep sqlite").await,
        "not-supported"
    );
    assert_eq!(guest.err("release a").await, "not-owner");
    guard.release().unwrap();
    assert_eq!(guest.err("release a").await, "not-locked");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promise_16_a_function_runs_with_the_lock_held() {
    let host = Host::new();
    let mut guest = host.remote().await;
    guest.ok("with /locks/a none").await;
    assert!(host.is_free("a"));
    let guard = host.lock("a").acquire(EX, None).unwrap();
    assert_eq!(guest.err("with /locks/a 20").await, "timeout");
    guest.wait("with /locks/a none").await;
    guard.release().unwrap();
    assert_eq!(guest.reply().await, "ok");
    assert!(host.is_free("a"));
    // Nothing was opened that is still there.
    assert_eq!(
        guest.end().await.resources(),
        host.remote().await.end().await.resources()
    );
    let start = Instant::now();
    assert!(host.is_free("a") && start.elapsed() < AT_ONCE);
}
