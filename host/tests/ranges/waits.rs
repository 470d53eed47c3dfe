//! Waiting for a range, and giving up.

use std::pin::pin;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use locket_test_support::process::Process;

use super::*;

/// A process that holds a range by the classic locks of POSIX until it is told to release it.
const HOLDER: &str = r#"
import fcntl, os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
fcntl.lockf(fd, fcntl.LOCK_EX, 10, 5)
print('held', flush=True)
sys.stdin.readline()
fcntl.lockf(fd, fcntl.LOCK_UN, 10, 5)
print('free', flush=True)
sys.stdin.readline()
"#;

fn file(dir: &Dir) -> std::path::PathBuf {
    dir.path("file")
}

#[test]
fn a_wait_ends_when_the_range_is_free() {
    let dir = Dir::new();
    let (one, two) = two(&dir);
    one.lock(EX, 0..10, None).unwrap();
    two.lock(EX, 20..30, None).unwrap();
    let waiter = two.clone();
    let wait = thread::spawn(move || waiter.lock(EX, 5..25, STUCK));
    eventually("it waits", || kernel_waiters(&file(&dir)) == 1);
    // What it holds meanwhile stays, and can be changed.
    assert_eq!(two.held(), [held(EX, 20..30)]);
    two.lock(SH, 28..30, None).unwrap();
    one.unlock(5..).unwrap();
    wait.join().unwrap().unwrap();
    assert_eq!(two.held(), [held(EX, 5..28), held(SH, 28..30)]);
    assert_eq!(one.held(), [held(EX, 0..5)]);
}

#[test]
fn a_process_with_classic_locks_takes_part() {
    let dir = Dir::new();
    let (one, _) = two(&dir);
    let mut process = Process::python(HOLDER, &file(&dir));
    assert_eq!(process.answer(), "held");
    assert_eq!(one.query(SH, ..).unwrap(), Some(held(EX, 5..15)));
    assert!(one.try_lock(EX, 15..).unwrap());
    let mut wait = pin!(one.lock_async(EX, 14.., STUCK));
    assert!(poll(&mut wait).is_pending());
    eventually("it waits", || kernel_waiters(&file(&dir)) == 1);
    assert_eq!(process.ask("release"), "free");
    block_on(wait).unwrap();
    assert_eq!(one.held(), [held(EX, 14..)]);
}

#[test]
fn a_wait_that_gives_up_changes_nothing() {
    let dir = Dir::new();
    let (one, two) = two(&dir);
    one.lock(EX, 0..10, None).unwrap();
    two.lock(SH, 10..20, None).unwrap();
    two.lock(SH, 30..40, None).unwrap();
    let moment = Duration::from_millis(20);
    assert!(two.lock(EX, 0..20, moment).unwrap_err().is_timeout());
    assert!(
        block_on(two.lock_async(EX, 0..20, moment))
            .unwrap_err()
            .is_timeout()
    );
    assert!(
        two.lock(EX, 0..20, Duration::ZERO)
            .unwrap_err()
            .is_would_block()
    );
    let wait = two.lock_async(EX, 0..20, None);
    let mut wait = Box::pin(wait);
    assert!(poll(&mut wait).is_pending());
    eventually("it waits", || kernel_waiters(&file(&dir)) == 1);
    drop(wait);
    eventually("it waits no more", || kernel_waiters(&file(&dir)) == 0);
    assert_eq!(two.held(), [held(SH, 10..20), held(SH, 30..40)]);
    // The kernel says so, too, once the thread has returned.
    eventually("the thread has returned", || engine_threads() == 0);
    assert!(!one.try_lock(EX, 15..16).unwrap() && !one.try_lock(EX, 35..36).unwrap());
    one.unlock(..).unwrap();
    assert!(one.try_lock(SH, ..).unwrap());
}

/// Such as where no thread can be started.
#[test]
fn tasks_wait_without_a_thread() {
    let dir = Dir::new();
    let engine = Engine::builder().max_waiter_threads(0).build();
    let open = || engine.open_ranges(file(&dir)).unwrap();
    let (one, two) = (open(), open());
    one.lock(EX, 0..10, None).unwrap();
    let mut wait = pin!(two.lock_async(EX, 5..15, STUCK));
    assert!(poll(&mut wait).is_pending());
    assert_eq!(kernel_waiters(&file(&dir)), 0);
    one.unlock(..).unwrap();
    block_on(wait).unwrap();
    let moment = Duration::from_millis(20);
    assert!(
        block_on(one.lock_async(SH, .., moment))
            .unwrap_err()
            .is_timeout()
    );
    let mut wait = pin!(one.lock_async(SH, .., None));
    assert!(poll(&mut wait).is_pending());
    one.cancel_waits();
    assert!(block_on(wait).unwrap_err().is_canceled());
    assert_eq!(one.held(), []);
}

/// A task that is not polled must not be granted the range long after its time.
#[test]
fn the_time_of_a_task_ends_though_it_is_not_polled() {
    let dir = Dir::new();
    let (one, two) = two(&dir);
    one.lock(EX, 0..10, None).unwrap();
    let mut wait = pin!(two.lock_async(EX, 0..10, Duration::from_millis(50)));
    assert!(poll(&mut wait).is_pending());
    eventually("its thread gives up", || kernel_waiters(&file(&dir)) == 0);
    one.unlock(..).unwrap();
    assert!(one.try_lock(EX, ..).unwrap());
    assert!(block_on(wait).unwrap_err().is_timeout());
}

