//! What the queues of an engine share: its threads, its settings, and the ticks of its polling.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::fairness::Pause;
use crate::ranged::RangedFile;
use crate::sys;
use crate::table::Table;
use crate::timer::Timer;
use crate::types::Totals;
use crate::waiter::{Means, WaiterPool};
use crate::watch::Watcher;

/// What the queues of one engine share.
#[derive(Debug)]
pub(crate) struct Services {
    pub(crate) timer: Arc<Timer>,
    pub(crate) waiter_pool: Arc<WaiterPool>,
    pub(crate) watcher: Arc<Watcher>,
    /// The files of which ranges are open.
    pub(crate) ranged: Arc<Table<RangedFile>>,
    pub(crate) hand_off_limit: u32,
    pub(crate) hand_off_time: Duration,
    pub(crate) pause: Option<Pause>,
    /// Whether turns go round among shares, instead of in order of arrival.
    pub(crate) fair_shares: bool,
    pub(crate) signal: Option<sys::Signal>,
    /// What the queues did that are gone.
    pub(crate) past: Past,
    /// How many files are polled because no thread can wait for them.
    pub(crate) polled: AtomicUsize,
    /// The start of the first tick of [`POLL_INTERVAL`].
    pub(crate) epoch: Instant,
}

/// The totals of the queues that are gone. Atomic, so that a forked child can drop a queue.
#[derive(Debug, Default)]
pub(crate) struct Past {
    sums: Counts<AtomicU64>,
    /// The most that was told.
    told: Counts<AtomicU64>,
}

/// [`Totals`] as numbers.
type Counts<T> = [T; 5];

fn counts(totals: &Totals) -> Counts<u64> {
    let waited = u64::try_from(totals.waited.as_nanos()).unwrap_or(u64::MAX);
    [
        totals.granted,
        totals.granted_after_wait,
        waited,
        totals.given_up,
        totals.lost,
    ]
}

impl Past {
    pub(crate) fn add(&self, totals: &Totals) {
        for (sum, more) in self.sums.iter().zip(counts(totals)) {
            if more > 0 {
                sum.fetch_add(more, Ordering::Relaxed);
            }
        }
    }

    /// Together with those of the queues that exist. One that is going away at this moment is in
    /// neither, but what was told once does not go back.
    pub(crate) fn with(&self, present: &Totals) -> Totals {
        let present = counts(present);
        let [granted, granted_after_wait, waited, given_up, lost] = std::array::from_fn(|index| {
            let now = self.sums[index].load(Ordering::Relaxed) + present[index];
            self.told[index].fetch_max(now, Ordering::Relaxed).max(now)
        });
        Totals {
            granted,
            granted_after_wait,
            waited: Duration::from_nanos(waited),
            given_up,
            lost,
        }
    }
}

impl Services {
    pub(crate) fn means(&self) -> Means<'_> {
        Means {
            timer: &self.timer,
            watcher: &self.watcher,
            signal: self.signal,
        }
    }

    /// When to poll a file next, whose tries are slow or not. All files share the same ticks, since
    /// waking the timer thread costs more than a try.
    pub(crate) fn next_poll(&self, slow: bool) -> Instant {
        let polled = self.polled.load(Ordering::Relaxed);
        let (shortest, each) = match slow {
            true => (SLOW_POLL_INTERVAL, SLOW_POLL_INTERVAL_EACH),
            false => (POLL_INTERVAL, POLL_INTERVAL_EACH),
        };
        let pause = shortest + each * u32::try_from(polled).unwrap_or(u32::MAX);
        let ticks = (self.epoch.elapsed() + pause)
            .div_duration_f64(POLL_INTERVAL)
            .floor();
        self.epoch + POLL_INTERVAL.mul_f64(ticks)
    }
}

#[cfg(all(test, target_os = "linux", not(any(loom, shuttle))))]
impl Services {
    /// Those of a test, with `limit` helper threads.
    pub(crate) fn of_test(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            timer: Arc::new(Timer::new()),
            waiter_pool: Arc::new(WaiterPool::new(limit)),
            watcher: Arc::new(Watcher::default()),
            ranged: Arc::default(),
            hand_off_limit: 0,
            hand_off_time: Duration::ZERO,
            pause: None,
            fair_shares: false,
            signal: None,
            past: Past::default(),
            polled: AtomicUsize::new(0),
            epoch: Instant::now(),
        })
    }

    /// The same, with another bound on hand-offs.
    pub(crate) fn with_hand_off(self: Arc<Self>, limit: u32, time: Duration) -> Arc<Self> {
        let services = Arc::into_inner(self).expect("no queue has them yet");
        Arc::new(Self {
            hand_off_limit: limit,
            hand_off_time: time,
            ..services
        })
    }
}

/// How often an acquire polls if no thread can wait in the kernel for it, and how much that is
/// stretched for each other polled file. A try takes about a microsecond.
const POLL_INTERVAL: Duration = Duration::from_millis(10);
const POLL_INTERVAL_EACH: Duration = Duration::from_micros(100);

/// The same for existence locks, and file systems not known to be local. A try reads a directory or a
/// database, or asks a server.
const SLOW_POLL_INTERVAL: Duration = Duration::from_millis(40);
const SLOW_POLL_INTERVAL_EACH: Duration = Duration::from_millis(2);
