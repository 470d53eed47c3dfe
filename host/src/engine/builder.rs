//! Settings of an engine.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use super::Engine;
use crate::fairness::Pause;
use crate::handle::Context;
use crate::registry::Registry;
use crate::services::{Past, Services};
use crate::sys;
use crate::timer::Timer;
use crate::waiter::WaiterPool;
use crate::watch::Watcher;

/// Settings of an [`Engine`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `build` is called"]
pub struct EngineBuilder {
    hand_off_limit: u32,
    hand_off_time: Duration,
    max_waiter_threads: usize,
    fairness_pause: Option<Pause>,
    fair_shares: bool,
    signal: Option<sys::Signal>,
}

impl Default for EngineBuilder {
    fn default() -> Self {
        Self {
            hand_off_limit: 32,
            hand_off_time: Duration::from_millis(1),
            max_waiter_threads: 512,
            fairness_pause: Some(Pause {
                after: Duration::from_millis(5),
                length: Duration::from_micros(300),
            }),
            fair_shares: false,
            signal: None,
        }
    }
}

impl EngineBuilder {
    /// How often in a row, and for how long, this engine hands a lock on among its own waiters
    /// before other processes get their turn: `limit` times, or until one of its waiters has been
    /// waiting for `time`, whichever comes first. If the bound is reached during a hold, one more
    /// follows. The default is 32 times or 1 ms; the maximum is 1,000 times or 1 s, since others
    /// would starve. Once the bound is reached, the next waiter takes its place in the kernel's
    /// queue before the lock goes back. With a limit of 0, every release does so.
    pub fn hand_off(mut self, limit: u32, time: Duration) -> Self {
        self.hand_off_limit = limit.min(1000);
        self.hand_off_time = time.min(Duration::from_secs(1));
        self
    }

    /// How many threads may wait in the kernel at a time on behalf of tasks: one for each file that
    /// a task of this engine awaits. The default is 512. Further files are polled every 10 ms, or
    /// less often if there are many: 1,000 of them every 110 ms, which uses 2 % of one processor.
    /// The same applies if no descriptor is available, or if the file may not be reopened.
    pub fn max_waiter_threads(mut self, limit: usize) -> Self {
        self.max_waiter_threads = limit;
        self
    }

    /// Leaves a lock alone for `length` each time this engine has held it for `after` without such a
    /// pause. This helps those that the kernel's queue does not: waiters in other processes that are
    /// slower to wake up than this engine is to ask again, programs that poll for the lock, and a
    /// writer elsewhere that overlapping readers in this engine would keep out. Acquires wait for
    /// the end of the pause, except those with a timeout of zero, which try at once. When a pause is
    /// due, readers that could join others wait for at most `after`, or `length` if that is longer.
    /// The default is 0.3 ms after 5 ms. A `length` of zero switches the pauses off; the maximum is 1 s.
    pub fn fairness_pause(mut self, after: Duration, length: Duration) -> Self {
        let length = length.min(Duration::from_secs(1));
        self.fairness_pause = (!length.is_zero()).then_some(Pause { after, length });
        self
    }

    /// Lets the turns on a contended file go round among tenants, instead of in order of arrival:
    /// 100 waiters of one tenant put a waiter of another behind one of them, not behind all. Within
    /// a tenant, the order of arrival counts. A guest without a
    /// [tenant](crate::sandbox::Tenant) is one of its own, and so is this process. Off by default.
    /// While it is on, [`Guarantee::fifo`](crate::Guarantee::fifo) is `false`.
    #[cfg(feature = "sandbox")]
    pub fn fair_shares(mut self, fair: bool) -> Self {
        self.fair_shares = fair;
        self
    }

    /// The number of the signal that interrupts waits in the kernel. It is sent only to the waiting
    /// thread. This call installs its handler, which does nothing. The default is `SIGSTKFLT`, or
    /// the first free signal from `SIGRTMIN + 8` on if `SIGSTKFLT` has a handler when the first
    /// wait begins; the C library and Go reserve others. On macOS it is `SIGEMT`, else `SIGINFO`.
    /// Windows has no signals and needs none.
    ///
    /// # Errors
    ///
    /// [`AddrInUse`](std::io::ErrorKind::AddrInUse) if the signal already has a handler;
    /// [`InvalidInput`](std::io::ErrorKind::InvalidInput) if it cannot have one, and for a
    /// real-time signal, which cannot be sent while the user has too many of them pending.
    #[cfg(unix)]
    pub fn wake_signal(mut self, number: i32) -> std::io::Result<Self> {
        #[cfg(target_os = "linux")]
        if number >= libc::SIGRTMIN() {
            return Err(std::io::ErrorKind::InvalidInput.into());
        }
        self.signal = Some(sys::Signal::claim(number)?);
        Ok(self)
    }

    /// Builds the engine. It starts no thread until one is needed.
    pub fn build(self) -> Engine {
        Engine {
            context: Arc::new(Context {
                process: sys::Process::current(),
                registry: Registry::default(),
                services: Arc::new(Services {
                    timer: Arc::new(Timer::new()),
                    waiter_pool: Arc::new(WaiterPool::new(self.max_waiter_threads)),
                    watcher: Arc::new(Watcher::default()),
                    ranged: Arc::default(),
                    hand_off_limit: self.hand_off_limit,
                    hand_off_time: self.hand_off_time,
                    pause: self.fairness_pause,
                    fair_shares: self.fair_shares,
                    signal: self.signal,
                    past: Past::default(),
                    polled: AtomicUsize::new(0),
                    epoch: Instant::now(),
                }),
            }),
        }
    }
}

impl Default for Engine {
    fn default() -> Self {
        Self::new()
    }
}
