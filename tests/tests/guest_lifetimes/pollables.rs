//! Acquires that are started and polled, and dropped in any order.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_dropped_with_a_pending_acquire_leaves_the_queue() {
    let host = Host::new();
    let lock = host.lock("a");
    let guard = lock.acquire(EX, None).unwrap();
    let mut guest = host.guest("poll", host.ctx().build()).await;
    guest.ok("start a /locks/a exclusive none").await;
    assert_eq!(guest.ok("wait 20").await, "timer");
    assert_eq!(waiters(&lock), 1);
    guest.kill().await;
    assert_eq!(waiters(&lock), 0);
    guard.release().unwrap();
    drop(lock);
    nothing_is_left(&host);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_dropped_with_an_answer_not_taken_releases() {
    let host = Host::new();
    let lock = host.lock("a");
    let guard = lock.acquire(EX, None).unwrap();
    let mut guest = host.guest("poll", host.ctx().build()).await;
    guest.ok("start a /locks/a exclusive none").await;
    guard.release().unwrap();
    assert_eq!(guest.ok("wait 20000").await, "a");
    assert!(!host.is_free("a"));
    guest.kill().await;
    drop(lock);
    nothing_is_left(&host);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pollable_outlives_its_pending_and_is_ready() {
    let host = Host::new();
    let lock = host.lock("a");
    let guard = lock.acquire(EX, None).unwrap();
    let mut guest = host.guest("poll", host.ctx().build()).await;
    guest.ok("start a /locks/a exclusive none").await;
    guest.ok("abandon a").await;
    assert_eq!(waiters(&lock), 0);
    assert_eq!(guest.ok("wait 20000").await, "a");
    guest.ok("close a").await;
    assert_eq!(guest.ok("wait 20000").await, "a");
    guest.ok("drop a").await;
    guard.release().unwrap();
    assert!(guest.end().await.result.is_ok());
    drop(lock);
    nothing_is_left(&host);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pending_is_granted_although_its_lock_is_closed() {
    let host = Host::new();
    let lock = host.lock("a");
    let guard = lock.acquire(EX, None).unwrap();
    let mut guest = host.guest("poll", host.ctx().build()).await;
    guest.ok("start a /locks/a exclusive none").await;
    guest.ok("close a").await;
    assert_eq!(guest.ok("finish a").await, "none");
    guard.release().unwrap();
    assert_eq!(guest.ok("wait 20000").await, "a");
    assert_eq!(guest.ok("finish a").await, "token=none valid-for=none");
    assert!(!host.is_free("a"));
    guest.ok("release a").await;
    assert!(host.is_free("a"));
    drop((guest.end().await, lock));
    nothing_is_left(&host);
}
