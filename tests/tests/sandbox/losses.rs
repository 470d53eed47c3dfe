//! Locks that are broken or taken away by the host.

use std::thread;

use locket_tests::harness::{Foreign, eventually, waiters};

use super::*;

#[test]
fn release_all_ends_waits_and_takes_holds_away() {
    let host = Host::new();
    let guest = sandbox(&host, Rights::READ_WRITE, Limits::new());
    let (a, b) = (open(&guest, "/locks/a"), open(&guest, "/locks/b"));
    let guard = host.lock("b").acquire(EX, None).unwrap();
    let hold = a.acquire(EX, None).unwrap();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| b.acquire(EX, None).unwrap_err());
        eventually("the thread waits", || waiters(&host.lock("b")) == 1);
        guest.release_all();
        assert!(waiting.join().unwrap().is_canceled());
    });
    assert!(host.is_free("a"));
    assert_eq!(a.state(), locket::State::Lost(locket::LostReason::Broken));
    assert!(hold.release().unwrap_err().is_lost());
    assert_eq!(a.state(), locket::State::Unlocked);
    guard.release().unwrap();
    let _both = (a.acquire(EX, None).unwrap(), b.acquire(EX, None).unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_lock_is_lost_and_the_waiter_gets_it() {
    let host = Host::new();
    let mut holder = host.remote().await;
    let mut waiter = host.remote().await;
    let breaker = sandbox(&host, Rights::BREAK, Limits::new());
    let refusal = |path| breaker.break_lock(path).unwrap_err();
    assert!(refusal("/locks/a").is_not_locked() && !host.path("a").exists());
    assert!(refusal("/locks/missing/a").is_not_found());
    for guest in [&mut holder, &mut waiter] {
        guest.ok("open a /locks/a").await;
    }
    assert!(refusal("/locks/a").is_not_locked());
    assert!(refusal("/else/a").is_denied());
    holder.ok("acquire a exclusive 0").await;
    waiter.wait("acquire a exclusive none").await;
    let without_right = sandbox(&host, Rights::READ_WRITE, Limits::new());
    assert!(
        without_right
            .break_lock("/locks/a")
            .unwrap_err()
            .is_denied()
    );
    breaker.break_lock("/locks/a").unwrap();
    assert!(waiter.reply().await.starts_with("ok"));
    assert_eq!(holder.ok("state a").await, "lost broken");
    assert_eq!(holder.err("release a").await, "lost broken");
    assert_eq!(holder.err("release a").await, "not-owner");
    waiter.ok("release a").await;
    let foreign = Foreign::hold(&host.path("a"), "flock");
    assert!(refusal("/locks/a").is_unsupported());
    foreign.release();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loss_wakes_the_guest_that_polls_for_it() {
    let host = Host::new();
    let mut guest = host.guest("poll", host.ctx().build()).await;
    guest.ok("start a /locks/a exclusive none").await;
    guest.ok("finish a").await;
    guest.ok("lost l a").await;
    assert_eq!(guest.ok("wait 20").await, "timer");
    sandbox(&host, Rights::BREAK, Limits::new())
        .break_lock("/locks/a")
        .unwrap();
    assert_eq!(guest.ok("wait none").await, "l");
    assert_eq!(guest.ok("wait none").await, "l");
    assert_eq!(guest.ok("state a").await, "lost broken");
    assert_eq!(guest.err("release a").await, "lost broken");
    assert_eq!(guest.ok("wait 20").await, "timer");
}
