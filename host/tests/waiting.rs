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
    #[cfg(target_os = "linux")]
    eventually("the threads of the test before end", || {
        engine_threads() == 0
    });
    alone
}

/// Engines, threads, tasks, modes, timeouts and cancellations all contend for one lock.
#[test]
fn exclusion_holds_and_nothing_is_left_under_stress() {
    let _alone = alone();
    let dir = Dir::new();
    #[cfg(target_os = "linux")]
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
                let mut random = numbers(i * 7919 + 1);
                while Instant::now() < end {
                    let mode = if random(3) == 0 { SH } else { EX };
                    let timeout = match random(4) {
                        0 => None,
                        n => Some(Duration::from_micros(n * random(300))),
                    };
                    let acquired = match random(3) {
                        0 => lock.acquire(mode, timeout),
                        1 => block_on(lock.acquire_async(mode, timeout)),
                        // Polled a few times, then dropped at any point.
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
    // Under Wine each system call is a round trip between two processes.
    let enough = if cfg!(windows) { 100 } else { 1000 };
    assert!(grants.load(Ordering::Relaxed) > enough);
    dir.lock(&Engine::new())
        .acquire(EX, STUCK)
        .unwrap()
        .release()
        .unwrap();
    drop(engines);
    #[cfg(target_os = "linux")]
    {
        eventually("the threads end", || engine_threads() == 0);
        // The file that interrupted waiters are led to stays open.
        assert!(
            descriptors() <= fds + 1,
            "{} descriptors, {fds} before",
            descriptors()
        );
    }
}

/// Waits are abandoned at any point from before the helper thread runs to after it waits, every tenth
/// just as it is granted.
#[test]
fn of_100_000_canceled_waits_none_is_lost_and_none_granted_to_nobody() {
    let _alone = alone();
    let dir = Dir::new();
    let (holder, lock) = (dir.lock(&Engine::new()), dir.lock(&Engine::new()));
    let mut random = numbers(1);
    let mut guard = Some(holder.acquire(EX, None).unwrap());
    let mut slowest = Duration::ZERO;
    for i in 0..100_000 {
        let acquire = pending(&lock, EX);
        for _ in 0..random(4000) {
            std::hint::spin_loop();
        }
        if i % 10 == 0 {
            guard.take();
        }
        drop(acquire);
        if guard.is_none() {
            let start = Instant::now();
            guard = Some(
                holder
                    .acquire(EX, STUCK)
                    .expect("a canceled wait does not keep the lock"),
            );
            slowest = slowest.max(start.elapsed());
        }
    }
    println!("free again after {slowest:?} at most");
    guard.take();
    lock.acquire(EX, STUCK).unwrap().release().unwrap();
    #[cfg(target_os = "linux")]
    {
        // Threads that were still returning when the next wait began.
        println!("{} threads", engine_threads());
        assert!(engine_threads() <= 32);
    }
}

/// The same for callers that wait on their own threads and are canceled from another one.
#[test]
fn of_20_000_canceled_threads_none_is_lost_and_none_granted_to_nobody() {
    let _alone = alone();
    let dir = Dir::new();
    let (holder, lock) = (dir.lock(&Engine::new()), dir.lock(&Engine::new()));
    let waits = AtomicUsize::new(0);
    let ends = AtomicUsize::new(0);
    const WAITS: usize = 20_000;
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut random = numbers(2);
            while ends.load(Ordering::SeqCst) < WAITS {
                let guard = holder
                    .acquire(EX, STUCK)
                    .expect("a canceled wait does not keep the lock");
                let wait = ends.load(Ordering::SeqCst);
                let begun = || waits.load(Ordering::SeqCst) > wait || wait == WAITS;
                eventually("the next wait begins", begun);
                for _ in 0..random(6000) {
                    std::hint::spin_loop();
                }
                // While the lock is held, nothing else ends the wait; sometimes its grant does.
                let guard = Some(guard).filter(|_| random(10) > 0);
                eventually("the wait is canceled", || {
                    lock.cancel_waits();
                    ends.load(Ordering::SeqCst) > wait || wait == WAITS
                });
                drop(guard);
            }
        });
        for _ in 0..WAITS {
            waits.fetch_add(1, Ordering::SeqCst);
            match lock.acquire(EX, None) {
                Ok(guard) => drop(guard),
                Err(e) => assert!(e.is_canceled(), "{e}"),
            }
            ends.fetch_add(1, Ordering::SeqCst);
        }
    });
    lock.acquire(EX, STUCK).unwrap().release().unwrap();
}

#[test]
fn a_thousand_contended_files_are_served_by_the_threads_there_are() {
    let _alone = alone();
    let dir = Dir::new();
    let holder = Engine::new();
    let engine = Engine::builder().max_waiter_threads(100).build();
    let paths: Vec<_> = (0..1000).map(|i| dir.path(&i.to_string())).collect();
    let locks: Vec<_> = paths
        .iter()
        .map(|path| engine.open(path).unwrap())
        .collect();
    let open = |path| holder.open(path).unwrap().acquire(EX, None).unwrap();
    let guards: Vec<_> = paths.iter().map(open).collect();
    let waiters: Vec<_> = locks.iter().map(|lock| pending(lock, EX)).collect();
    // Two more keep time.
    #[cfg(target_os = "linux")]
    assert!(engine_threads() <= 102, "{} threads", engine_threads());
    drop(guards);
    for waiter in waiters {
        block_on(waiter).unwrap().release().unwrap();
    }
    #[cfg(target_os = "linux")]
    eventually("the threads end", || engine_threads() == 0);
}

