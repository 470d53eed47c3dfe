//! The promises, for the threads of one process: each with an engine of its own, which is to the
//! others like another process, and all in one engine. And what only threads can show.

#[path = "../common/mod.rs"]
mod common;
mod errors;
mod guards;
mod owners;
mod removal_and_cancellation;

use std::thread;
use std::time::{Duration, Instant};

use common::*;
use locket::{Engine, LockFile, LostReason, Options, State};

mod engines {
    use locket_test_support::stands::Engines;
    locket_test_support::promises!(Engines[#[cfg(feature = "sqlite")]]);
}

mod threads {
    use locket_test_support::stands::Threads;
    locket_test_support::promises!(Threads[#[cfg(feature = "sqlite")]]);
}

const NOW: Duration = Duration::ZERO;
const BROKEN: State = State::Lost(LostReason::Broken);

fn open(engine: &Engine, dir: &Dir, options: &Options) -> LockFile {
    engine.open_with(dir.path("lock"), options).unwrap()
}

/// The lock in an engine of its own, which is to every other like another process.
fn foreign(dir: &Dir, options: &Options) -> LockFile {
    open(&Engine::new(), dir, options)
}

/// Runs `test` in another thread, and passes on its result.
fn in_another_thread<R: Send>(test: impl FnOnce() -> R + Send) -> R {
    thread::scope(|scope| scope.spawn(test).join().unwrap())
}

/// The acquire times out, and no sooner than it should.
#[track_caller]
fn times_out(timeout: Duration, acquire: impl FnOnce() -> locket::Error) {
    let start = Instant::now();
    let error = acquire();
    assert!(error.is_timeout() && !error.is_would_block(), "{error}");
    let took = start.elapsed();
    assert!(took >= timeout && took < STUCK, "{took:?}");
}

/// The lock is free for anyone, and works.
#[track_caller]
fn is_free(dir: &Dir, options: &Options) {
    let lock = foreign(dir, options);
    assert!(!lock.is_locked().unwrap());
    lock.acquire(EX, NOW).unwrap().release().unwrap();
}
