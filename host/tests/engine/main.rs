//! What the engine adds to the promises: sharing, both lock families, waiting that leaves
//! nothing behind, files that vanish, holds that are lost, forks.

mod common;

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use common::*;
use locket::{Engine, LostReason, OnRelease, Options, Protocol, State};
#[cfg(target_os = "linux")]
use rustix::fs::{FlockOperation, fcntl_lock, flock};

fn ready<F: Future<Output = locket::Result<T>> + Unpin, T>(future: &mut F) -> T {
    match poll(future) {
        Poll::Ready(result) => result.unwrap(),
        Poll::Pending => panic!("still waits"),
    }
}

#[test]
fn readers_share_and_a_waiting_writer_is_not_overtaken() {
    let dir = Dir::new();
    let lock = dir.lock(&Engine::new());
    let first = lock.acquire(SH, None).unwrap();
    let second = lock.acquire(SH, Duration::ZERO).unwrap();
    let mut writer = pending(&lock, EX);
    let mut late = [pending(&lock, SH), pending(&lock, SH)];
    assert!(
        lock.try_acquire(SH).unwrap().is_none(),
        "a reader overtook the writer"
    );
    drop(first);
    assert!(poll(&mut writer).is_pending());
    drop(second);
    let writer = block_on(writer).unwrap();
    assert!(late.iter_mut().all(|reader| poll(reader).is_pending()));
    drop(writer);
    let readers = late.map(|reader| block_on(reader).unwrap());
    assert_eq!(lock.holder().unwrap().unwrap().mode, SH);
    drop(readers);
    assert!(!lock.is_locked().unwrap());
}

#[test]
fn a_canceled_writer_lets_the_readers_behind_it_join() {
    let dir = Dir::new();
    let lock = dir.lock(&Engine::new());
    let _reader = lock.acquire(SH, None).unwrap();
    let writer = pending(&lock, EX);
    let mut reader = pending(&lock, SH);
    drop(writer);
    let _joined = ready(&mut reader);
}

#[test]
fn engines_share_and_exclude_like_processes() {
    let dir = Dir::new();
    for protocol in KERNEL {
        let open = || {
            let options = Options::new().protocol(protocol);
            Engine::new().open_with(dir.path("lock"), &options).unwrap()
        };
        let (a, b) = (open(), open());
        let reader = a.acquire(SH, None).unwrap();
        b.acquire(SH, Duration::ZERO).unwrap().release().unwrap();
        assert!(b.try_acquire(EX).unwrap().is_none());
        assert_eq!(b.holder().unwrap().unwrap().mode, SH);
        reader.release().unwrap();
        let writer = a.acquire(EX, None).unwrap();
        assert!(b.try_acquire(SH).unwrap().is_none());
        assert_eq!(b.holder().unwrap().unwrap().mode, EX);
        assert!(!b.holder().unwrap().unwrap().is_self);
        assert!(a.holder().unwrap().unwrap().is_self);
        writer.release().unwrap();
    }
}

#[test]
#[cfg(target_os = "linux")]
fn native_excludes_both_families_and_is_excluded_by_both() {
    let dir = Dir::new();
    let lock = dir.lock(&Engine::new());
    let foreign = || {
        File::options()
            .read(true)
            .write(true)
            .open(dir.path("lock"))
            .unwrap()
    };

    let guard = lock.acquire(EX, None).unwrap();
    assert!(foreign().try_lock().is_err());
    assert!(fcntl_lock(foreign(), FlockOperation::NonBlockingLockExclusive).is_err());
    guard.release().unwrap();
    let guard = lock.acquire(SH, None).unwrap();
    foreign().try_lock_shared().unwrap();
    assert!(foreign().try_lock().is_err());
    assert!(fcntl_lock(foreign(), FlockOperation::NonBlockingLockExclusive).is_err());
    guard.release().unwrap();

    let file = foreign();
    flock(&file, FlockOperation::LockExclusive).unwrap();
    assert!(lock.try_acquire(EX).unwrap().is_none());
    assert!(lock.is_locked().unwrap());
    flock(&file, FlockOperation::Unlock).unwrap();
    fcntl_lock(&file, FlockOperation::LockExclusive).unwrap();
    assert!(lock.try_acquire(EX).unwrap().is_none());
    assert!(lock.is_locked().unwrap());
    fcntl_lock(&file, FlockOperation::Unlock).unwrap();
    assert!(!lock.is_locked().unwrap());
}

