//! The check for deadlocks is no burden, however many guests wait.

use std::task::{Context, Waker};

use locket::Protocol;

use super::*;

/// The check for deadlocks looks at each waiter once, and only if it could wait for the guest that
/// asks.
#[test]
fn thousands_of_guests_wait_for_one_lock() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::new();
    let held = Engine::new().open(dir.path().join("lock")).unwrap();
    let held = held.acquire(EX, None).unwrap();
    let mut cx = Context::from_waker(Waker::noop());
    let guest = || {
        let guest = Sandbox::builder(&engine).protocol(Protocol::Flock);
        let guest = guest.grant_dir(dir.path(), "/l", Rights::ALL);
        guest.unwrap().build()
    };
    let open = |guest: &Sandbox, name: &str| {
        let path = format!("/l/{name}");
        guest.open(&path, None, OnRelease::Keep).unwrap()
    };
    // It is in line before all others, and keeps waiting.
    let first = guest();
    let lock = open(&first, "lock");
    let mut ahead = Box::pin(lock.acquire_async(EX, None).unwrap());
    assert!(ahead.as_mut().poll(&mut cx).is_pending());
    let mut guests = Vec::new();
    for i in 0..5_000 {
        let guest = guest();
        // Some hold another lock, for which there may be waiters.
        let other = (i % 10 == 9).then(|| {
            let other = open(&guest, &i.to_string());
            other.acquire(EX, Duration::ZERO).unwrap()
        });
        let lock = open(&guest, "lock");
        let mut wait = Box::pin(lock.acquire_suspended(EX, None).unwrap());
        assert!(wait.as_mut().poll(&mut cx).is_pending());
        guests.push((guest, other, lock, wait));
    }
    // The last guest holds it, and waits until the first has had its turn.
    let circle = open(&first, "4999");
    let error = circle.acquire(EX, Duration::from_secs(60)).unwrap_err();
    assert!(error.is_deadlock(), "{error}");
    drop(guests);
    held.release().unwrap();
}
