//! The orders in which a few threads can get at one queue: granted, timed out, called off, dropped.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p locket-host --test interleavings`
//! `RUSTFLAGS="--cfg shuttle" cargo test -p locket-host --test interleavings`
//!
//! The first model checker runs each test once for every interleaving of its threads at their mutexes,
//! with at most so many preemptions where it would take too long otherwise. The second goes through
//! as many as `SHUTTLE_SCHEDULES` says, by chance, with more threads too, and says by which seed. The
//! locks are real; what waits for one in the kernel tries it in a loop instead, since all threads of
//! the model share one of the system's. Time does not pass: a timeout may run out at any moment. A
//! lost wake-up is a deadlock, which the checker finds; a double grant is a writer that is not alone.
#![cfg(any(loom, shuttle))]

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use checker::sync::atomic::AtomicUsize;
use checker::sync::atomic::Ordering::SeqCst;
use checker::thread;
use locket::{Engine, Guard, LockFile, Mode};
#[cfg(loom)]
use loom as checker;
#[cfg(shuttle)]
use shuttle as checker;

const EX: Mode = Mode::Exclusive;
const SH: Mode = Mode::Shared;
const SOME_TIME: Duration = Duration::from_secs(3600);

/// A lock, and what it protects: a place that readers may share, and a writer has for himself.
struct World {
    lock: LockFile,
    inside: AtomicUsize,
}

const WRITER: usize = 1000;

impl World {
    fn write(&self, guard: &Guard) {
        assert_eq!(guard.mode(), EX);
        assert_eq!(self.inside.fetch_add(WRITER, SeqCst), 0, "not alone");
        self.inside.fetch_sub(WRITER, SeqCst);
    }

    fn read(&self, guard: &Guard) {
        assert_eq!(guard.mode(), SH);
        assert!(self.inside.fetch_add(1, SeqCst) < WRITER, "beside a writer");
        self.inside.fetch_sub(1, SeqCst);
    }

    fn acquire(&self) {
        let guard = self.lock.acquire(EX, None).unwrap();
        self.write(&guard);
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        thread::park();
    }
}

/// Checks `run` in every interleaving, or in many. Afterwards the lock is free.
fn model(preemptions: impl Into<Option<usize>>, run: impl Fn(&Arc<World>) + Send + Sync + 'static) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lock");
    let count = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counter = Arc::clone(&count);
    check(preemptions.into(), move || {
        counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        // Does the same whatever time it is, and comes to the end of a hand-off.
        let engine = Engine::builder()
            .hand_off(1, Duration::MAX)
            .fairness_pause(Duration::ZERO, Duration::ZERO)
            .build();
        let world = Arc::new(World {
            lock: engine.open(&path).unwrap(),
            inside: AtomicUsize::new(0),
        });
        run(&world);
        // Not by a try: a wait that was called off at the moment of its grant may still be on its
        // way back.
        world.acquire();
    });
    println!(
        "{} interleavings",
        count.load(std::sync::atomic::Ordering::Relaxed)
    );
}

#[cfg(loom)]
fn check(preemptions: Option<usize>, run: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions;
    builder.check(run);
}

/// A schedule that fails is printed, and can be run again by [`shuttle::replay`].
#[cfg(shuttle)]
fn check(_: Option<usize>, run: impl Fn() + Send + Sync + 'static) {
    use shuttle::scheduler::RandomScheduler;
    let number = |name| {
        std::env::var(name)
            .ok()
            .map(|n| n.parse().expect("a number"))
    };
    let schedules = number("SHUTTLE_SCHEDULES").unwrap_or(1000);
    let scheduler = match number("SHUTTLE_SEED") {
        Some(seed) => RandomScheduler::new_from_seed(seed as u64, schedules),
        None => RandomScheduler::new(schedules),
    };
    shuttle::Runner::new(scheduler, shuttle::Config::new()).run(run);
}

fn spawn(world: &Arc<World>, run: impl FnOnce(&World) + Send + 'static) -> thread::JoinHandle<()> {
    let world = Arc::clone(world);
    thread::spawn(move || run(&world))
}

#[test]
fn three_threads_take_turns() {
    model(4, |world| {
        let threads = [spawn(world, World::acquire), spawn(world, World::acquire)];
        world.acquire();
        for thread in threads {
            thread.join().unwrap();
        }
    });
}

