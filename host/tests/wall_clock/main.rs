//! The wall clock is set by an hour, during waits and holds. Neither timeouts nor leases notice.
//!
//! A binary of its own: it replaces the clocks of the whole process.
#![cfg(target_os = "linux")]

mod clock;
#[path = "../common/mod.rs"]
mod common;
#[cfg(all(feature = "etcd", not(any(loom, shuttle))))]
mod etcd;
#[cfg(all(feature = "postgres", not(any(loom, shuttle))))]
mod postgres;

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use clock::Clocks;
use common::*;
use locket::Engine;

const HOUR: i64 = 3600;

/// How long a server keeps a lock without a renewal: longer than a busy machine holds one up.
#[cfg(any(feature = "etcd", feature = "postgres"))]
const TTL: Duration = Duration::from_secs(5);

#[test]
fn a_clock_that_is_set_ends_no_wait_and_prolongs_none() {
    const TIMEOUT: Duration = Duration::from_millis(300);
    let clocks = Clocks::take();
    let before = SystemTime::now();
    for set in [-HOUR, HOUR] {
        let dir = Dir::new();
        let guard = dir.lock(&Engine::new()).acquire(EX, STUCK).unwrap();
        let lock = dir.lock(&Engine::new());
        let (done, ended) = mpsc::channel();
        let waiter = lock.clone();
        thread::spawn(move || {
            let start = Instant::now();
            let result = waiter.acquire(EX, TIMEOUT);
            done.send((result.map(drop), start.elapsed())).unwrap();
        });
        eventually("the thread waits", || {
            format!("{lock:?}").contains("waiting: 1")
        });
        clocks.set(set);
        let (result, waited) = ended.recv_timeout(STUCK).expect("the wait ends");
        assert!(result.unwrap_err().is_timeout());
        assert!(waited >= TIMEOUT, "{waited:?}");
        if set < 0 {
            assert!(SystemTime::now() < before, "the clock was not set");
        }
        clocks.set(0);
        drop(guard);
    }
}

/// Sets the clock again and again while a lock of a server is held, and sees it renewed each time.
#[cfg(any(feature = "etcd", feature = "postgres"))]
#[track_caller]
fn outlives_each_set(clocks: &Clocks, lock: &locket::LockFile, guard: &locket::Guard) {
    let expires = || guard.expires_at().expect("it is held for some time");
    for set in [HOUR, -HOUR, 0, -HOUR] {
        clocks.set(set);
        // Once for what was under way, and once more.
        for _ in 0..2 {
            // The end is counted from now, so it moves a little by itself.
            let before = expires() + TTL / 10;
            eventually("it is renewed", || {
                let state = lock.state();
                assert!(!matches!(state, locket::State::Lost(_)), "{state:?}");
                guard.expires_at().is_some_and(|later| later > before)
            });
        }
        assert!(guard.is_held());
    }
}
