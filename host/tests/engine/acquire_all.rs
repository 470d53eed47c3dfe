//! Several locks at once.

use std::fs;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};
use std::time::Instant;

use super::*;
use locket::{Guard, Mode};

/// The locks of the files `a`, `b` and so on.
fn locks<const N: usize>(dir: &Dir, engine: &Engine) -> [LockFile; N] {
    std::array::from_fn(|index| engine.open(dir.path(&name(index))).unwrap())
}

fn name(index: usize) -> String {
    ["a", "b", "c", "d"][index].to_owned()
}

fn all<const N: usize>(locks: &[LockFile; N], mode: Mode) -> [(&LockFile, Mode); N] {
    locks.each_ref().map(|lock| (lock, mode))
}

fn is_free(lock: &LockFile) -> bool {
    !lock.is_locked().unwrap()
}

#[test]
fn the_guards_are_in_the_order_of_the_locks_each_in_its_mode() {
    let dir = Dir::new();
    let engine = Engine::new();
    let [a, b, c] = &locks(&dir, &engine);
    let outside: [_; 3] = locks(&dir, &Engine::new());
    for order in [[a, b, c], [c, b, a], [b, c, a]] {
        let mode = |lock: &LockFile| if lock.path() == b.path() { SH } else { EX };
        let named = order.map(|lock| (lock, mode(lock)));
        let guards = engine.acquire_all(named, None).unwrap();
        let got: Vec<_> = guards
            .iter()
            .map(|guard| (guard.path(), guard.mode()))
            .collect();
        assert_eq!(got, named.map(|(lock, mode)| (lock.path(), mode)));
        for (lock, shares) in outside.iter().zip([false, true, false]) {
            assert_eq!(lock.try_acquire(SH).unwrap().is_some(), shares);
            assert!(lock.try_acquire(EX).unwrap().is_none());
        }
        for guard in guards {
            guard.release().unwrap();
        }
    }
    assert!(engine.acquire_all([], None).unwrap().is_empty());
    assert!(outside.iter().all(is_free));
}

#[test]
fn what_is_in_the_way_is_named_and_nothing_is_kept() {
    let dir = Dir::new();
    // What it gives back after a slow try is free for it at once.
    let engine = that_hands_on();
    let locks: [_; 3] = locks(&dir, &engine);
    for holder in [&engine, &Engine::new()] {
        for held in self::locks::<3>(&dir, holder) {
            let guard = held.acquire(SH, None).unwrap();
            for timeout in [Duration::ZERO, Duration::from_millis(80)] {
                let started = Instant::now();
                let error = engine.acquire_all(all(&locks, EX), timeout).unwrap_err();
                let task = engine.acquire_all_async(all(&locks, EX), timeout);
                let in_task = block_on(task).unwrap_err();
                assert!(started.elapsed() >= 2 * timeout);
                for error in [error, in_task] {
                    assert_eq!(error.path(), held.path());
                    assert_eq!(error.is_would_block(), timeout.is_zero(), "{error}");
                    assert_eq!(error.is_timeout(), !timeout.is_zero(), "{error}");
                }
                assert_eq!(locks.iter().filter(|lock| is_free(lock)).count(), 2);
            }
            drop(guard);
        }
    }
}

#[test]
fn a_lock_is_free_for_others_while_the_rest_is_awaited() {
    let dir = Dir::new();
    let (engine, other) = (Engine::new(), Engine::new());
    let locks: [_; 3] = locks(&dir, &engine);
    let outside: [_; 3] = self::locks(&dir, &other);
    for held in 0..3 {
        let guard = outside[held].acquire(EX, None).unwrap();
        let mut task = engine.acquire_all_async(all(&locks, EX), None);
        thread::scope(|scope| {
            let call = scope.spawn(|| engine.acquire_all(all(&locks, EX), STUCK).map(drop));
            assert!(poll(&mut task).is_pending());
            eventually("both wait for what is held", || {
                assert!(poll(&mut task).is_pending());
                waiters(&locks[held]) == 2
            });
            // Another program in the other order, which holds what it has while it waits.
            for (index, lock) in outside
                .iter()
                .enumerate()
                .filter(|(index, _)| *index != held)
            {
                let guard = lock.acquire(EX, STUCK);
                drop(guard.unwrap_or_else(|e| panic!("{index}: {e}")));
            }
            drop(guard);
            drop(block_on(&mut task).unwrap());
            call.join().unwrap().unwrap();
        });
    }
    assert!(outside.iter().all(is_free));
}

