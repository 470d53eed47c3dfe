//! The wall clock is set by an hour during a wait. Timeouts do not notice.
//!
//! A binary of its own: it replaces the clock of the whole process.
#![cfg(target_os = "linux")]

mod common;

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use common::*;
use locket::Engine;

/// By how many seconds the wall clock of this process is wrong.
static WRONG: AtomicI64 = AtomicI64::new(0);

/// Replaces the function of the C library that the clocks of the standard library use.
#[unsafe(no_mangle)]
#[expect(
    unsafe_code,
    reason = "there is no other way to set the clock of one process"
)]
extern "C" fn clock_gettime(clock: libc::clockid_t, time: *mut libc::timespec) -> libc::c_int {
    // SAFETY: the caller passes what the call of that name takes, and a success has written `time`.
    unsafe {
        let result = libc::syscall(libc::SYS_clock_gettime, clock, time);
        if result == 0 && clock == libc::CLOCK_REALTIME {
            (*time).tv_sec += WRONG.load(Ordering::SeqCst);
        }
        result as libc::c_int
    }
}

#[test]
fn a_clock_that_is_set_ends_no_wait_and_prolongs_none() {
    const HOUR: i64 = 3600;
    const TIMEOUT: Duration = Duration::from_millis(300);
    let before = SystemTime::now();
    for set in [-HOUR, HOUR] {
        let dir = Dir::new();
        let guard = dir.lock(&Engine::new()).acquire(EX, STUCK).unwrap();
        let lock = dir.lock(&Engine::new());
        let (done, ended) = mpsc::channel();
        let waiter = lock.clone();
        thread::spawn(move || {
            let start = Instant::now();
            let result = waiter.acquire(EX, TIMEOUT);
            done.send((result.map(drop), start.elapsed())).unwrap();
        });
        eventually("the thread waits", || {
            format!("{lock:?}").contains("waiting: 1")
        });
        WRONG.store(set, Ordering::SeqCst);
        let (result, waited) = ended.recv_timeout(STUCK).expect("the wait ends");
        assert!(result.unwrap_err().is_timeout());
        assert!(waited >= TIMEOUT, "{waited:?}");
        if set < 0 {
            assert!(SystemTime::now() < before, "the clock was not set");
        }
        WRONG.store(0, Ordering::SeqCst);
        drop(guard);
    }
}
