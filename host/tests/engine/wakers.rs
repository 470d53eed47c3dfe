//! How waiting tasks and threads are woken.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Wake, Waker};

#[cfg(target_os = "linux")]
use locket::State;

use super::*;

#[test]
fn a_task_is_woken_once_for_its_grant() {
    let dir = Dir::new();
    let lock = dir.lock(&that_hands_on());
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

#[test]
fn a_waker_that_panics_harms_no_other_waiter() {
    struct Panics;
    impl Wake for Panics {
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
        // The engine still works.
        let guard = holder.acquire(EX, None).unwrap();
        let next = pending(&lock, EX);
        guard.release().unwrap();
        block_on(next).unwrap().release().unwrap();
    }
}

/// Takes until the sender is gone or sends, if that ever happens.
struct Slow(Mutex<mpsc::Receiver<()>>);

impl Wake for Slow {
    fn wake(self: Arc<Self>) {
        let _ = self.0.lock().unwrap().recv_timeout(2 * STUCK);
    }
}

#[test]
fn a_slow_waker_delays_no_timeout_of_another_file() {
    let dir = Dir::new();
    let (mine, other) = (Engine::new(), Engine::new());
    let open = |engine: &Engine, name| engine.open(dir.path(name)).unwrap();
    let names = ["a", "b", "c"];
    let _held = names.map(|name| open(&other, name).acquire(EX, None).unwrap());
    // Two are slow, so that the thread that stands in for the first needs another one.
    let (finish, wakers): (Vec<_>, Vec<_>) = (0..2)
        .map(|_| {
            let (finish, slow) = mpsc::channel();
            (finish, Waker::from(Arc::new(Slow(Mutex::new(slow)))))
        })
        .unzip();
    let mut slow = Vec::new();
    for (name, waker) in names.iter().zip(&wakers) {
        let mut acquire = open(&mine, name).acquire_async(EX, QUIESCENT);
        let mut cx = Context::from_waker(waker);
        assert!(std::pin::Pin::new(&mut acquire).poll(&mut cx).is_pending());
        slow.push(acquire);
    }
    // One of the timeouts is set before the wakers are woken, the other while they are busy.
    let lock = open(&mine, "c");
    let (asked, ended) = mpsc::channel();
    let waits = thread::spawn(move || {
        for _ in 0..2 {
            let result = block_on(lock.acquire_async(EX, 2 * QUIESCENT));
            asked.send(result.unwrap_err().is_timeout()).unwrap();
        }
    });
    for _ in 0..2 {
        let timed_out = ended.recv_timeout(STUCK);
        assert!(timed_out.expect("the timeouts do not wait for the wakers"));
    }
    drop(finish);
    waits.join().unwrap();
}

#[cfg(target_os = "linux")]
#[test]
fn a_slow_waker_keeps_no_other_file_waiting() {
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

/// Executors that park their thread rely on this.
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
    finished
        .recv_timeout(STUCK)
        .expect("the wake-up is not lost");
    waiter.join().unwrap();
}
