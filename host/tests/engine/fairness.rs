//! Other processes get their turn, however many waiters an engine has of its own.

use std::sync::atomic::{AtomicBool, Ordering};
#[cfg(target_os = "linux")]
use std::sync::{Mutex, mpsc};
use std::time::Instant;

use locket::{LockFile, State};

use super::*;

#[test]
#[cfg(target_os = "linux")]
fn the_bounded_hand_off_lets_other_engines_in() {
    let dir = Dir::new();
    let mine = dir.lock(
        &Engine::builder()
            .hand_off(4, Duration::from_secs(60))
            .fairness_pause(Duration::ZERO, Duration::ZERO)
            .build(),
    );
    let other = dir.lock(&Engine::new());
    let first = mine.acquire(EX, None).unwrap();
    let foreign = {
        let other = other.clone();
        thread::spawn(move || other.acquire(EX, None).unwrap())
    };
    eventually("the other engine waits in the kernel", || {
        kernel_waiters(mine.path()) == 1
    });
    let mut waiters: Vec<_> = (0..20).map(|_| pending(&mine, EX)).collect();
    first.release().unwrap();
    // They are granted in a row, until the lock goes back to the kernel.
    let handed = waiters
        .iter_mut()
        .map_while(|waiter| match poll(waiter) {
            Poll::Ready(guard) => guard.unwrap().release().ok(),
            Poll::Pending => None,
        })
        .count();
    assert_eq!(handed, 4);
    let rest = thread::spawn(move || {
        for waiter in waiters.drain(handed..) {
            block_on(waiter).unwrap().release().unwrap();
        }
    });
    foreign.join().unwrap().release().unwrap();
    rest.join().unwrap();
}

/// Two engines with many waiters each give the lock back at every release. They alternate, because
/// each has its next waiter in the kernel's queue before it releases.
#[test]
#[cfg(target_os = "linux")]
fn the_next_waiter_has_its_place_before_the_lock_goes_back() {
    let dir = Dir::new();
    let engine = || {
        Engine::builder()
            .hand_off(0, Duration::ZERO)
            .fairness_pause(Duration::ZERO, Duration::ZERO)
            .build()
    };
    let locks = [dir.lock(&engine()), dir.lock(&engine())];
    let first = dir.lock(&Engine::new()).acquire(EX, None).unwrap();
    let (order, turns) = mpsc::channel();
    let mut threads = Vec::new();
    for i in 0..10 {
        for (name, lock) in locks.iter().enumerate() {
            let waiting = format!("{lock:?}");
            let (waiter, order) = (lock.clone(), order.clone());
            threads.push(thread::spawn(move || {
                // Half of them wait through a helper thread.
                let guard = match i % 2 {
                    0 => waiter.acquire(EX, None),
                    _ => block_on(waiter.acquire_async(EX, None)),
                };
                let guard = guard.unwrap();
                order.send(name).unwrap();
                // As long as waiters are left, each of the two engines has one in the kernel's queue.
                let left = 19 - 2 * i - name;
                eventually("the next waits", || {
                    kernel_waiters(waiter.path()) == left.min(2)
                });
                guard.release().unwrap();
            }));
            eventually("it is in the queue", || format!("{lock:?}") != waiting);
            eventually("it waits", || {
                kernel_waiters(lock.path()) == name.max(i.min(1)) + 1
            });
        }
    }
    first.release().unwrap();
    threads
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
    drop(order);
    assert!(turns.iter().eq((0..20).map(|i| i % 2)));
}

/// The bound on time ends the hand-off; the bound on the number of hand-offs is far away.
#[cfg(target_os = "linux")]
#[test]
fn long_holds_let_other_engines_in() {
    let dir = Dir::new();
    let time = Duration::from_millis(1);
    let mine = dir.lock(
        &Engine::builder()
            .hand_off(1000, time)
            .fairness_pause(Duration::ZERO, Duration::ZERO)
            .build(),
    );
    let other = dir.lock(&Engine::new());
    let mut guard = mine.acquire(EX, None).unwrap();
    let mut foreign = pending(&other, EX);
    eventually("it waits in the kernel", || {
        kernel_waiters(mine.path()) == 1
    });
    let mut next = pending(&mine, EX);
    // The first waiter is granted within the bound, which ends during its hold.
    let mut handed = 0;
    while poll(&mut foreign).is_pending() {
        thread::sleep(2 * time);
        guard.release().unwrap();
        if let Poll::Ready(granted) = poll(&mut next) {
            guard = granted.unwrap();
            handed += 1;
            next = pending(&mine, EX);
        } else {
            break;
        }
    }
    assert!(handed <= 2, "handed on {handed} times");
    block_on(foreign).unwrap().release().unwrap();
    block_on(next).unwrap().release().unwrap();
}

#[test]
fn a_polling_process_gets_the_lock_in_the_fairness_pause() {
    let dir = Dir::new();
    let (after, length) = (Duration::from_millis(20), Duration::from_secs(1));
    let busy = dir.lock(&Engine::builder().fairness_pause(after, length).build());
    let polls = dir.lock(&Engine::new());
    // A busy machine may miss the end of a pause, but not of each one.
    let failures = (0..5).map_while(|_| polls_in_a_pause(&busy, &polls, length).err());
    let failures: Vec<_> = failures.collect();
    assert!(failures.len() < 5, "{failures:?}");
}

