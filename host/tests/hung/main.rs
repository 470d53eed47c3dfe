//! What hangs holds up nothing else: a file system that does not answer, a transaction that stays open,
//! a directory that somebody has locked. Where it is, a call may hang with it. Everywhere else timeouts
//! end waits, and locks are granted, while it still hangs.
#![cfg(target_os = "linux")]

#[path = "../common/mod.rs"]
mod common;
mod crowd;
mod directory;
mod file_system;
mod guards;
mod same_file;
mod transaction;

use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use common::*;
use locket::{Engine, LockFile};
use locket_test_support::fuse;

/// The timeout of waits that nothing may hold up.
const BRIEF: Duration = Duration::from_millis(100);

#[test]
#[ignore = "started by other tests"]
fn daemon() {
    fuse::daemon::serve();
}

/// Runs `call`, which must be over although something hangs for as long as the test wants.
#[track_caller]
fn must_end<R: Send + 'static>(what: &str, call: impl FnOnce() -> R + Send + 'static) -> R {
    let (done, ended) = mpsc::channel();
    thread::spawn(move || done.send(call()));
    let result = ended.recv_timeout(AT_ONCE);
    result.unwrap_or_else(|e| panic!("{what}: {e}, while something else hangs"))
}

/// A lock of `engine` that another engine holds, on a file system that answers.
struct Elsewhere {
    dir: Dir,
    engine: Engine,
    lock: LockFile,
    guard: Option<locket::Guard>,
}

impl Elsewhere {
    fn new(engine: &Engine) -> Self {
        let dir = Dir::new();
        Self {
            engine: engine.clone(),
            lock: dir.lock(engine),
            guard: Some(dir.lock(&Engine::new()).acquire(EX, STUCK).unwrap()),
            dir,
        }
    }

    /// Checks that waits of tasks and of threads time out, that locks are granted and given back, and
    /// that a waiter gets the lock when it becomes free.
    #[track_caller]
    fn goes_on(mut self) {
        let lock = self.lock.clone();
        must_end("the timeout of a task", move || {
            let start = Instant::now();
            let late = block_on(lock.acquire_async(EX, BRIEF)).unwrap_err();
            println!("a task: {:?} late", start.elapsed().saturating_sub(BRIEF));
            assert!(late.is_timeout(), "{late}");
        });
        let lock = self.lock.clone();
        must_end("the timeout of a thread", move || {
            let late = lock.acquire(EX, BRIEF).unwrap_err();
            assert!(late.is_timeout(), "{late}");
        });
        let free = self.engine.open(self.dir.path("free")).unwrap();
        must_end("an acquire of a free lock", move || {
            free.acquire(EX, STUCK).unwrap().release().unwrap();
        });
        let waits = pending(&self.lock, EX);
        self.guard.take().unwrap().release().unwrap();
        must_end("the grant to a waiter", move || {
            block_on(waits).unwrap().release().unwrap();
        });
    }
}

/// Checks that the lock is free, and excludes others.
#[track_caller]
fn is_sound(engine: &Engine, path: &Path) {
    let (lock, other) = (
        engine.open(path).unwrap(),
        Engine::new().open(path).unwrap(),
    );
    let guard = lock.acquire(EX, STUCK).unwrap();
    assert!(other.try_acquire(EX).unwrap().is_none(), "two holders");
    let waits = pending(&other, EX);
    guard.release().unwrap();
    let guard = block_on(waits).unwrap();
    assert!(lock.try_acquire(EX).unwrap().is_none(), "two holders");
    guard.release().unwrap();
}
