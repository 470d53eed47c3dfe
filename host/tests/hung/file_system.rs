//! A file system that stops, and comes back: waiters for locks elsewhere do not notice.

use locket::{Acquire, Guard};
use locket_test_support::fuse::{FileSystem, Switches};

use super::*;

/// A file system, and an engine that uses it.
pub(crate) struct Stand {
    pub(crate) files: FileSystem,
    pub(crate) engine: Engine,
    pub(crate) lock: LockFile,
    elsewhere: Elsewhere,
}

impl Stand {
    /// Nobody is there yet.
    pub(crate) fn new(switches: Switches) -> Option<Self> {
        println!("{switches:?}");
        let files = FileSystem::of_test("daemon", switches)?;
        let engine = Engine::new();
        Some(Self {
            lock: engine.open(files.path("lock")).unwrap(),
            elsewhere: Elsewhere::new(&engine),
            engine,
            files,
        })
    }

    /// Takes the lock with another engine.
    pub(crate) fn held_by_another(&self) -> Guard {
        let other = Engine::new().open(self.files.path("lock")).unwrap();
        other.acquire(EX, STUCK).unwrap()
    }

    /// A task of the engine that waits in the kernel for the lock.
    pub(crate) fn waits(&self, timeout: impl Into<Option<Duration>>) -> Acquire {
        let mut waits = self.lock.acquire_async(EX, timeout);
        assert!(poll(&mut waits).is_pending());
        eventually("a helper waits", || fuse::waiting_helpers() == 1);
        waits
    }

    /// Checks that nothing else is held up, and lets the file system come back.
    #[track_caller]
    pub(crate) fn others_go_on(mut self) -> Returned {
        self.elsewhere.goes_on();
        self.files.resume();
        Returned {
            files: self.files,
            engine: self.engine,
        }
    }
}

/// A file system that has come back.
pub(crate) struct Returned {
    files: FileSystem,
    engine: Engine,
}

impl Returned {
    #[track_caller]
    pub(crate) fn proves_sound(self) {
        is_sound(&self.engine, &self.files.path("lock"));
    }
}

/// Each behaviour of the file system.
pub(crate) fn stands() -> impl Iterator<Item = Stand> {
    Switches::ALL.into_iter().map_while(Stand::new)
}

#[test]
fn a_waiter_there_times_out() {
    for mut stand in stands() {
        let guard = stand.held_by_another();
        let waits = stand.waits(BRIEF);
        stand.files.stop();
        must_end("the timeout there", move || {
            let late = block_on(waits).unwrap_err();
            assert!(late.is_timeout(), "{late}");
        });
        let returned = stand.others_go_on();
        guard.release().unwrap();
        returned.proves_sound();
    }
}

#[test]
fn a_thread_that_waits_there_times_out() {
    for mut stand in stands() {
        let guard = stand.held_by_another();
        let lock = stand.lock.clone();
        let waits = thread::spawn(move || lock.acquire(EX, 10 * BRIEF).map(drop));
        eventually("it waits", || waiters(&stand.lock) == 1);
        stand.files.stop();
        let returned = stand.others_go_on();
        guard.release().unwrap();
        // If it was about to wait when the file system stopped, it may have got the lock since.
        if let Err(e) = waits.join().unwrap() {
            assert!(e.is_timeout(), "{e}");
        }
        returned.proves_sound();
    }
}

#[test]
fn a_future_that_waits_there_is_dropped() {
    for mut stand in stands() {
        let guard = stand.held_by_another();
        let waits = stand.waits(None);
        stand.files.stop();
        must_end("the drop", move || drop(waits));
        let returned = stand.others_go_on();
        guard.release().unwrap();
        returned.proves_sound();
    }
}

#[test]
fn waits_there_are_canceled() {
    for mut stand in stands() {
        let guard = stand.held_by_another();
        let (waits, lock) = (stand.waits(None), stand.lock.clone());
        stand.files.stop();
        must_end("the cancellation", move || {
            lock.cancel_waits();
            let canceled = block_on(waits).unwrap_err();
            assert!(canceled.is_canceled(), "{canceled}");
        });
        let returned = stand.others_go_on();
        guard.release().unwrap();
        returned.proves_sound();
    }
}

/// The daemon may not care that a wait was given up. Then the thread that waits does not return until
/// the lock is free there, and does nothing for others.
#[test]
fn a_wait_there_is_given_up_while_the_file_system_answers() {
    for stand in stands() {
        let guard = stand.held_by_another();
        drop(stand.waits(None));
        let returned = stand.others_go_on();
        guard.release().unwrap();
        returned.proves_sound();
    }
}

/// The releasing thread may hang, and nobody else.
#[test]
fn a_guard_there_is_released() {
    for mut stand in stands() {
        let guard = stand.lock.acquire(EX, STUCK).unwrap();
        stand.files.stop();
        let release = thread::spawn(move || guard.release());
        fuse::hang(1);
        let returned = stand.others_go_on();
        release.join().unwrap().unwrap();
        returned.proves_sound();
    }
}

/// The future was granted the lock, and has not been polled since.
#[test]
fn a_granted_future_there_is_dropped() {
    for mut stand in stands() {
        let guard = stand.held_by_another();
        let waits = stand.waits(None);
        guard.release().unwrap();
        eventually("it is granted", || waiters(&stand.lock) == 0);
        stand.files.stop();
        must_end("the drop", move || drop(waits));
        stand.others_go_on().proves_sound();
    }
}

#[test]
fn handles_and_engines_there_are_dropped() {
    for mut stand in stands() {
        let lock = Engine::new().open(stand.files.path("other")).unwrap();
        lock.acquire(EX, STUCK).unwrap().release().unwrap();
        stand.files.stop();
        // Closing a file is the kernel's business, and hangs.
        let dropped = thread::spawn(move || drop(lock));
        let returned = stand.others_go_on();
        dropped.join().unwrap();
        returned.proves_sound();
    }
}