/// What is wrong with a pause. It shows nothing if it may have ended before all was checked.
fn polls_in_a_pause(
    busy: &LockFile,
    polls: &LockFile,
    length: Duration,
) -> Result<(), &'static str> {
    let mut guard = busy.acquire(EX, STUCK).unwrap();
    let start = Instant::now();
    // The lock passes from waiter to waiter of this engine, sometimes through the kernel, until the
    // engine has held it for long enough. Then no waiter gets it.
    let (waiting, released) = loop {
        let mut next = pending(busy, EX);
        // The pause begins later.
        let released = Instant::now();
        guard.release().unwrap();
        guard = match std::iter::repeat_with(|| poll(&mut next))
            .find(|polled| polled.is_ready() || released.elapsed() > length / 3)
        {
            Some(Poll::Ready(guard)) => guard.unwrap(),
            _ => break (next, released),
        };
        assert!(start.elapsed() < STUCK, "there is no pause");
    };
    for _ in 0..2 {
        let polled = polls.try_acquire(EX).unwrap();
        let polled = polled.ok_or("the lock is not free during the pause")?;
        polled.release().unwrap();
        thread::sleep(QUIESCENT);
    }
    drop(waiting);
    // A single try takes the free lock; a waiter waits for the end of the pause.
    let tried = busy.try_acquire(EX).unwrap();
    drop(tried.ok_or("a single try does not get the lock")?);
    match busy.acquire(EX, QUIESCENT) {
        Ok(_) => return Err("a waiter does not wait for the end of the pause"),
        Err(late) => assert!(late.is_timeout(), "{late}"),
    }
    let took = released.elapsed();
    drop(busy.acquire(EX, STUCK).unwrap());
    match took > length * 9 / 10 {
        true => Err("it may have ended before"),
        false => Ok(()),
    }
}

/// The pause is short, so this thread may miss it.
#[test]
fn a_long_hold_is_followed_by_a_pause_by_default() {
    let dir = Dir::new();
    let lock = dir.lock(&Engine::new());
    eventually("an acquire waits although the lock is free", || {
        let guard = lock.acquire(EX, None).unwrap();
        thread::sleep(QUIESCENT);
        guard.release().unwrap();
        let mut next = lock.acquire_async(EX, None);
        let (waits, guard) = match poll(&mut next) {
            Poll::Ready(guard) => (false, guard),
            Poll::Pending => (true, block_on(next)),
        };
        guard.unwrap().release().unwrap();
        waits
    });
}

#[test]
fn a_reader_joins_one_that_stays_for_long() {
    let dir = Dir::new();
    let lock = dir.lock(&Engine::new());
    let first = lock.acquire(SH, None).unwrap();
    let start = std::time::Instant::now();
    // Until pauses have been due, and put off, several times.
    while start.elapsed() < QUIESCENT {
        lock.acquire(SH, STUCK).unwrap().release().unwrap();
        block_on(lock.acquire_async(SH, STUCK))
            .unwrap()
            .release()
            .unwrap();
    }
    first.release().unwrap();
}

#[test]
fn a_writer_of_another_engine_gets_its_turn_among_overlapping_readers() {
    let dir = Dir::new();
    let (after, length) = (Duration::from_millis(20), Duration::from_millis(5));
    let readers = dir.lock(&Engine::builder().fairness_pause(after, length).build());
    let writer = dir.lock(&Engine::new());
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut reading = readers.acquire(SH, None).unwrap();
            while !done.load(Ordering::Relaxed) {
                // If possible, the next reader joins before the previous one leaves.
                let mut next = readers.acquire_async(SH, None);
                let joined = poll(&mut next);
                drop(reading);
                reading = match joined {
                    Poll::Ready(guard) => guard.unwrap(),
                    Poll::Pending => block_on(next).unwrap(),
                };
            }
        });
        eventually("there is a reader", || readers.state() == State::Held);
        for _ in 0..3 {
            let written = writer.acquire(EX, STUCK);
            done.store(written.is_err(), Ordering::Relaxed);
            written
                .expect("the writer gets its turn")
                .release()
                .unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
}

/// One of the two locks is held at any moment, so whoever gives one back to wait for the other never
/// has both.
#[test]
#[cfg(target_os = "linux")]
fn busy_users_of_both_families_do_not_starve_native() {
    const TURNS: usize = 20;
    let dir = Dir::new();
    let native = dir.lock(&Engine::new());
    let (one_is_free, done) = (Mutex::new(()), AtomicBool::new(false));
    let windows = [const { std::sync::atomic::AtomicUsize::new(0) }; 2];
    thread::scope(|scope| {
        for (protocol, windows) in [Protocol::Flock, Protocol::Fcntl].into_iter().zip(&windows) {
            let options = Options::new().protocol(protocol);
            let lock = Engine::new().open_with(native.path(), &options).unwrap();
            let (one_is_free, done) = (&one_is_free, &done);
            scope.spawn(move || {
                let mut held = lock.acquire(EX, None).unwrap();
                while !done.load(Ordering::Relaxed) {
                    let free = one_is_free.lock().unwrap();
                    held.release().unwrap();
                    thread::sleep(Duration::from_millis(1));
                    let again = lock.try_acquire(EX).unwrap();
                    drop(free);
                    held = again.unwrap_or_else(|| lock.acquire(EX, None).unwrap());
                    windows.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        let end = Instant::now() + STUCK;
        let turns = std::iter::repeat_with(|| {
            // It does not ask before they are back from its last turn.
            let seen = windows
                .each_ref()
                .map(|windows| windows.load(Ordering::SeqCst));
            eventually("both are at work", || {
                let mut both = windows.iter().zip(seen);
                both.all(|(windows, seen)| windows.load(Ordering::SeqCst) > seen)
            });
            native.acquire(EX, end.saturating_duration_since(Instant::now()))
        });
        let turns = turns.take(TURNS).take_while(Result::is_ok).count();
        done.store(true, Ordering::Relaxed);
        assert_eq!(turns, TURNS);
    });
}