#[test]
fn waits_are_canceled_by_the_owner_and_by_the_engine() {
    let dir = Dir::new();
    let engine = Engine::new();
    let open = || engine.open_ranges(file(&dir)).unwrap();
    let (one, two) = (open(), open());
    one.lock(EX, .., None).unwrap();
    for by_engine in [false, true] {
        let waiter = two.clone();
        let blocking = thread::spawn(move || waiter.lock(SH, 3..4, None));
        let mut task = pin!(two.lock_async(SH, 5..6, None));
        assert!(poll(&mut task).is_pending());
        eventually("both wait", || kernel_waiters(&file(&dir)) == 2);
        if by_engine {
            engine.cancel_all();
        } else {
            two.cancel_waits();
        }
        assert!(blocking.join().unwrap().unwrap_err().is_canceled());
        assert!(block_on(task).unwrap_err().is_canceled());
    }
    engine.shut_down();
    assert!(two.lock(SH, 3..4, None).unwrap_err().is_canceled());
    assert!(
        two.lock(SH, 3..4, Duration::ZERO)
            .unwrap_err()
            .is_would_block()
    );
    one.unlock(..).unwrap();
    two.lock(SH, 3..4, None).unwrap();
}

/// As by a deadline and a cancellation at once. The helper that returns once must not count twice.
#[test]
fn a_wait_that_is_canceled_many_times_leaves_later_ones_alone() {
    let dir = Dir::new();
    let engine = Engine::new();
    let open = || engine.open_ranges(file(&dir)).unwrap();
    let (one, two) = (open(), open());
    one.lock(EX, .., None).unwrap();
    for _ in 0..10 {
        let mut task = pin!(two.lock_async(SH, 5..6, None));
        assert!(poll(&mut task).is_pending());
        eventually("it waits", || kernel_waiters(&file(&dir)) == 1);
        (0..100).for_each(|_| two.cancel_waits());
        assert!(block_on(task).unwrap_err().is_canceled());
    }
    eventually("the helpers end", || engine_threads() == 0);
    let mut task = pin!(two.lock_async(SH, 5..6, None));
    assert!(poll(&mut task).is_pending());
    eventually("it waits", || kernel_waiters(&file(&dir)) == 1);
    one.unlock(..).unwrap();
    block_on(task).unwrap();
}

/// Threads and tasks change a few bytes of one file, and give up at random: nobody is ever in
/// another's range, and at the end nothing is left.
#[test]
fn owners_exclude_each_other_whatever_gives_up() {
    use std::sync::atomic::{AtomicI64, Ordering};
    const BYTES: usize = 4;
    let dir = Dir::new();
    let engine = Engine::builder().max_waiter_threads(2).build();
    let inside: Arc<[AtomicI64; BYTES]> = Arc::default();
    let work = |number: u64| {
        let (engine, inside, path) = (engine.clone(), Arc::clone(&inside), file(&dir));
        thread::spawn(move || {
            let ranges = engine.open_ranges(path).unwrap();
            let mut random = number;
            let mut locked = 0;
            for _ in 0..400 {
                random = random
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                let byte = (random >> 33) % BYTES as u64;
                let timeout = Duration::from_micros((random >> 40) % 300);
                let answer = match number % 2 {
                    0 => ranges.lock(EX, byte..=byte, timeout),
                    _ => block_on(ranges.lock_async(EX, byte..=byte, timeout)),
                };
                let Ok(()) = answer else {
                    continue;
                };
                locked += 1;
                let inside = &inside[usize::try_from(byte).unwrap()];
                assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                thread::yield_now();
                assert_eq!(inside.fetch_sub(1, Ordering::SeqCst), 1);
                ranges.unlock(byte..=byte).unwrap();
                assert_eq!(ranges.held(), []);
            }
            locked
        })
    };
    let threads: Vec<_> = (0..6).map(work).collect();
    let locked: u32 = threads
        .into_iter()
        .map(|thread| thread.join().unwrap())
        .sum();
    println!("{locked} of 2400");
    assert!(locked > 100);
    let last = engine.open_ranges(file(&dir)).unwrap();
    eventually("everything is free", || last.try_lock(EX, ..).unwrap());
}

/// A dropped task can be granted the range at that moment. Then its owner has what it had before.
#[test]
fn a_task_that_is_dropped_around_the_grant_leaves_what_was_before() {
    let dir = Dir::new();
    let (one, two) = two(&dir);
    two.lock(SH, 0..5, None).unwrap();
    for round in 0..300_u64 {
        one.lock(EX, 5..10, STUCK).unwrap();
        let mut wait = Box::pin(two.lock_async(EX, 0..10, None));
        assert!(poll(&mut wait).is_pending());
        let holder = one.clone();
        let release = thread::spawn(move || holder.unlock(..).unwrap());
        for _ in 0..round % 50 {
            thread::yield_now();
        }
        drop(wait);
        release.join().unwrap();
        assert_eq!(two.held(), [held(SH, 0..5)]);
        eventually("the grant is given back", || one.try_lock(SH, ..).unwrap());
        one.unlock(..).unwrap();
    }
}