#[test]
#[cfg(target_os = "linux")]
fn waiting_for_one_family_does_not_hold_the_other() {
    let dir = Dir::new();
    let lock = dir.lock(&Engine::new());
    let file = File::options()
        .read(true)
        .write(true)
        .open(dir.path("lock"))
        .unwrap();
    fcntl_lock(&file, FlockOperation::LockExclusive).unwrap();
    let waiter = {
        let lock = lock.clone();
        thread::spawn(move || lock.acquire(EX, None).unwrap())
    };
    eventually("it waits for the record lock", || {
        kernel_waiters(lock.path()) == 1
    });
    // A second descriptor: closing it must not drop the record lock of this process.
    let other = std::mem::ManuallyDrop::new(File::open(dir.path("lock")).unwrap());
    flock(&*other, FlockOperation::NonBlockingLockExclusive).unwrap();
    flock(&*other, FlockOperation::Unlock).unwrap();
    fcntl_lock(&file, FlockOperation::Unlock).unwrap();
    waiter.join().unwrap().release().unwrap();
}

#[test]
#[cfg(target_os = "linux")]
fn the_bounded_hand_off_lets_other_engines_in() {
    let dir = Dir::new();
    let mine = dir.lock(
        &Engine::builder()
            .hand_off(4, Duration::from_secs(60))
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
    // In a row, until the lock goes back to the kernel.
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

/// Two engines with many waiters each, that give the lock back at every release: they alternate,
/// since each has its next waiter in the kernel's queue before it lets go.
#[test]
#[cfg(target_os = "linux")]
fn the_next_waiter_has_its_place_before_the_lock_goes_back() {
    let dir = Dir::new();
    let engine = || Engine::builder().hand_off(0, Duration::ZERO).build();
    let locks = [dir.lock(&engine()), dir.lock(&engine())];
    let first = dir.lock(&Engine::new()).acquire(EX, None).unwrap();
    let (order, turns) = mpsc::channel();
    let mut threads = Vec::new();
    for i in 0..10 {
        for (name, lock) in locks.iter().enumerate() {
            let waiting = format!("{lock:?}");
            let (waiter, order) = (lock.clone(), order.clone());
            threads.push(thread::spawn(move || {
                // Half of them by way of a helper thread.
                let guard = match i % 2 {
                    0 => waiter.acquire(EX, None),
                    _ => block_on(waiter.acquire_async(EX, None)),
                };
                let guard = guard.unwrap();
                order.send(name).unwrap();
                // As long as anybody is left, the other engine and this one are in line.
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

#[test]
fn who_polls_gets_a_chance_in_the_gap() {
    let dir = Dir::new();
    let (after, length) = (Duration::from_millis(20), Duration::from_secs(1));
    let busy = dir.lock(&Engine::builder().fairness_pause(after, length).build());
    let polls = dir.lock(&Engine::new());
    let mut guard = busy.acquire(EX, None).unwrap();
    let start = Instant::now();
    // It goes from hand to hand in here, sometimes by way of the kernel, until the engine has had
    // it for long enough. Then it goes to nobody.
    let waiting = loop {
        let mut next = pending(&busy, EX);
        guard.release().unwrap();
        let released = Instant::now();
        guard = match std::iter::repeat_with(|| poll(&mut next))
            .find(|polled| polled.is_ready() || released.elapsed() > length / 3)
        {
            Some(Poll::Ready(guard)) => guard.unwrap(),
            _ => break next,
        };
        assert!(start.elapsed() < STUCK, "no gap");
    };
    for _ in 0..2 {
        let polled = polls.try_acquire(EX).unwrap();
        polled.expect("it is left alone").release().unwrap();
        thread::sleep(QUIESCENT);
    }
    drop(waiting);
    // A single try takes what it finds; somebody who waits does so for the end of the gap.
    drop(busy.try_acquire(EX).unwrap().unwrap());
    assert!(busy.acquire(EX, QUIESCENT).unwrap_err().is_timeout());
    drop(busy.acquire(EX, STUCK).unwrap());
}

#[test]
fn a_writer_elsewhere_gets_its_turn_in_the_gap_of_overlapping_readers() {
    let dir = Dir::new();
    let (after, length) = (Duration::from_millis(20), Duration::from_millis(5));
    let readers = dir.lock(&Engine::builder().fairness_pause(after, length).build());
    let writer = dir.lock(&Engine::new());
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut reading = readers.acquire(SH, None).unwrap();
            while !done.load(Ordering::Relaxed) {
                // The next joins before the one before leaves, wherever that is possible.
                let mut next = readers.acquire_async(SH, None);
                let joined = poll(&mut next);
                drop(reading);
                reading = match joined {
                    Poll::Ready(guard) => guard.unwrap(),
                    Poll::Pending => block_on(next).unwrap(),
                };
            }
        });
        eventually("somebody reads", || readers.state() == State::Held);
        for _ in 0..3 {
            let written = writer.acquire(EX, STUCK);
            done.store(written.is_err(), Ordering::Relaxed);
            written.expect("a turn").release().unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
#[cfg(target_os = "linux")]
fn the_signal_can_be_chosen_unless_it_is_taken() {
    use std::io::ErrorKind;
    let dir = Dir::new();
    let signal = libc::SIGUSR2;
    let lock = dir.lock(&Engine::builder().wake_signal(signal).unwrap().build());
    let holder = dir.lock(&Engine::new());
    let guard = holder.acquire(EX, None).unwrap();
    thread::scope(|scope| {
        let canceled = scope.spawn(|| lock.acquire(EX, STUCK));
        eventually("it waits", || kernel_waiters(lock.path()) == 1);
        let caught = || {
            let status = std::fs::read_to_string("/proc/self/status").unwrap();
            let mask = status
                .lines()
                .find_map(|l| l.strip_prefix("SigCgt:"))
                .unwrap();
            u64::from_str_radix(mask.trim(), 16).unwrap() & (1 << (signal - 1)) != 0
        };
        assert!(caught());
        lock.cancel_waits();
        assert!(canceled.join().unwrap().unwrap_err().is_canceled());
    });
    drop(guard);
    // Twice the same is no conflict, and these are.
    assert!(Engine::builder().wake_signal(signal).is_ok());
    let taken = |number| Engine::builder().wake_signal(number).unwrap_err().kind();
    assert_eq!(
        taken(libc::SIGSEGV),
        ErrorKind::AddrInUse,
        "the runtime handles stack overflows"
    );
    assert_eq!(taken(libc::SIGKILL), ErrorKind::InvalidInput);
    assert_eq!(taken(libc::SIGRTMIN() + 9), ErrorKind::InvalidInput);
    assert_eq!(taken(1000), ErrorKind::InvalidInput);
}

#[test]
fn a_file_removed_while_waiting_moves_the_waiters_to_its_successor() {
    let dir = Dir::new();
    let path = dir.path("lock");
    if !removes_open_files(&dir) {
        return;
    }
    let (holder, lock) = (dir.lock(&Engine::new()), dir.lock(&Engine::new()));
    let guard = holder.acquire(EX, None).unwrap();
    let (sent, received) = mpsc::channel();
    let blocked = {
        let (lock, sent) = (lock.clone(), sent.clone());
        thread::spawn(move || {
            let guard = lock.acquire(EX, None).unwrap();
            sent.send(()).unwrap();
            guard
        })
    };
    eventually("it waits", || format!("{lock:?}").contains("waiting: 1"));
    let task = pending(&lock, EX);
    std::fs::remove_file(&path).unwrap();
    let newcomer = dir.lock(&Engine::new()).acquire(EX, None).unwrap();
    let lost = guard.release().unwrap_err();
    assert_eq!(lost.lost_reason(), Some(LostReason::Broken));
    assert!(
        received.recv_timeout(QUIESCENT).is_err(),
        "two holders of one path"
    );
    newcomer.release().unwrap();
    drop(blocked.join().unwrap());
    block_on(task).unwrap().release().unwrap();
    assert!(path.exists());
}

#[test]
fn a_file_replaced_by_rename_is_a_new_lock() {
    let dir = Dir::new();
    let lock = dir.lock(&Engine::new());
    let old = lock.acquire(EX, None).unwrap();
    File::create(dir.path("new")).unwrap();
    match std::fs::rename(dir.path("new"), dir.path("lock")) {
        Err(e) if cfg!(windows) => {
            return not_tested(format_args!("an open file is not replaced here: {e}"));
        }
        renamed => renamed.unwrap(),
    }
    let new = dir
        .lock(&Engine::new())
        .acquire(EX, Duration::ZERO)
        .unwrap();
    assert!(old.release().unwrap_err().is_lost());
    assert!(lock.try_acquire(EX).unwrap().is_none());
    assert!(dir.lock(&Engine::new()).try_acquire(EX).unwrap().is_none());
    new.release().unwrap();
}

#[test]
fn removal_spares_files_that_are_not_its_own() {
    let dir = Dir::new();
    let options = Options::new().on_release(OnRelease::Remove);
    let lock = Engine::new().open_with(dir.path("lock"), &options).unwrap();
    let guard = lock.acquire(EX, None).unwrap();
    std::fs::rename(dir.path("lock"), dir.path("away")).unwrap();
    std::fs::write(dir.path("lock"), "somebody else's").unwrap();
    guard.release().unwrap();
    assert_eq!(
        std::fs::read_to_string(dir.path("lock")).unwrap(),
        "somebody else's"
    );
    assert!(dir.path("away").exists());
    // A reader leaves the file to the other readers.
    let reader = lock.acquire(SH, None).unwrap();
    let foreign_lock = dir.lock(&Engine::new());
    let foreign = foreign_lock.acquire(SH, None).unwrap();
    reader.release().unwrap();
    assert!(dir.path("lock").exists());
    foreign.release().unwrap();
    lock.acquire(SH, None).unwrap().release().unwrap();
    drop((foreign_lock, lock));
    assert!(!dir.path("lock").exists());
}

/// What the standard library locks is what the engine locks.
#[test]
fn the_locks_of_the_standard_library_are_excluded() {
    let dir = Dir::new();
    let options = Options::new().protocol(Protocol::Flock);
    let lock = Engine::new().open_with(dir.path("lock"), &options).unwrap();
    let file = File::options().read(true).write(true).open(lock.path());
    let file = file.unwrap();
    let guard = lock.acquire(EX, None).unwrap();
    assert!(file.try_lock_shared().is_err());
    guard.release().unwrap();
    let guard = lock.acquire(SH, None).unwrap();
    assert!(file.try_lock().is_err());
    file.try_lock_shared().unwrap();
    file.unlock().unwrap();
    guard.release().unwrap();
    file.try_lock().unwrap();
    assert!(lock.try_acquire(SH).unwrap().is_none());
    let waiter = {
        let lock = lock.clone();
        thread::spawn(move || lock.acquire(EX, STUCK).unwrap())
    };
    let task = lock.acquire_async(SH, STUCK);
    thread::sleep(QUIESCENT);
    file.unlock().unwrap();
    waiter.join().unwrap().release().unwrap();
    block_on(task).unwrap().release().unwrap();
    file.lock().unwrap();
    assert!(lock.acquire(EX, QUIESCENT).unwrap_err().is_timeout());
}

#[test]
fn contents_and_times_of_the_file_stay_as_they_are() {
    let dir = Dir::new();
    std::fs::write(dir.path("lock"), "precious").unwrap();
    let before = std::fs::metadata(dir.path("lock")).unwrap();
    for protocol in KERNEL {
        let options = Options::new().protocol(protocol);
        let lock = Engine::new().open_with(dir.path("lock"), &options).unwrap();
        let guard = lock.acquire(EX, None).unwrap();
        lock.acquire(SH, Duration::from_millis(1)).unwrap_err();
        guard.release().unwrap();
    }
    let after = std::fs::metadata(dir.path("lock")).unwrap();
    assert_eq!(
        std::fs::read_to_string(dir.path("lock")).unwrap(),
        "precious"
    );
    assert_eq!(before.modified().unwrap(), after.modified().unwrap());
}

#[test]
fn a_hold_past_its_time_is_taken_away_and_its_holder_learns_it() {
    let dir = Dir::new();
    let options = Options::new().max_hold(Some(Duration::from_millis(50)));
    let lock = Engine::new().open_with(dir.path("lock"), &options).unwrap();
    assert_eq!(lock.guarantee().ttl, Some(Duration::from_millis(50)));
    let guard = lock.acquire(EX, None).unwrap();
    let next = dir.lock(&Engine::new()).acquire(EX, STUCK).unwrap();
    assert_eq!(block_on(lock.lost()), LostReason::Expired);
    assert!(!guard.is_held());
    assert_eq!(lock.state(), State::Lost(LostReason::Expired));
    assert_eq!(
        guard.release().unwrap_err().lost_reason(),
        Some(LostReason::Expired)
    );
    assert_eq!(lock.state(), State::Unlocked);
    next.release().unwrap();
    // Released in time, it is not lost afterwards.
    lock.acquire(EX, None).unwrap().release().unwrap();
    let quick = lock.acquire(EX, None).unwrap();
    assert_eq!(lock.state(), State::Held);
    assert!(quick.is_held());
    quick.release().unwrap();
    assert_eq!(lock.state(), State::Unlocked);
}

#[test]
#[cfg(unix)]
#[expect(unsafe_code, reason = "fork has no safe binding")]
fn a_forked_child_cannot_touch_its_parents_locks() {
    let dir = Dir::new();
    let engine = Engine::new();
    let lock = dir.lock(&engine);
    let guard = lock.acquire(EX, None).unwrap();
    let mut waiting = pending(&lock, EX);
    // Granted, and not told yet.
    let other = engine.open(dir.path("other")).unwrap();
    let held = other.acquire(EX, None).unwrap();
    let granted = pending(&other, EX);
    held.release().unwrap();
    // SAFETY: the child touches only what it inherited, and leaves by `_exit`.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let refused = lock.release().is_err()
            && lock.acquire(EX, Duration::ZERO).is_err()
            && engine.open(dir.path("lock")).is_err()
            && matches!(poll(&mut waiting), Poll::Ready(Err(_)));
        lock.cancel_waits();
        drop((guard, waiting, granted));
        // SAFETY: ends the process.
        unsafe { libc::_exit(if refused { 0 } else { 1 }) };
    }
    let mut status = 0;
    // SAFETY: `status` is valid for writes.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    assert_eq!(status, 0, "the child was not refused");
    let foreign = Engine::new();
    assert!(dir.lock(&foreign).try_acquire(EX).unwrap().is_none());
    let foreign_other = foreign.open(dir.path("other")).unwrap();
    assert!(foreign_other.try_acquire(EX).unwrap().is_none());
    block_on(granted).unwrap().release().unwrap();
    guard.release().unwrap();
    block_on(waiting).unwrap().release().unwrap();
    assert!(dir.lock(&foreign).try_acquire(EX).unwrap().is_some());
}

#[test]
fn release_takes_no_grant_of_which_nobody_was_told() {
    let dir = Dir::new();
    let lock = dir.lock(&Engine::new());
    let _first = lock.acquire(SH, None).unwrap();
    let writer = pending(&lock, EX);
    let reader = pending(&lock, SH);
    drop(writer);
    // The reader is granted and does not know.
    lock.release().unwrap();
    assert!(lock.release().unwrap_err().is_not_owner() || lock.is_locked().unwrap());
    block_on(reader).unwrap().release().unwrap();
    assert!(!lock.is_locked().unwrap());
}

#[test]
fn a_waker_that_panics_harms_nobody_else() {
    struct Panics;
    impl std::task::Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("on purpose");
        }
    }
    let dir = Dir::new();
    let lock = dir.lock(&Engine::new());
    for in_kernel in [false, true] {
        // Woken by a thread of the test, and by one of the engine.
        let holder = if in_kernel {
            dir.lock(&Engine::new())
        } else {
            lock.clone()
        };
        let guard = holder.acquire(SH, None).unwrap();
        let mut panics = lock.acquire_async(EX, None);
        let waker = Waker::from(Arc::new(Panics));
        let mut cx = Context::from_waker(&waker);
        assert!(std::pin::Pin::new(&mut panics).poll(&mut cx).is_pending());
        guard.release().unwrap();
        block_on(panics).unwrap().release().unwrap();
        // Everything goes on as before.
        let guard = holder.acquire(EX, None).unwrap();
        let next = pending(&lock, EX);
        guard.release().unwrap();
        block_on(next).unwrap().release().unwrap();
    }
}

#[test]
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "nobody else swaps descriptors")]
fn promise_12_a_release_that_fails_leaves_the_lock_free() {
    use std::os::fd::{AsFd, AsRawFd};
    for waiters in 0..2 {
        let dir = Dir::new();
        let lock = dir.lock(&Engine::new());
        let guard = lock.acquire(EX, None).unwrap();
        let waiting: Vec<_> = (0..waiters).map(|_| pending(&lock, SH)).collect();
        let flags = rustix::fs::OFlags::PATH;
        let path = rustix::fs::open(lock.path(), flags, rustix::fs::Mode::empty()).unwrap();
        // Keeps the lock from getting free before the release.
        let kept = guard.as_fd().try_clone_to_owned().unwrap();
        // SAFETY: both descriptors are open; that of the engine stays so, as another file.
        unsafe { libc::dup2(path.as_raw_fd(), guard.as_fd().as_raw_fd()) };
        let error = guard.release().unwrap_err();
        drop(kept);
        assert!(error.is_io(), "{error}");
        assert!(error.to_string().contains(lock.path().to_str().unwrap()));
        for waiter in waiting {
            block_on(waiter).unwrap().release().unwrap();
        }
        assert_eq!(lock.state(), State::Unlocked);
        dir.lock(&Engine::new())
            .acquire(EX, Duration::ZERO)
            .unwrap()
            .release()
            .unwrap();
        lock.acquire(EX, Duration::ZERO).unwrap().release().unwrap();
    }
}

#[test]
fn a_task_is_woken_once_for_its_grant() {
    let dir = Dir::new();
    // However slowly this runs, nobody else is let in between.
    let lock = dir.lock(&Engine::builder().hand_off(32, STUCK).build());
    let guard = lock.acquire(EX, None).unwrap();
    let count = Arc::new(Count::default());
    let waker = Waker::from(Arc::clone(&count));
    let mut acquires: Vec<_> = (0..3).map(|_| lock.acquire_async(EX, None)).collect();
    for acquire in &mut acquires {
        let mut cx = Context::from_waker(&waker);
        assert!(std::pin::Pin::new(acquire).poll(&mut cx).is_pending());
    }
    guard.release().unwrap();
    assert_eq!(count.0.load(Ordering::SeqCst), 1);
    for mut acquire in acquires {
        drop(ready(&mut acquire));
    }
    assert_eq!(count.0.load(Ordering::SeqCst), 3);
}

/// Neither joins the other, nor is one sent into the kernel where the two would not meet.
#[cfg(target_os = "linux")]
#[test]
fn readers_of_different_protocols_do_not_mix() {
    let dir = Dir::new();
    let engine = Engine::new();
    let open = |protocol| {
        let options = Options::new().protocol(protocol);
        engine.open_with(dir.path("lock"), &options).unwrap()
    };
    let (flock, native) = (open(Protocol::Flock), open(Protocol::Native));
    let guard = flock.acquire(SH, None).unwrap();
    let mut both = pending(&native, SH);
    thread::sleep(QUIESCENT);
    assert!(poll(&mut both).is_pending());
    guard.release().unwrap();
    let both = block_on(both).unwrap();
    // What excludes more serves those who need less.
    flock
        .acquire(SH, Duration::ZERO)
        .unwrap()
        .release()
        .unwrap();
    both.release().unwrap();
}

/// A child that inherited the descriptor, say.
#[cfg(target_os = "linux")]
#[test]
fn a_hold_that_somebody_else_unlocked_is_lost_to_the_next() {
    let dir = Dir::new();
    let options = Options::new().protocol(Protocol::Flock);
    let engine = Engine::new();
    let lock = engine.open_with(dir.path("lock"), &options).unwrap();
    for mode in [EX, SH] {
        let guard = lock.acquire(EX, None).unwrap();
        // In the kernel's queue, beside the hold: it wants something else, or must not wait for
        // a hand-off any more.
        let first = pending(&lock, SH);
        eventually("it waits in the kernel", || {
            kernel_waiters(lock.path()) == 1
        });
        flock(std::os::fd::AsFd::as_fd(&guard), FlockOperation::Unlock).unwrap();
        let first = block_on(first).unwrap();
        assert!(guard.release().unwrap_err().is_lost());
        // It is the only one who holds it.
        let mut other = lock.acquire_async(mode, None);
        match poll(&mut other) {
            Poll::Ready(guard) => assert!(guard.is_ok() && mode == SH),
            Poll::Pending => assert_eq!(mode, EX),
        }
        first.release().unwrap();
    }
    // And the engine goes on, with other files too.
    let (a, b) = (engine.open(dir.path("b")).unwrap(), Engine::new());
    let held = b.open(dir.path("b")).unwrap().acquire(EX, None).unwrap();
    let waiting = pending(&a, EX);
    eventually("it waits in the kernel", || kernel_waiters(a.path()) == 1);
    held.release().unwrap();
    block_on(waiting).unwrap().release().unwrap();
}

/// By the bound on time: the one on number is far away.
#[cfg(target_os = "linux")]
#[test]
fn long_holds_let_other_engines_in() {
    let dir = Dir::new();
    let time = Duration::from_millis(1);
    let mine = dir.lock(&Engine::builder().hand_off(1000, time).build());
    let other = dir.lock(&Engine::new());
    let mut guard = mine.acquire(EX, None).unwrap();
    let mut foreign = pending(&other, EX);
    eventually("it waits in the kernel", || {
        kernel_waiters(mine.path()) == 1
    });
    let mut next = pending(&mine, EX);
    // The first of them comes within the bound; during its hold the bound ends.
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

#[cfg(target_os = "linux")]
#[test]
fn a_cancellation_reaches_waits_that_move_from_file_to_file() {
    let dir = Dir::new();
    let lock = dir.lock(&Engine::new());
    for _ in 0..300 {
        let holder = Engine::new();
        let guard = dir.lock(&holder).acquire(EX, STUCK).unwrap();
        thread::scope(|scope| {
            let wait = scope.spawn(|| lock.acquire(EX, STUCK).map(drop));
            eventually("it waits", || kernel_waiters(lock.path()) == 1);
            // The file is gone, and another is in its place, locked.
            std::fs::remove_file(lock.path()).unwrap();
            let another = dir.lock(&holder).acquire(EX, STUCK).unwrap();
            drop(guard);
            lock.cancel_waits();
            match wait.join().unwrap() {
                Err(e) => assert!(e.is_canceled(), "{e}"),
                Ok(()) => panic!("somebody else holds it"),
            }
            drop(another);
        });
    }
}

/// What an executor that parks its thread relies on.
#[test]
fn a_blocking_acquire_leaves_the_wake_ups_of_its_thread_alone() {
    let dir = Dir::new();
    let lock = dir.lock(&Engine::new());
    let guard = lock.acquire(EX, None).unwrap();
    let (done, finished) = mpsc::channel();
    let waiter = {
        let lock = lock.clone();
        thread::spawn(move || {
            lock.acquire(EX, None).unwrap().release().unwrap();
            thread::park();
            done.send(()).unwrap();
        })
    };
    eventually("it waits", || format!("{lock:?}").contains("waiting: 1"));
    waiter.thread().unpark();
    thread::sleep(QUIESCENT);
    guard.release().unwrap();
    finished.recv_timeout(STUCK).expect("the wake-up is there");
    waiter.join().unwrap();
}

#[cfg(target_os = "linux")]
#[test]
fn a_slow_waker_keeps_no_other_file_waiting() {
    use std::sync::Mutex;
    use std::task::Wake;
    struct Slow(Mutex<mpsc::Receiver<()>>);
    impl Wake for Slow {
        fn wake(self: Arc<Self>) {
            let _ = self.0.lock().unwrap().recv();
        }
    }
    let dir = Dir::new();
    let (mine, other) = (Engine::new(), Engine::new());
    let open = |engine: &Engine, name| engine.open(dir.path(name)).unwrap();
    let [a, b] = ["a", "b"].map(|name| open(&other, name).acquire(EX, None).unwrap());
    let (finish, slow) = mpsc::channel();
    let waker = Waker::from(Arc::new(Slow(Mutex::new(slow))));
    let lock = open(&mine, "a");
    let mut slow = lock.acquire_async(EX, None);
    let mut cx = Context::from_waker(&waker);
    assert!(std::pin::Pin::new(&mut slow).poll(&mut cx).is_pending());
    eventually("it waits in the kernel", || kernel_waiters(a.path()) == 1);
    a.release().unwrap();
    eventually("it is granted", || lock.state() == State::Held);
    let lock = open(&mine, "b");
    let next = pending(&lock, EX);
    eventually("it waits in the kernel", || kernel_waiters(b.path()) == 1);
    b.release().unwrap();
    block_on(next).unwrap().release().unwrap();
    finish.send(()).unwrap();
    drop(slow);
}

#[test]
fn a_break_does_not_end_the_wait_of_who_was_just_granted_the_lock() {
    let dir = Dir::new();
    let engine = Engine::new();
    let lock = dir.lock(&engine);
    let guard = lock.acquire(EX, None).unwrap();
    let mut next = pending(&lock, EX);
    drop(guard);
    assert_eq!(lock.state(), State::Held, "it is granted");
    lock.break_lock().unwrap();
    ready(&mut next).release().unwrap();
    assert!(lock.release().unwrap_err().is_not_locked());
}

/// What ends a thread's wait in the kernel comes before that begins, and has to come again.
#[test]
#[cfg(unix)]
fn a_timeout_that_is_over_before_the_wait_begins_ends_it() {
    each_kernel_protocol(|options| {
        let dir = Dir::new();
        let open = || Engine::new().open_with(dir.path("lock"), options).unwrap();
        let _guard = open().acquire(EX, STUCK).unwrap();
        let lock = open();
        let (done, told) = std::sync::mpsc::channel();
        thread::spawn(move || {
            for _ in 0..100 {
                let result = lock.acquire(EX, Duration::from_nanos(1));
                done.send(result.is_err_and(|e| e.is_timeout())).unwrap();
            }
        });
        for _ in 0..100 {
            assert!(told.recv_timeout(STUCK).expect("the end of the wait"));
        }
    });
}

#[test]
fn a_future_that_is_dropped_after_its_grant_gives_the_lock_back() {
    each_kernel_protocol(|options| {
        let dir = Dir::new();
        let open = || Engine::new().open_with(dir.path("lock"), options).unwrap();
        let lock = open();
        let guard = lock.acquire(EX, None).unwrap();
        let next = pending(&lock, EX);
        drop(guard);
        assert_eq!(lock.state(), State::Held, "it is granted");
        drop(next);
        assert_eq!(lock.state(), State::Unlocked);
        assert!(open().try_acquire(EX).unwrap().is_some());
    });
}
