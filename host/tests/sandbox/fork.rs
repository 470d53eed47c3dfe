//! Guests in a process that forks.
#![expect(unsafe_code, reason = "fork has no safe binding")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use locket::{LockFile, Options, State};

use super::*;

const FORKS: usize = 300;

/// Ends the threads of the test, even if it panics.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The child, in the parent; none in the child.
struct Forked(Option<libc::pid_t>);

/// Forks. The child is killed if it does not end within two seconds.
fn fork() -> Forked {
    // SAFETY: the child touches only what it inherited, and leaves by `_exit`.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "{}", std::io::Error::last_os_error());
    if child == 0 {
        // SAFETY: ends the process if it hangs.
        unsafe { libc::alarm(2) };
    }
    Forked((child > 0).then_some(child))
}

/// Ends the child.
fn leave() -> ! {
    // SAFETY: ends the process.
    unsafe { libc::_exit(0) }
}

impl Forked {
    fn is_child(&self) -> bool {
        self.0.is_none()
    }

    /// Waits for the end of the child, and checks that it was not killed.
    fn wait(self) {
        let child = self.0.unwrap();
        let mut status = 0;
        // SAFETY: `status` is valid for writes.
        assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
        assert!(!libc::WIFSIGNALED(status), "the child hung: {status}");
        assert_eq!(status, 0);
    }
}

/// An existence lock of this process, in an engine.
fn soft(engine: &Engine, dir: &Dir, name: &str) -> LockFile {
    let options = Options::new().protocol(Protocol::Soft);
    engine.open_with(dir.path(name), &options).unwrap()
}

#[test]
fn a_forked_child_drops_what_it_inherited_and_its_parent_does_not_notice() {
    let dir = Dir::new();
    let (engine, foreign) = (Engine::new(), Engine::new());
    let limits = Limits::new().longest_hold(Some(STUCK));
    // The parent holds one existence lock throughout, and waits for another.
    let kept = soft(&engine, &dir, "kept");
    let kept_guard = kept.acquire(EX, STUCK).unwrap();
    let busy = soft(&foreign, &dir, "busy").acquire(EX, STUCK).unwrap();
    let awaited = soft(&engine, &dir, "busy");
    let waits = pending(&awaited, EX);
    let parents = ((kept_guard, kept), (waits, awaited), busy);
    let done = AtomicBool::new(false);
    let ((kept_guard, kept), (waits, _awaited), busy) = thread::scope(|scope| {
        let end = End(&done);
        for _ in 0..4 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    drop(guest(&engine, dir.0.path(), Limits::new()));
                }
            });
        }
        for i in 0..2 {
            let (name, limits) = (format!("held{i}"), limits.clone());
            let (engine, dir, done) = (&engine, &dir, &done);
            scope.spawn(move || {
                let guest = guest(engine, dir.0.path(), limits);
                while !done.load(Ordering::Relaxed) {
                    let [kernel, name] = [Protocol::Native, Protocol::Soft].map(|protocol| {
                        let lock = open_as(&guest, &format!("{name}-{protocol}"), protocol);
                        let loss = lock.lost().unwrap();
                        (lock.acquire(EX, STUCK).unwrap(), loss, lock)
                    });
                    drop((kernel, name));
                }
            });
        }
        for _ in 0..FORKS {
            let guest = guest(&engine, dir.0.path(), limits.clone());
            let one = open_as(&guest, "one", Protocol::Native);
            let two = open_as(&guest, "two", Protocol::Mkdir);
            let three = open_as(&guest, "busy", Protocol::Soft);
            let holds = [one.acquire(EX, STUCK), two.acquire(EX, STUCK)].map(Result::unwrap);
            let mut wait = three.acquire_async(EX, STUCK).unwrap();
            assert!(poll(&mut wait).is_pending());
            let loss = two.lost().unwrap();
            let own = Engine::new();
            let alone = soft(&own, &dir, "alone").acquire(EX, STUCK).unwrap();
            let child = fork();
            if child.is_child() {
                // With the parent's own locks too, so that their queues and watches are dropped here.
                drop(parents);
                drop((alone, own));
                drop((holds, wait, loss, [one, two, three], guest));
                leave();
            }
            child.wait();
        }
        drop(end);
        parents
    });
    // The parent's watches still work: it learns of this loss only through one.
    assert_eq!(kept.state(), State::Held);
    fs::rename(dir.path("kept"), dir.path("elsewhere")).unwrap();
    fs::write(dir.path("kept"), "another").unwrap();
    eventually("the loss is reported", || kept.state() != State::Held);
    assert!(kept_guard.release().unwrap_err().is_lost());
    busy.release().unwrap();
    block_on(waits).unwrap().release().unwrap();
    is_woken_at_once(&engine, &foreign, &dir);
}

/// Checks that a release elsewhere wakes a waiter for an existence lock, and not the timer.
fn is_woken_at_once(engine: &Engine, foreign: &Engine, dir: &Dir) {
    /// The time from the start of a wait to the first try by the timer.
    const RECHECK_INTERVAL: Duration = Duration::from_millis(200);
    let (ours, theirs) = (soft(engine, dir, "busy"), soft(foreign, dir, "busy"));
    let mut times = Vec::new();
    while times.iter().all(|time| *time >= RECHECK_INTERVAL) {
        assert!(times.len() < 20, "{times:?}");
        let held = theirs.acquire(EX, STUCK).unwrap();
        let start = Instant::now();
        let waits = pending(&ours, EX);
        held.release().unwrap();
        block_on(waits).unwrap().release().unwrap();
        times.push(start.elapsed());
    }
}