#[test]
fn two_paths_to_one_file_are_one_lock_in_the_stronger_mode() {
    let dir = Dir::new();
    let engine = Engine::new();
    let [a, b] = &locks(&dir, &engine);
    fs::hard_link(a.path(), dir.path("link")).unwrap();
    let open = |protocol| {
        let options = Options::new().protocol(protocol);
        engine.open_with(dir.path("link"), &options).unwrap()
    };
    let link = engine.open(dir.path("link")).unwrap();
    for modes in [[SH, EX], [EX, SH], [EX, EX], [SH, SH]] {
        let named = [(a, modes[0]), (b, EX), (&link, modes[1])];
        let guards = engine.acquire_all(named, Duration::ZERO).unwrap();
        assert_eq!(guards.len(), 2);
        let shares = modes == [SH, SH];
        let outside = Engine::new().open(a.path()).unwrap();
        assert_eq!(outside.try_acquire(SH).unwrap().is_some(), shares);
    }
    if !cfg!(target_os = "linux") {
        return;
    }
    let flock = open(Protocol::Flock);
    let guards = engine
        .acquire_all([(&flock, EX), (a, SH)], Duration::ZERO)
        .unwrap();
    assert_eq!(guards.len(), 1);
    assert_eq!((guards[0].path(), guards[0].mode()), (a.path(), EX));
    drop(guards);
    let error = engine.acquire_all([(&flock, EX), (&open(Protocol::Fcntl), EX)], None);
    assert!(error.unwrap_err().is_unsupported());
}

#[test]
fn a_lock_of_another_engine_is_refused() {
    let dir = Dir::new();
    let [a] = &locks(&dir, &Engine::new());
    let error = Engine::new().acquire_all([(a, EX)], None).unwrap_err();
    assert!(error.is_unsupported(), "{error}");
    assert!(error.to_string().contains("another engine"), "{error}");
}

/// The path of one may lead to another file by the time it is granted, and even to the file of another
/// one.
#[cfg(unix)]
#[test]
fn files_that_are_replaced_while_they_are_awaited_are_locked_anew() {
    let dir = Dir::new();
    let engine = Engine::new();
    for (target, count) in [("new", 2), ("a", 1)] {
        let [a, b] = &locks(&dir, &engine);
        let guard = Engine::new()
            .open(b.path())
            .unwrap()
            .acquire(EX, None)
            .unwrap();
        let mut task = engine.acquire_all_async([(a, EX), (b, EX)], None);
        assert!(poll(&mut task).is_pending());
        if target == "new" {
            fs::write(dir.path(target), "").unwrap();
        }
        fs::hard_link(dir.path(target), dir.path("other name")).unwrap();
        fs::rename(dir.path("other name"), b.path()).unwrap();
        drop(guard);
        let guards = block_on(task).unwrap();
        assert_eq!(guards.len(), count, "{target}");
        for outside in locks::<2>(&dir, &Engine::new()) {
            assert!(outside.try_acquire(EX).unwrap().is_none());
        }
        for guard in guards {
            guard.release().unwrap();
        }
    }
}

#[test]
fn a_dropped_or_canceled_call_leaves_nothing_held() {
    let dir = Dir::new();
    let engine = Engine::new();
    let locks: [_; 3] = locks(&dir, &engine);
    let outside: [_; 3] = self::locks(&dir, &Engine::new());
    for held in 0..3 {
        let guard = outside[held].acquire(EX, None).unwrap();
        for cancel in [false, true] {
            let mut task = engine.acquire_all_async(all(&locks, EX), None);
            assert!(poll(&mut task).is_pending());
            if cancel {
                // Through one that is not awaited at the moment, too.
                locks[(held + 1) % 3].cancel_waits();
                locks[held].cancel_waits();
                assert!(block_on(&mut task).unwrap_err().is_canceled());
            } else {
                drop(task);
            }
            for (index, lock) in outside
                .iter()
                .enumerate()
                .filter(|(index, _)| *index != held)
            {
                let guard = lock.acquire(EX, STUCK);
                drop(guard.unwrap_or_else(|e| panic!("{index}: {e}")));
            }
        }
        drop(guard);
    }
    engine.shut_down();
    drop(engine.acquire_all(all(&locks, EX), None).unwrap());
    let _guard = outside[1].acquire(EX, None).unwrap();
    let error = engine.acquire_all(all(&locks, EX), None).unwrap_err();
    assert!(error.is_canceled(), "{error}");
}

