//! Waits for an existence lock leave nothing behind and are woken in time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use super::*;

#[test]
fn engines_that_are_gone_leave_no_watcher() {
    if std::env::var_os("NEXTEST").is_none() {
        return not_tested(format_args!(
            "other tests in this process have watchers, too"
        ));
    }
    for protocol in all() {
        let dir = Dir::new();
        let before = descriptors();
        for _ in 0..20 {
            let engine = Engine::new();
            let lock = open_in(&engine, protocol, dir.0.path());
            let guard = lock.acquire(EX, STUCK).unwrap();
            drop(pending(&lock, EX));
            let wait = pending(&lock, EX);
            drop((engine, lock));
            drop(guard);
            drop(block_on(wait).unwrap());
        }
        // Their threads may only just have started.
        eventually("the engines leave no threads and descriptors", || {
            engine_threads() == 0 && descriptors() == before
        });
    }
}

/// Notices that arrive during the fairness pause do not come again, and the waiter does not need them.
#[test]
fn a_pause_costs_no_more_than_itself() {
    for protocol in all() {
        let dir = Dir::new();
        let engine = Engine::builder()
            .fairness_pause(Duration::ZERO, Duration::from_millis(1))
            .build();
        let lock = open_in(&engine, protocol, dir.0.path());
        let hold = || {
            let guard = lock.acquire(EX, STUCK).unwrap();
            let wait = pending(&lock, EX);
            let start = Instant::now();
            guard.release().unwrap();
            block_on(wait).unwrap().release().unwrap();
            start.elapsed()
        };
        // The best of several, since the machine may be busy. The next try by the timer is 200 ms away.
        let best = (0..10).map(|_| hold()).min().unwrap();
        assert!(best < Duration::from_millis(150), "{best:?}");
    }
}

/// Even one of zero lets a lock be used once before it goes back.
#[test]
fn a_lock_is_acquired_whatever_the_bound_of_hand_offs() {
    for protocol in all() {
        for limit in [0, 4] {
            let dir = Dir::new();
            let engine = Engine::builder().hand_off(limit, Duration::ZERO).build();
            let holder = open_in(&Engine::new(), protocol, dir.0.path());
            let guard = holder.acquire(EX, STUCK).unwrap();
            let lock = open_in(&engine, protocol, dir.0.path());
            let waits = pending(&lock, EX);
            let blocked = lock.clone();
            let blocked = thread::spawn(move || drop(blocked.acquire(EX, STUCK).unwrap()));
            guard.release().unwrap();
            drop(block_on(waits).unwrap());
            blocked.join().unwrap();
        }
    }
}

/// Abandoned at any point, a wait keeps neither the lock nor its place in the queue.
#[test]
fn waits_that_are_dropped_while_the_entry_comes_and_goes() {
    for protocol in all() {
        let dir = Dir::new();
        let lock = open(&dir, protocol);
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                let other = open(&dir, protocol);
                while !done.load(Ordering::Relaxed) {
                    other.acquire(EX, STUCK).unwrap().release().unwrap();
                }
            });
            for polls in 0..100 {
                let mut wait = lock.acquire_async(EX, None);
                for _ in 0..polls % 7 {
                    if poll(&mut wait).is_ready() {
                        break;
                    }
                    thread::yield_now();
                }
                drop(wait);
            }
            done.store(true, Ordering::Relaxed);
        });
        lock.acquire(EX, STUCK).unwrap().release().unwrap();
    }
}
