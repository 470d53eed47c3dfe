//! Guests in a process that forks.
#![expect(unsafe_code, reason = "fork has no safe binding")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use locket::sandbox::{Hooks, Request, Tenant};
use locket::{LockFile, LostReason, Options, State};

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

/// Forks. The child is killed if it hangs.
fn fork() -> Forked {
    // SAFETY: the child touches only what it inherited, and leaves by `_exit`.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "{}", std::io::Error::last_os_error());
    if child == 0 {
        // SAFETY: ends the process if it hangs.
        unsafe { libc::alarm(u32::try_from(STUCK.as_secs()).unwrap()) };
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

/// Keeps a mutex busy, which a child may inherit locked, and ends a child in which it is called.
struct Busy {
    parent: u32,
    ends: Mutex<usize>,
}

impl Busy {
    fn note(&self) {
        if std::process::id() != self.parent {
            // SAFETY: ends the process.
            unsafe { libc::_exit(1) };
        }
        let mut ends = self.ends.lock().unwrap();
        *ends += 1;
        thread::yield_now();
    }
}

impl Hooks for Busy {
    fn released(&self, _: &Request<'_>, _: Duration) {
        self.note();
    }

    fn lost(&self, _: &Request<'_>, _: LostReason, _: Duration) {
        self.note();
    }

    fn abandoned(&self, _: &Request<'_>, _: Duration) {
        self.note();
    }
}

/// Children drop a tenant with all of its guests while other threads of the parent are anywhere in
/// it, with its mutexes locked.
#[test]
fn a_forked_child_drops_a_tenant_and_nobody_notices() {
    let dir = Dir::new();
    let engine = Engine::builder().fair_shares(true).build();
    let busy = Arc::new(Busy {
        parent: std::process::id(),
        ends: Mutex::new(0),
    });
    let tenant = || {
        let limits = Limits::new().longest_hold(Some(Duration::from_millis(1)));
        let settings = Sandbox::builder(&engine).limits(limits);
        let settings = settings.hooks(Arc::clone(&busy) as _);
        let settings = settings.grant_dir(dir.0.path(), "/jobs", Rights::ALL);
        let limits = Limits::new().held(1000).waiters(1000).handles(1000);
        Tenant::builder(settings.unwrap()).limits(limits)
    };
    let shared = tenant().build();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let end = End(&done);
        for number in 0..3 {
            let (shared, done) = (&shared, &done);
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    let guest = shared.sandbox().build();
                    let lock = open_as(&guest, &format!("churn{}", number % 2), Protocol::Native);
                    let (first, second) = (lock.acquire(SH, STUCK), lock.acquire_async(EX, STUCK));
                    drop((first, second, shared.usage(), shared.guests()));
                }
            });
        }
        for number in 0..FORKS {
            let own = tenant();
            let own = if number % 2 == 0 {
                own.one_owner()
            } else {
                own
            }
            .build();
            let [one, other] = [&shared, &own].map(|tenant| tenant.sandbox().build());
            let locks = [&one, &other].map(|guest| open_as(guest, "held", Protocol::Native));
            let holds = locks.each_ref().map(|lock| lock.acquire(SH, STUCK));
            let mut wait = locks[1].acquire_async(EX, STUCK).unwrap();
            let _ = poll(&mut wait);
            let call = one.calls(&other).unwrap();
            let child = fork();
            if child.is_child() {
                for tenant in [&shared, &own] {
                    assert!(tenant.guests().is_empty());
                    assert_eq!(tenant.usage(), locket::sandbox::Usage::default());
                    tenant.set_limits(None);
                    tenant.release_all();
                }
                assert!(one.holds().is_empty() && one.waits().is_empty());
                one.set_limits(Limits::new());
                assert!(!one.revoke("/jobs/held") && !other.revoke_grant("/jobs"));
                assert!(one.calls(&other).is_err());
                assert!(engine.snapshot().locks.is_empty());
                engine.shut_down();
                drop((call, wait, holds, locks, one, other, own));
                leave();
            }
            child.wait();
        }
        drop(end);
    });
    assert!(shared.guests().is_empty());
    let usage = shared.usage();
    assert_eq!((usage.handles, usage.held, usage.waiters), (0, 0, 0));
    assert!(*busy.ends.lock().unwrap() > FORKS);
    // The parent waits as before.
    let held = dir.lock(&engine).acquire(EX, STUCK).unwrap();
    let waits = pending(&dir.lock(&engine), EX);
    drop(held);
    drop(block_on(waits).unwrap());
}
