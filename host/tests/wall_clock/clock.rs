//! The clocks of this process, which a test sets and stops.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// By how many seconds the wall clock is wrong.
static WRONG: AtomicI64 = AtomicI64::new(0);
/// At how many nanoseconds the monotonic clock stands still; if at zero, it runs.
static STANDS: AtomicI64 = AtomicI64::new(0);

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
        let stands = STANDS.load(Ordering::SeqCst);
        if result == 0 && clock == libc::CLOCK_MONOTONIC && stands > 0 {
            (*time).tv_sec = stands / SECOND;
            (*time).tv_nsec = stands % SECOND;
        }
        result as libc::c_int
    }
}

const SECOND: i64 = 1_000_000_000;

/// The clocks, for one test at a time. The wall clock is right again when this is dropped.
pub(crate) struct Clocks(#[expect(dead_code, reason = "it is held")] MutexGuard<'static, ()>);

impl Clocks {
    pub(crate) fn take() -> Self {
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        Self(ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Sets the wall clock, to so many seconds past the right time.
    pub(crate) fn set(&self, seconds: i64) {
        WRONG.store(seconds, Ordering::SeqCst);
    }

    /// Stops the monotonic clock, as it stops while the system is suspended. That of the lease, which
    /// runs on then, is another one.
    #[cfg(any(feature = "etcd", feature = "postgres"))]
    pub(crate) fn stop(&self) -> Still<'_> {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        STANDS.store(now.tv_sec * SECOND + now.tv_nsec, Ordering::SeqCst);
        Still(self)
    }
}

impl Drop for Clocks {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// A clock that stands still. It runs when this is dropped.
#[cfg(any(feature = "etcd", feature = "postgres"))]
pub(crate) struct Still<'a>(#[expect(dead_code, reason = "it is borrowed")] &'a Clocks);

#[cfg(any(feature = "etcd", feature = "postgres"))]
impl Drop for Still<'_> {
    fn drop(&mut self) {
        STANDS.store(0, Ordering::SeqCst);
    }
}