#[test]
fn existence_locks_and_kernel_locks_are_acquired_together() {
    if cfg!(windows) {
        return;
    }
    let dir = Dir::new();
    let engine = Engine::new();
    let open = |engine: &Engine, name: &str, protocol| {
        let options = Options::new().protocol(protocol);
        engine.open_with(dir.path(name), &options).unwrap()
    };
    let opened = |engine: &Engine| {
        [
            open(engine, "a", Protocol::Link),
            open(engine, "b", Protocol::Native),
            open(engine, "c", Protocol::PidFile),
        ]
    };
    let (locks, outside) = (opened(&engine), opened(&Engine::new()));
    for held in 0..3 {
        let guard = outside[held].acquire(EX, None).unwrap();
        let error = engine
            .acquire_all(all(&locks, EX), Duration::ZERO)
            .unwrap_err();
        assert!(
            error.is_would_block() && error.path() == locks[held].path(),
            "{error}"
        );
        thread::scope(|scope| {
            let call = scope.spawn(|| engine.acquire_all(all(&locks, EX), STUCK));
            eventually("it waits for what is held", || waiters(&locks[held]) == 1);
            drop(guard);
            assert_eq!(call.join().unwrap().unwrap().len(), 3);
        });
    }
    assert!(outside.iter().all(is_free));
    // Two names of one entry.
    let again = open(&engine, "a", Protocol::Link);
    let guards = engine.acquire_all([(&again, EX), (&locks[0], EX)], Duration::ZERO);
    assert_eq!(guards.unwrap().len(), 1);
}

/// Threads and tasks of three engines name random locks in random orders, shared and not, with and without
/// timeouts, beside threads that hold one lock while they wait for the next, in one order of their own.
#[test]
fn no_order_deadlocks_and_exclusion_holds_under_stress() {
    const LOCKS: usize = 4;
    let dir = Dir::new();
    let end = Instant::now() + Duration::from_millis(1500);
    let holders: [AtomicI32; LOCKS] = Default::default();
    let granted = AtomicUsize::new(0);
    let use_all = |guards: &[Guard]| {
        let held = |guard: &Guard| {
            let file = guard.path().file_name().unwrap().as_encoded_bytes()[0];
            (&holders[usize::from(file - b'a')], guard.mode())
        };
        for (state, mode) in guards.iter().map(held) {
            match mode {
                Mode::Exclusive => assert_eq!(state.swap(-1, Ordering::SeqCst), 0, "not alone"),
                _ => assert!(state.fetch_add(1, Ordering::SeqCst) >= 0, "beside a writer"),
            }
        }
        thread::yield_now();
        for (state, mode) in guards.iter().map(held) {
            match mode {
                Mode::Exclusive => assert_eq!(state.swap(0, Ordering::SeqCst), -1, "not alone"),
                _ => assert!(state.fetch_sub(1, Ordering::SeqCst) > 0, "beside a writer"),
            }
        }
        granted.fetch_add(1, Ordering::Relaxed);
    };
    let engines: [Engine; 3] = std::array::from_fn(|_| Engine::new());
    thread::scope(|scope| {
        for index in 0..9_usize {
            let engine = &engines[index % 3];
            let (dir, use_all) = (&dir, &use_all);
            scope.spawn(move || {
                let locks: [_; LOCKS] = locks(dir, engine);
                let mut random = common::numbers(index as u64 * 7919 + 1);
                while Instant::now() < end {
                    let mut order: [usize; LOCKS] = std::array::from_fn(|index| index);
                    for last in (1..LOCKS).rev() {
                        order.swap(last, random(last as u64 + 1) as usize);
                    }
                    let count = 2 + random(LOCKS as u64 - 1) as usize;
                    let mode = |n| if n == 0 { SH } else { EX };
                    let named: Vec<_> = order[..count]
                        .iter()
                        .map(|index| (&locks[*index], mode(random(3))))
                        .collect();
                    let timeout = match random(4) {
                        0 => Some(Duration::from_micros(random(900))),
                        _ => None,
                    };
                    let result = match random(3) {
                        0 => engine.acquire_all(named, timeout),
                        1 => block_on(engine.acquire_all_async(named, timeout)),
                        _ => {
                            let mut task = engine.acquire_all_async(named, timeout);
                            let mut polls = random(6);
                            loop {
                                match poll(&mut task) {
                                    Poll::Ready(result) => break result,
                                    Poll::Pending if polls == 0 => break Ok(Vec::new()),
                                    Poll::Pending => thread::yield_now(),
                                }
                                polls -= 1;
                            }
                        }
                    };
                    match result {
                        Ok(guards) => use_all(&guards),
                        Err(e) => assert!(e.is_timeout() || e.is_would_block(), "{e}"),
                    }
                }
            });
        }
        // A program with an order of its own, which does not back off.
        let (dir, use_all) = (&dir, &use_all);
        scope.spawn(move || {
            let engine = Engine::new();
            let locks: [_; LOCKS] = locks(dir, &engine);
            while Instant::now() < end {
                let one_by_one = locks.iter().rev();
                let guards: Vec<_> = one_by_one
                    .map(|lock| lock.acquire(EX, STUCK).expect("the others back off"))
                    .collect();
                use_all(&guards);
            }
        });
    });
    println!("{} calls were granted", granted.load(Ordering::Relaxed));
    let engine = Engine::new();
    let locks: [_; LOCKS] = locks(&dir, &engine);
    let guards = engine.acquire_all(all(&locks, EX), STUCK).unwrap();
    assert_eq!(guards.len(), LOCKS, "nothing is left held");
}
