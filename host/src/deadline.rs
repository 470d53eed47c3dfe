//! Points in time: the deadline of one acquire, and the alarm clock of an engine.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use crate::sync::{Condvar, Mutex, MutexGuard, lock, thread};
use crate::sys::Process;

/// When an acquire gives up: fixed once, at its start, on the monotonic clock.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Deadline {
    /// One try, no wait.
    Now,
    At(Instant),
    Never,
}

impl Deadline {
    /// A timeout too long for the clock to represent is none.
    pub(crate) fn after(timeout: Option<Duration>) -> Self {
        match timeout {
            None => Self::Never,
            Some(Duration::ZERO) => Self::Now,
            Some(timeout) => Instant::now()
                .checked_add(timeout)
                .map_or(Self::Never, Self::At),
        }
    }

    pub(crate) fn instant(self) -> Option<Instant> {
        match self {
            Self::At(instant) => Some(instant),
            Self::Now | Self::Never => None,
        }
    }

    pub(crate) fn passed(self) -> bool {
        self.instant()
            .is_some_and(|instant| instant <= Instant::now())
    }
}

/// How long the thread of the clock, and that of a kernel waiter, stays around for more work.
pub(crate) const IDLE_THREAD_TIMEOUT: Duration = Duration::from_secs(1);

/// Wakes tasks at points in time. One thread for all of an engine, and none while nothing is due;
/// it sleeps until the earliest of them.
#[derive(Debug)]
pub(crate) struct Timer {
    due: Mutex<Due>,
    changed: Condvar,
    /// What its thread does first.
    prepare: fn(),
    /// In a child that is forked from it, the mutex may stay locked, and nothing is due.
    process: Process,
}

#[derive(Debug, Default)]
struct Due {
    next: u64,
    wakers: BTreeMap<(Instant, u64), Waker>,
    running: bool,
}

/// A wake-up that is due; dropping it calls it off.
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

    /// Wakes `waker` at `at`, once. Fails where no thread can be started for it.
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
                // In a model no time passes, so any moment may be the one.
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

impl Drop for TimerEntry {
    fn drop(&mut self) {
        if self.timer.process.is_parent() {
            return;
        }
        let mut due = self.timer.due();
        let waker = due.wakers.remove(&self.key);
        if due.wakers.is_empty() {
            // The thread may sleep for long yet, for nothing.
            self.timer.changed.notify_one();
        }
        drop(due);
        // Without the mutex, since dropping a waker can drop a task that has alarms of its own.
        drop(waker);
    }
}