/// However fast waits come and go, none stays behind.
#[cfg(target_os = "linux")]
#[test]
fn a_storm_of_waits_that_are_given_up_leaves_no_descriptors() {
    let _alone = alone();
    let dir = Dir::new();
    let (holder, lock) = (dir.lock(&Engine::new()), dir.lock(&Engine::new()));
    let _guard = holder.acquire(EX, None).unwrap();
    let before = descriptors();
    let mut most = 0;
    for _ in 0..20_000 {
        drop(pending(&lock, EX));
        most = most.max(descriptors() - before);
    }
    // One or two for each thread that is still returning, and the one that they are led to.
    println!("{most} descriptors, {} threads", engine_threads());
    assert!(most <= 2 * engine_threads() + 3, "{most} descriptors");
    // Count the threads, since the kernel's list of locks can lack one while others change.
    eventually("no thread waits", || engine_threads() == 0);
}

/// A wait inside one engine needs no tries, even if no thread can wait in the kernel.
#[test]
fn nothing_is_tried_while_the_lock_is_held_here() {
    let _alone = alone();
    let dir = Dir::new();
    let engine = Engine::builder().max_waiter_threads(0).build();
    let lock = dir.lock(&engine);
    let guard = lock.acquire(EX, None).unwrap();
    let waiting = pending(&lock, EX);
    thread::sleep(2 * QUIESCENT);
    drop(pending(&lock, EX));
    #[cfg(target_os = "linux")]
    assert_eq!(engine_threads(), 0, "the timer runs");
    guard.release().unwrap();
    block_on(waiting).unwrap().release().unwrap();
}

/// The program's signals are handled on its own threads.
#[cfg(target_os = "linux")]
#[test]
fn the_threads_of_the_engine_take_no_signal_but_the_one_that_wakes_them() {
    let _alone = alone();
    let dir = Dir::new();
    let (holder, lock) = (dir.lock(&Engine::new()), dir.lock(&Engine::new()));
    let _guard = holder.acquire(EX, None).unwrap();
    let mut waiting = lock.acquire_async(EX, STUCK);
    assert!(poll(&mut waiting).is_pending());
    eventually("it waits in the kernel", || {
        kernel_waiters(lock.path()) == 1
    });
    assert_eq!(engine_threads(), 2);
    for task in std::fs::read_dir("/proc/self/task").unwrap() {
        let status = std::fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        let field = |name| {
            status
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .unwrap()
                .trim()
        };
        if !field("Name:").starts_with("locket-") {
            continue;
        }
        let blocked = u64::from_str_radix(field("SigBlk:"), 16).unwrap();
        let blocks = |signal: i32| blocked & (1 << (signal - 1)) != 0;
        assert!(blocks(libc::SIGTERM) && blocks(libc::SIGINT) && blocks(libc::SIGCHLD));
        assert!(!blocks(libc::SIGSEGV));
        assert_eq!(blocks(libc::SIGSTKFLT), field("Name:") == "locket-clock");
    }
}

/// The timer thread stops when it has nothing to do, and starts again.
#[test]
fn a_timeout_after_a_long_rest_ends_the_wait() {
    let _alone = alone();
    let dir = Dir::new();
    let (holder, lock) = (dir.lock(&Engine::new()), dir.lock(&Engine::new()));
    let _guard = holder.acquire(EX, None).unwrap();
    for _ in 0..2 {
        let timeout = Duration::from_millis(10);
        let error = block_on(lock.acquire_async(EX, timeout)).unwrap_err();
        assert!(error.is_timeout(), "{error}");
        #[cfg(target_os = "linux")]
        eventually("the threads end", || engine_threads() == 0);
    }
}

#[test]
fn thousands_of_waiters_take_one_thread() {
    let _alone = alone();
    let dir = Dir::new();
    let (holder, lock) = (dir.lock(&Engine::new()), dir.lock(&Engine::new()));
    let guard = holder.acquire(EX, None).unwrap();
    let mut waiters: Vec<_> = (0..5_000).map(|_| pending(&lock, EX)).collect();
    #[cfg(target_os = "linux")]
    assert_eq!(engine_threads(), 1);
    // From the middle, the front and the back, while the rest keeps waiting.
    waiters.drain(1_000..2_000);
    waiters.drain(..10);
    waiters.truncate(2_000);
    guard.release().unwrap();
    for waiter in waiters {
        block_on(waiter).unwrap().release().unwrap();
    }
    #[cfg(target_os = "linux")]
    // More than one, if the next wait began while a thread was still waking a task.
    assert!(engine_threads() <= 8);
}

#[test]
fn without_helper_threads_tasks_are_still_served() {
    let _alone = alone();
    let dir = Dir::new();
    let lock = dir.lock(&Engine::builder().max_waiter_threads(0).build());
    let guard = dir.lock(&Engine::new()).acquire(EX, None).unwrap();
    let acquire = pending(&lock, EX);
    let dropped = pending(&lock, EX);
    guard.release().unwrap();
    drop(dropped);
    block_on(acquire).unwrap().release().unwrap();
    #[cfg(target_os = "linux")]
    eventually("the timer stops", || engine_threads() == 0);
}
