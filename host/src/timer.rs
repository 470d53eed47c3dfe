//! The timer of an engine, which only wakes.
//!
//! One thread keeps time and wakes what is due. A waker may be the program's own, and may take
//! long. So as long as there is more to keep time for, a second thread stands by during the
//! wake-ups. If a single one takes too long, the second thread keeps time from then on, and the
//! first stands by once it is back. If no second thread can be started, the entries wait.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use crate::sync::{Condvar, Mutex, MutexGuard, lock};
use crate::sys::{self, Alarm, Pending, Process};

/// How long the timer thread, and an idle helper thread, waits for more work.
pub(crate) const IDLE_THREAD_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a wake-up may take before another thread keeps time.
const GRACE: Duration = Duration::from_millis(5);

/// Wakes wakers at given times. The thread that keeps time sleeps until the earliest entry, and
/// ends some time after the last one.
#[derive(Debug)]
pub(crate) struct Timer {
    due: Mutex<Due>,
    changed: Condvar,
    /// Tells the thread that stands by of wake-ups.
    waking: Condvar,
    /// In a forked child, the mutex may stay locked, and entries have no effect.
    process: Process,
}

#[derive(Debug, Default)]
struct Due {
    next: u64,
    wakers: BTreeMap<(Instant, u64), Waker>,
    /// How many threads were started, which are numbered.
    threads: u64,
    /// The thread that keeps time.
    keeper: Option<u64>,
    /// The entry that it is waking.
    waking: Option<u64>,
    stand_in: StandIn,
}

/// The thread that stands by.
#[derive(Debug, Default, Eq, PartialEq)]
enum StandIn {
    #[default]
    None,
    Asleep,
    /// It looks after the keeper at intervals.
    Watching,
}

/// A wake-up to come. Dropping it cancels it.
#[derive(Debug)]
pub(crate) struct TimerEntry {
    timer: Arc<Timer>,
    key: (Instant, u64),
}

impl TimerEntry {
    pub(crate) fn at(&self) -> Instant {
        self.key.0
    }
}

impl Timer {
    pub(crate) fn new() -> Self {
        Self {
            due: Mutex::default(),
            changed: Condvar::new(),
            waking: Condvar::new(),
            process: Process::current(),
        }
    }

    fn due(&self) -> MutexGuard<'_, Due> {
        lock(&self.due)
    }

    /// Wakes `waker` at `at`, once. Fails if no thread can be started.
    pub(crate) fn wake_at(self: &Arc<Self>, at: Instant, waker: Waker) -> io::Result<TimerEntry> {
        let mut due = self.due();
        if due.keeper.is_none() {
            due.keeper = Some(self.start(&mut due)?);
        } else if due.waking.is_some() {
            self.stand_by(&mut due);
        }
        let key = (at, due.next);
        due.next += 1;
        due.wakers.insert(key, waker);
        if due
            .wakers
            .first_key_value()
            .is_some_and(|(first, _)| *first == key)
        {
            self.changed.notify_one();
        }
        Ok(TimerEntry {
            timer: Arc::clone(self),
            key,
        })
    }

    /// Starts a thread, and returns its number.
    fn start(self: &Arc<Self>, due: &mut Due) -> io::Result<u64> {
        let number = due.threads;
        let timer = Arc::clone(self);
        sys::spawn("locket-clock", sys::SMALL_STACK, move || timer.run(number))?;
        due.threads += 1;
        Ok(number)
    }

    /// Has a thread stand by during a wake-up.
    fn stand_by(self: &Arc<Self>, due: &mut Due) {
        let needed = match due.stand_in {
            // In a model, no time passes that could be too long.
            StandIn::None => !cfg!(any(loom, shuttle)) && self.start(due).is_ok(),
            StandIn::Asleep => true,
            StandIn::Watching => false,
        };
        if needed {
            due.stand_in = StandIn::Watching;
            self.waking.notify_one();
        }
    }

    fn run(self: &Arc<Self>, number: u64) {
        let mut due = self.due();
        loop {
            let goes_on = if due.keeper == Some(number) {
                self.keep_time(due, number)
            } else {
                self.watch(due, number)
            };
            due = match goes_on {
                Some(due) => due,
                None => return,
            };
        }
    }

    /// Wakes what is due. Ends without a result if nothing more is to come, and with one if another
    /// thread keeps time now, for which this one is to stand by.
    fn keep_time<'a>(
        self: &'a Arc<Self>,
        mut due: MutexGuard<'a, Due>,
        number: u64,
    ) -> Option<MutexGuard<'a, Due>> {
        loop {
            let now = Instant::now();
            let rest = match due.wakers.first_entry() {
                // No time passes in a model, so any entry may be due at any moment.
                Some(first) if cfg!(any(loom, shuttle)) || first.key().0 <= now => {
                    let ((_, entry), waker) = first.remove_entry();
                    due.waking = Some(entry);
                    if !due.wakers.is_empty() {
                        self.stand_by(&mut due);
                    }
                    drop(due);
                    waker.wake();
                    due = self.due();
                    if due.keeper == Some(number) {
                        due.waking = None;
                        continue;
                    }
                    let needed = due.stand_in == StandIn::None;
                    return needed.then(|| {
                        due.stand_in = StandIn::Watching;
                        due
                    });
                }
                Some(first) => first.key().0 - now,
                None if cfg!(any(loom, shuttle)) => {
                    due.keeper = None;
                    return None;
                }
                None => IDLE_THREAD_TIMEOUT,
            };
            let (back, timeout) = self
                .changed
                .wait_timeout(due, rest)
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            due = back;
            if timeout.timed_out() && due.wakers.is_empty() {
                due.keeper = None;
                return None;
            }
        }
    }

    /// Stands by until a wake-up takes too long, and then becomes the thread that keeps time. Ends
    /// without a result if there are no wake-ups.
    fn watch<'a>(
        &'a self,
        mut due: MutexGuard<'a, Due>,
        number: u64,
    ) -> Option<MutexGuard<'a, Due>> {
        loop {
            let entry = due.waking;
            let time = if entry.is_some() {
                GRACE
            } else {
                due.stand_in = StandIn::Asleep;
                IDLE_THREAD_TIMEOUT
            };
            let (back, timeout) = self
                .waking
                .wait_timeout(due, time)
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            due = back;
            if entry.is_some() && due.waking == entry && timeout.timed_out() {
                due.keeper = Some(number);
                due.waking = None;
                due.stand_in = StandIn::None;
                return Some(due);
            }
            if timeout.timed_out() && due.stand_in == StandIn::Asleep {
                due.stand_in = StandIn::None;
                return None;
            }
        }
    }
}

impl Alarm for Timer {
    fn wake_at(self: Arc<Self>, at: Instant, waker: Waker) -> io::Result<Pending> {
        Ok(Box::new(Timer::wake_at(&self, at, waker)?))
    }
}

impl Drop for TimerEntry {
    fn drop(&mut self) {
        if self.timer.process.is_parent() {
            return;
        }
        let mut due = self.timer.due();
        let waker = due.wakers.remove(&self.key);
        if due.wakers.is_empty() {
            // The thread may otherwise sleep for long, for nothing.
            self.timer.changed.notify_one();
        }
        drop(due);
        // Not under the mutex: dropping a waker can drop a task that has entries of its own.
        drop(waker);
    }
}
