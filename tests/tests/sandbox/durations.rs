//! The longest wait and the longest hold of a guest.

use locket_tests::harness::{eventually, waiters};

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_longest_wait_ends_a_wait_with_an_error_of_its_own() {
    let host = Host::new();
    let _guard = host.lock("a").acquire(EX, None).unwrap();
    let limits = Limits::new().longest_wait(Some(Duration::from_millis(60)));
    let mut guest = host.guest("remote", ctx_with(&host, limits)).await;
    guest.ok("open a /locks/a").await;
    assert_eq!(guest.err("acquire a exclusive 0").await, "would-block");
    assert_eq!(guest.err("acquire a exclusive 20").await, "timeout");
    assert_eq!(guest.err("acquire a exclusive none").await, "canceled");
    assert_eq!(guest.err("acquire a exclusive 60000").await, "canceled");
    let time: u64 = guest.ok("elapsed").await.parse().unwrap();
    assert!(
        (60..60 + AT_ONCE.as_millis() as u64).contains(&time),
        "{time}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_that_is_not_polled_ends_at_its_time() {
    let host = Host::new();
    let lock = host.lock("a");
    let guard = lock.acquire(EX, None).unwrap();
    let mut guest = host.guest("poll", host.ctx().build()).await;
    guest.ok("start a /locks/a exclusive 30").await;
    eventually("the wait ends", || waiters(&lock) == 0);
    drop(guard);
    assert!(host.is_free("a"));
    assert_eq!(guest.ok("wait none").await, "a");
    assert_eq!(guest.err("finish a").await, "timeout");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hold_that_is_not_polled_ends_at_its_time() {
    let host = Host::new();
    // Long enough that a busy machine sees the lock granted.
    let limits = Limits::new().longest_hold(Some(Duration::from_secs(2)));
    let guard = host.lock("a").acquire(EX, None).unwrap();
    let mut guest = host.guest("poll", ctx_with(&host, limits)).await;
    guest.ok("start a /locks/a exclusive none").await;
    drop(guard);
    eventually("it is granted", || !host.is_free("a"));
    eventually("the hold ends", || host.is_free("a"));
    // The guest has seen neither the grant nor the loss.
    assert_eq!(guest.ok("wait none").await, "a");
    assert_eq!(guest.err("finish a").await, "lost expired");
    guest.ok("drop a").await;
    guest.ok("start a /locks/a exclusive none").await;
    let granted = guest.ok("finish a").await;
    let valid: u64 = granted
        .strip_prefix("token=none valid-for=")
        .unwrap()
        .parse()
        .unwrap();
    assert!(valid <= 2000, "{granted}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_lock_can_be_acquired_again_any_number_of_times() {
    let host = Host::new();
    let limits = Limits::new()
        .held(1)
        .longest_hold(Some(Duration::from_millis(15)));
    let mut guest = host.guest("remote", ctx_with(&host, limits)).await;
    guest.ok("open a /locks/a").await;
    for _ in 0..20 {
        guest.ok("acquire a exclusive 2000").await;
        eventually("the hold expires", || host.is_free("a"));
    }
    assert_eq!(guest.ok("state a").await, "lost expired");
    assert_eq!(guest.err("release a").await, "lost expired");
    assert_eq!(guest.ok("state a").await, "unlocked");
    assert_eq!(guest.err("release a").await, "not-locked");
}
