//! Waiting costs little and leaves nothing behind. These tests count the threads and descriptors
//! of the whole process, so within one process they run one at a time.

mod common;

use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

use common::*;
use locket::{Engine, Mode, OnRelease, Options};

/// Waits until the test before is over and what it started is gone.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    eventually("the threads of the test before end", || {
        engine_threads() == 0
    });
    alone
}

/// Everybody is in everybody's way: engines, threads, tasks, modes, timeouts, cancellations.
#[test]
fn exclusion_holds_and_nothing_is_left_under_stress() {
    let _alone = alone();
    let dir = Dir::new();
    let fds = descriptors();
    let state = Arc::new(AtomicI32::new(0));
    let grants = Arc::new(AtomicUsize::new(0));
    let end = Instant::now() + Duration::from_millis(1500);
    let engines: Vec<_> = (0..3).map(|_| Engine::new()).collect();
    let threads: Vec<_> = (0..12u64)
        .map(|i| {
            let engine = engines[i as usize % 3].clone();
            let on_release = if i % 4 == 0 {
                OnRelease::Remove
            } else {
                OnRelease::Keep
            };
            let lock = engine
                .open_with(dir.path("lock"), &Options::new().on_release(on_release))
                .unwrap();
            let (state, grants) = (Arc::clone(&state), Arc::clone(&grants));
            thread::spawn(move || {
                let mut seed = i * 7919 + 1;
                let mut random = move |n: u64| {
                    seed = seed
                        .wrapping_mul(6364136223846793005)
                        .wrapping_add(1442695040888963407);
                    (seed >> 33) % n
                };
                while Instant::now() < end {
                    let mode = if random(3) == 0 { SH } else { EX };
                    let timeout = match random(4) {
                        0 => None,
                        n => Some(Duration::from_micros(n * random(300))),
                    };
                    let acquired = match random(3) {
                        0 => lock.acquire(mode, timeout),
                        1 => block_on(lock.acquire_async(mode, timeout)),
                        // Polled a few times, then dropped, at whatever point it is.
                        _ => {
                            let mut acquire = lock.acquire_async(mode, timeout);
                            let mut polls = random(6);
                            loop {
                                match poll(&mut acquire) {
                                    Poll::Ready(result) => break result,
                                    Poll::Pending if polls == 0 => {
                                        break lock.acquire(EX, Duration::ZERO);
                                    }
                                    Poll::Pending => {
                                        thread::sleep(Duration::from_micros(random(60)));
                                    }
                                }
                                polls -= 1;
                            }
                        }
                    };
                    let guard = match acquired {
                        Ok(guard) => guard,
                        Err(e) => {
                            assert!(e.is_timeout() || e.is_would_block(), "{e}");
                            continue;
                        }
                    };
                    grants.fetch_add(1, Ordering::Relaxed);
                    match guard.mode() {
                        Mode::Exclusive => {
                            assert_eq!(state.swap(-1, Ordering::SeqCst), 0, "not alone");
                            assert_eq!(state.swap(0, Ordering::SeqCst), -1, "not alone");
                        }
                        Mode::Shared => {
                            assert!(state.fetch_add(1, Ordering::SeqCst) >= 0, "beside a writer");
                            assert!(state.fetch_sub(1, Ordering::SeqCst) > 0, "beside a writer");
                        }
                    }
                    drop(guard);
                }
            })
        })
        .collect();
    threads
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
    println!("{} grants", grants.load(Ordering::Relaxed));
    assert!(grants.load(Ordering::Relaxed) > 1000);
    dir.lock(&Engine::new())
        .acquire(EX, STUCK)
        .unwrap()
        .release()
        .unwrap();
    drop(engines);
    eventually("the threads end", || engine_threads() == 0);
    // The file to which interrupted waiters are led stays.
    assert!(
        descriptors() <= fds + 1,
        "{} descriptors, {fds} before",
        descriptors()
    );
}

#[test]
fn cancellations_at_random_phases_are_not_lost() {
    let _alone = alone();
    let dir = Dir::new();
    let (holder, lock) = (dir.lock(&Engine::new()), dir.lock(&Engine::new()));
    let mut guard = Some(holder.acquire(EX, None).unwrap());
    for i in 0..5_000u32 {
        let acquire = pending(&lock, EX);
        // Somewhere between before the helper runs and after it waits.
        for _ in 0..i % 400 {
            std::hint::spin_loop();
        }
        if i % 10 == 0 {
            // In the moment of the grant.
            guard.take();
        }
        drop(acquire);
        if guard.is_none() {
            guard = Some(
                holder
                    .acquire(EX, STUCK)
                    .expect("a cancelled wait kept the lock"),
            );
        }
    }
    guard.take();
    lock.acquire(EX, STUCK).unwrap().release().unwrap();
    assert!(engine_threads() <= 1);
}

#[test]
fn thousands_of_waiters_take_one_thread() {
    let _alone = alone();
    let dir = Dir::new();
    let (holder, lock) = (dir.lock(&Engine::new()), dir.lock(&Engine::new()));
    let guard = holder.acquire(EX, None).unwrap();
    let mut waiters: Vec<_> = (0..5_000).map(|_| pending(&lock, EX)).collect();
    assert_eq!(engine_threads(), 1);
    // From the middle, the front and the back, while the rest keeps waiting.
    waiters.drain(1_000..2_000);
    waiters.drain(..10);
    waiters.truncate(2_000);
    guard.release().unwrap();
    for waiter in waiters {
        block_on(waiter).unwrap().release().unwrap();
    }
    assert_eq!(engine_threads(), 1);
}

#[test]
fn without_helper_threads_tasks_are_still_served() {
    let _alone = alone();
    let dir = Dir::new();
    let lock = dir.lock(&Engine::builder().helper_threads(0).build());
    let guard = dir.lock(&Engine::new()).acquire(EX, None).unwrap();
    let acquire = pending(&lock, EX);
    let dropped = pending(&lock, EX);
    guard.release().unwrap();
    drop(dropped);
    block_on(acquire).unwrap().release().unwrap();
    eventually("the clock stops", || engine_threads() == 0);
}
