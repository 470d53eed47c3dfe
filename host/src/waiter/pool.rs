//! The helper threads of an engine.

use std::collections::VecDeque;
use std::fmt;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;

use super::{LockWait, Outcome};
use crate::deadline::Deadline;
use crate::sync::{Condvar, Mutex, MutexGuard, WakeList, lock};
use crate::sys;
use crate::timer::IDLE_THREAD_TIMEOUT;

/// The threads that wait in the kernel on behalf of tasks: started when needed, kept for a moment
/// for the next wait, limited in number.
pub(crate) struct WaiterPool {
    limit: usize,
    shared: Mutex<Pool>,
    work: Condvar,
}

/// What a helper does.
enum Job {
    /// Waits, and tells how it ended.
    Wait {
        wait: Arc<LockWait>,
        done: Box<dyn FnOnce(Outcome) -> WakeList + Send>,
    },
    /// Work that may take longer than the timer and watcher threads can spend.
    Task(Box<dyn FnOnce() + Send>),
}

/// How many threads tasks may use beyond the limit on waiting threads.
const TASKS: usize = 8;

#[derive(Default)]
struct Pool {
    jobs: VecDeque<Job>,
    idle: usize,
    /// Threads whose wait was canceled, and which will be idle in a moment.
    returning: usize,
    threads: usize,
}

impl Pool {
    /// Whether there is, or is about to be, a thread without work.
    fn has_spare(&self) -> bool {
        self.idle + self.returning > self.jobs.len()
    }
}

impl WaiterPool {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            shared: Mutex::default(),
            work: Condvar::new(),
        }
    }

    fn pool(&self) -> MutexGuard<'_, Pool> {
        lock(&self.shared)
    }

    /// Whether [`run`](Self::run) is worth a try.
    pub(crate) fn has_room(&self) -> bool {
        let pool = self.pool();
        pool.threads < self.limit || pool.has_spare()
    }

    /// Waits on a helper thread. Returns `false`, and does nothing, if no thread is left.
    pub(crate) fn run(
        self: &Arc<Self>,
        wait: Arc<LockWait>,
        done: impl FnOnce(Outcome) -> WakeList + Send + 'static,
    ) -> bool {
        let done = Box::new(done);
        self.take(Job::Wait { wait, done }, self.limit)
    }

    /// Runs a task on a helper thread. Returns `false`, and does nothing, if no thread is left.
    pub(crate) fn run_task(self: &Arc<Self>, task: impl FnOnce() + Send + 'static) -> bool {
        self.take(Job::Task(Box::new(task)), self.limit.saturating_add(TASKS))
    }

    fn take(self: &Arc<Self>, job: Job, limit: usize) -> bool {
        let mut pool = self.pool();
        if pool.has_spare() {
            pool.jobs.push_back(job);
            self.work.notify_one();
            return true;
        }
        if pool.threads >= limit {
            return false;
        }
        let waiter_pool = Arc::clone(self);
        let work = move || waiter_pool.work(job);
        let started = sys::spawn("locket-waiter", sys::SMALL_STACK, work).is_ok();
        pool.threads += usize::from(started);
        started
    }

    /// Cancels a wait, whether or not a thread has begun it: a helper if `helped`, otherwise that of
    /// a caller. An interruption closes a descriptor, and a file system that does not answer can
    /// block that for long, so it is left to a helper unless the file system is a local one. Returns
    /// whether no thread had begun it, so that none will report.
    pub(crate) fn cancel(self: &Arc<Self>, wait: &Arc<LockWait>, helped: bool) -> bool {
        if helped && self.take_back(wait) {
            return true;
        }
        if wait.is_interrupted_at_once() {
            // Under the mutex, since the thread may return, and count itself as idle, at once.
            let mut pool = self.pool();
            let returning = wait.interrupt() && wait.local;
            pool.returning += usize::from(helped && returning);
            return false;
        }
        let interrupted = Arc::clone(wait);
        if !self.run_task(move || _ = interrupted.interrupt()) {
            wait.interrupt();
        }
        false
    }

    /// Removes a wait that no thread has begun. Returns `false` if there is no such wait.
    fn take_back(&self, wait: &Arc<LockWait>) -> bool {
        let mut pool = self.pool();
        let queued = pool.jobs.iter().position(
            |job| matches!(job, Job::Wait { wait: queued, .. } if Arc::ptr_eq(queued, wait)),
        );
        let job = queued.and_then(|index| pool.jobs.remove(index));
        if job.is_some() {
            wait.withdraw();
        }
        drop(pool);
        job.is_some()
    }

    fn work(&self, mut job: Job) {
        loop {
            let (wait, done) = match job {
                Job::Wait { wait, done } => (wait, done),
                Job::Task(task) => {
                    // It may run code of the host, and a thread that dies would count forever.
                    let _ = panic::catch_unwind(AssertUnwindSafe(task));
                    let next = self.pool().jobs.pop_front();
                    job = match next.or_else(|| self.await_work()) {
                        Some(next) => next,
                        None => return,
                    };
                    continue;
                }
            };
            let outcome = wait.run(Deadline::Never);
            let returned = wait.local && wait.is_returning();
            // Close its descriptor before this thread goes idle.
            drop(wait);
            // Before the outcome is reported, since that can request the next wait.
            let mut pool = self.pool();
            pool.idle += 1;
            pool.returning -= usize::from(returned);
            drop(pool);
            let woken = done(outcome);
            let mut pool = self.pool();
            pool.idle -= 1;
            let next = pool.jobs.pop_front();
            drop(pool);
            // Wakers run foreign code; do not count this thread as idle until they return.
            woken.wake();
            job = match next.or_else(|| self.await_work()) {
                Some(next) => next,
                None => return,
            };
        }
    }

    /// The next job. If none comes soon, returns `None` and counts this thread as gone.
    fn await_work(&self) -> Option<Job> {
        let mut pool = self.pool();
        pool.idle += 1;
        let mut pool = self.idle(pool);
        pool.idle -= 1;
        let job = pool.jobs.pop_front();
        pool.threads -= usize::from(job.is_none());
        job
    }

    #[cfg(not(any(loom, shuttle)))]
    fn idle<'a>(&'a self, pool: MutexGuard<'a, Pool>) -> MutexGuard<'a, Pool> {
        let work = self
            .work
            .wait_timeout_while(pool, IDLE_THREAD_TIMEOUT, |pool| pool.jobs.is_empty());
        work.unwrap_or_else(std::sync::PoisonError::into_inner).0
    }

    /// A model has no time; a thread without work ends.
    #[cfg(any(loom, shuttle))]
    #[expect(clippy::unused_self, reason = "as above")]
    fn idle<'a>(&'a self, pool: MutexGuard<'a, Pool>) -> MutexGuard<'a, Pool> {
        let _ = IDLE_THREAD_TIMEOUT;
        pool
    }
}

impl fmt::Debug for WaiterPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Helpers")
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}