#[test]
fn a_task_and_a_thread_take_turns() {
    model(None, |world| {
        let task = spawn(world, |world| {
            let guard = block_on(world.lock.acquire_async(EX, None)).unwrap();
            world.write(&guard);
        });
        world.acquire();
        task.join().unwrap();
    });
}

#[test]
fn a_dropped_future_takes_no_grant_with_it() {
    model(3, |world| {
        let guard = world.lock.acquire(EX, None).unwrap();
        let dropped = spawn(world, |world| {
            let mut acquire = world.lock.acquire_async(EX, None);
            let polled =
                std::pin::Pin::new(&mut acquire).poll(&mut Context::from_waker(Waker::noop()));
            if let Poll::Ready(guard) = polled {
                world.write(&guard.unwrap());
            }
        });
        let other = spawn(world, World::acquire);
        world.write(&guard);
        drop(guard);
        dropped.join().unwrap();
        other.join().unwrap();
    });
}

#[test]
fn a_timeout_is_a_grant_or_an_error_and_never_both() {
    model(None, |world| {
        let guard = world.lock.acquire(EX, None).unwrap();
        let timed = spawn(world, |world| {
            match block_on(world.lock.acquire_async(EX, SOME_TIME)) {
                Ok(guard) => world.write(&guard),
                Err(e) => assert!(e.is_timeout(), "{e}"),
            }
        });
        world.write(&guard);
        drop(guard);
        timed.join().unwrap();
    });
}

#[test]
fn a_canceled_wait_is_a_grant_or_an_error_and_never_both() {
    model(None, |world| {
        let guard = world.lock.acquire(EX, None).unwrap();
        let canceled = spawn(world, |world| match world.lock.acquire(EX, None) {
            Ok(guard) => world.write(&guard),
            Err(e) => assert!(e.is_canceled(), "{e}"),
        });
        world.lock.cancel_waits();
        world.write(&guard);
        drop(guard);
        canceled.join().unwrap();
    });
}

#[test]
fn readers_and_a_writer_take_turns() {
    model(4, |world| {
        let reader = spawn(world, |world| {
            let guard = world.lock.acquire(SH, None).unwrap();
            world.read(&guard);
        });
        let writer = spawn(world, World::acquire);
        let guard = world.lock.acquire(SH, None).unwrap();
        world.read(&guard);
        drop(guard);
        reader.join().unwrap();
        writer.join().unwrap();
    });
}

#[test]
fn a_lock_is_released_by_its_guard_or_its_handle_and_never_twice() {
    model(5, |world| {
        let guard = world.lock.acquire(EX, None).unwrap();
        world.write(&guard);
        let other = spawn(world, World::acquire);
        let through = spawn(world, |world| {
            if let Err(e) = world.lock.release() {
                // The other thread may have been granted it, without knowing yet.
                assert!(e.is_not_locked() || e.is_not_owner(), "{e}");
            }
        });
        drop(guard);
        other.join().unwrap();
        through.join().unwrap();
    });
}

/// More than can be gone through in every order.
#[cfg(shuttle)]
#[test]
fn many_threads_and_tasks_take_turns() {
    model(None, |world| {
        let guard = world.lock.acquire(EX, None).unwrap();
        let mut threads = Vec::new();
        for _ in 0..2 {
            threads.push(spawn(world, World::acquire));
            threads.push(spawn(world, |world| {
                let guard = block_on(world.lock.acquire_async(SH, None)).unwrap();
                world.read(&guard);
            }));
            threads.push(spawn(world, |world| {
                match block_on(world.lock.acquire_async(EX, SOME_TIME)) {
                    Ok(guard) => world.write(&guard),
                    Err(e) => assert!(e.is_timeout(), "{e}"),
                }
            }));
            threads.push(spawn(world, |world| {
                let mut acquire = world.lock.acquire_async(EX, None);
                let _ =
                    std::pin::Pin::new(&mut acquire).poll(&mut Context::from_waker(Waker::noop()));
            }));
        }
        world.write(&guard);
        drop(guard);
        for thread in threads {
            thread.join().unwrap();
        }
    });
}
