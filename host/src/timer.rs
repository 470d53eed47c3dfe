//! The timer thread of an engine, which only wakes.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use crate::sync::{Condvar, Mutex, MutexGuard, lock, thread};
use crate::sys::{Alarm, Pending, Process};

/// How long the timer thread, and an idle helper thread, waits for more work.
pub(crate) const IDLE_THREAD_TIMEOUT: Duration = Duration::from_secs(1);

/// Wakes wakers at given times. An engine has at most one timer thread. It sleeps until the
/// earliest entry, and ends some time after the last one.
#[derive(Debug)]
pub(crate) struct Timer {
    due: Mutex<Due>,
    changed: Condvar,
    /// What its thread does first.
    prepare: fn(),
    /// In a forked child, the mutex may stay locked, and entries have no effect.
    process: Process,
}

#[derive(Debug, Default)]
struct Due {
    next: u64,
    wakers: BTreeMap<(Instant, u64), Waker>,
    running: bool,
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
    pub(crate) fn new(prepare: fn()) -> Self {
        Self {
            due: Mutex::default(),
            changed: Condvar::new(),
            prepare,
            process: Process::current(),
        }
    }

    fn due(&self) -> MutexGuard<'_, Due> {
        lock(&self.due)
    }

    /// Wakes `waker` at `at`, once. Fails if no thread can be started.
    pub(crate) fn wake_at(self: &Arc<Self>, at: Instant, waker: Waker) -> io::Result<TimerEntry> {
        let mut due = self.due();
        if !due.running {
            let timer = Arc::clone(self);
            let thread = thread::Builder::new()
                .name("locket-clock".into())
                .stack_size(256 << 10);
            thread.spawn(move || timer.run())?;
            due.running = true;
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

    fn run(&self) {
        (self.prepare)();
        let mut due = self.due();
        loop {
            let now = Instant::now();
            let rest = match due.wakers.first_entry() {
                // No time passes in a model, so any entry may be due at any moment.
                Some(first) if cfg!(any(loom, shuttle)) || first.key().0 <= now => {
                    let waker = first.remove();
                    drop(due);
                    waker.wake();
                    due = self.due();
                    continue;
                }
                Some(first) => first.key().0 - now,
                None if cfg!(any(loom, shuttle)) => {
                    due.running = false;
                    return;
                }
                None => IDLE_THREAD_TIMEOUT,
            };
            let (back, timeout) = self
                .changed
                .wait_timeout(due, rest)
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            due = back;
            if timeout.timed_out() && due.wakers.is_empty() {
                due.running = false;
                return;
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
