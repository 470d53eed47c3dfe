//! Waiting in the kernel: the one thread per file that does it, and how it is called back.
//!
//! A kernel waiter is either the thread of a blocking caller or a helper thread, borrowed from
//! [`WaiterPool`] for the sake of tasks that must not block. It waits on an open file description of
//! its own, apart from the one through which the engine holds the lock and makes its tries. So it
//! takes its place in the kernel's queue while the engine still holds the lock, and when it is
//! granted, that description becomes the one that holds.
//!
//! It is called back by its [`Interrupter`](sys::Bell), each system in its own way. Whatever it had got
//! hold of in that moment goes as soon as it returns, and concerns nobody any more: the queue
//! forgets a wait when it calls it back.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::Arc;

use crate::deadline::{Deadline, IDLE_THREAD_TIMEOUT, Timer};
use crate::object::LockObject;
use crate::protocol::Request;
use crate::sync::{Condvar, Mutex, MutexGuard, WakeList, lock, thread};
use crate::sys;

/// One wait in the kernel.
#[derive(Debug)]
pub(crate) struct KernelWait {
    pub(crate) request: Request,
    /// A description that nobody else uses until the wait is over.
    pub(crate) object: Arc<LockObject>,
    /// Whether it is up to this system alone when a call comes back, and not to a file server.
    local: bool,
    interrupter: sys::Interrupter,
    progress: Mutex<Progress>,
}

#[derive(Debug, Default)]
struct Progress {
    thread: Option<sys::Thread>,
    over: bool,
    interrupted: bool,
    /// Whether it was called back, and nothing kept the call from it.
    returning: bool,
    /// The call that interrupted the thread.
    interruption: Option<sys::Interruption>,
}

/// How a wait ended. Unless it is [`Locked`](Self::Locked), nothing is held.
#[derive(Debug)]
pub(crate) enum Outcome {
    Locked,
    /// Called back. The descriptor is of no use any more.
    Interrupted,
    /// The deadline passed.
    TimedOut,
    /// It could not be begun, for want of something that the lock has nothing to do with.
    NotBegun,
    Failed(io::Error),
}

impl KernelWait {
    /// Fails for want of descriptors, memory or a signal, so that [`interrupt`](Self::interrupt)
    /// does not.
    pub(crate) fn new(
        object: Arc<LockObject>,
        local: bool,
        request: Request,
        signal: sys::Signal,
        timer: &Arc<Timer>,
    ) -> io::Result<Self> {
        Ok(Self {
            request,
            object,
            local,
            interrupter: sys::Interrupter::new(signal, timer)?,
            progress: Mutex::default(),
        })
    }

    /// Waits on the calling thread.
    pub(crate) fn run(&self, deadline: Deadline) -> Outcome {
        let outcome = self.wait(deadline);
        let mut progress = lock(&self.progress);
        progress.thread = None;
        progress.over = true;
        if !progress.interrupted {
            return outcome;
        }
        // Closing it would do, but for a forked child that has a copy.
        if let Some(interruption) = progress.interruption.take() {
            let backend = self.request.protocol.backend();
            let _ = match interruption.held() {
                Some(file) => backend.unlock(&LockObject::file(file, self.object.writable)),
                None => backend.unlock(&self.object),
            };
        } else if let Outcome::Locked = outcome {
            let _ = self.request.protocol.backend().unlock(&self.object);
        }
        Outcome::Interrupted
    }

    fn wait(&self, deadline: Deadline) -> Outcome {
        let Ok(timed_wait) = self.interrupter.timed_wait(deadline) else {
            return Outcome::NotBegun;
        };
        {
            let mut progress = lock(&self.progress);
            if progress.interrupted {
                return Outcome::Interrupted;
            }
            progress.thread = Some(timed_wait.thread());
        }
        loop {
            match self.sleep(&timed_wait) {
                Ok(()) => return Outcome::Locked,
                Err(e) if e.kind() != io::ErrorKind::Interrupted => return Outcome::Failed(e),
                // By a call, by the deadline, or by a signal that the program takes for itself.
                Err(_) if lock(&self.progress).interrupted => return Outcome::Interrupted,
                Err(_) if deadline.passed() => return Outcome::TimedOut,
                Err(_) => {}
            }
        }
    }

    fn sleep(&self, timed_wait: &sys::TimedWait) -> io::Result<()> {
        let backend = self.request.protocol.backend();
        // A model checker has one thread for all of them, which must not block.
        if cfg!(any(loom, shuttle)) {
            while !backend.try_lock(&self.object, self.request)? {
                thread::yield_now();
            }
            return Ok(());
        }
        backend.wait(&self.object, self.request, timed_wait)
    }

    /// Calls the waiter back; it reports [`Outcome::Interrupted`] within microseconds. Answers
    /// `false` where it is about to report something else already, or the system refused to call
    /// it: then it comes back no later than with the lock.
    pub(crate) fn interrupt(&self) -> bool {
        let mut progress = lock(&self.progress);
        if progress.interrupted || progress.over {
            return progress.returning;
        }
        progress.interrupted = true;
        progress.returning = true;
        if let Some(thread) = progress.thread {
            // The thread cannot end: it takes this mutex before it lets go of the wait.
            progress.interruption = self.interrupter.interrupt(thread, &self.object.file).ok();
            progress.returning = progress.interruption.is_some();
        }
        progress.returning
    }

    /// Whether somebody was told that it would come back at once.
    fn is_returning(&self) -> bool {
        lock(&self.progress).returning
    }
}

/// The threads that wait in the kernel on behalf of tasks: started when needed, kept a moment
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
        wait: Arc<KernelWait>,
        done: Box<dyn FnOnce(Outcome) -> WakeList + Send>,
    },
    /// Something that may take longer than the threads of the clock and the watcher have.
    Task(Box<dyn FnOnce() + Send>),
}

/// How many threads there may be for tasks beyond the limit on those that wait.
const TASKS: usize = 8;

#[derive(Default)]
struct Pool {
    jobs: VecDeque<Job>,
    idle: usize,
    /// Threads whose wait was called back, and that will be idle in a moment.
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

    /// Waits on a thread of its own. Answers `false`, and does nothing, where there is none left.
    pub(crate) fn run(
        self: &Arc<Self>,
        wait: Arc<KernelWait>,
        done: impl FnOnce(Outcome) -> WakeList + Send + 'static,
    ) -> bool {
        let done = Box::new(done);
        self.take(Job::Wait { wait, done }, self.limit)
    }

    /// Does something on a thread of its own. Answers `false`, and does nothing, where there is none
    /// left.
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
        let thread = thread::Builder::new()
            .name("locket-waiter".into())
            .stack_size(256 << 10);
        let started = thread.spawn(move || waiter_pool.work(job)).is_ok();
        pool.threads += usize::from(started);
        started
    }

    /// Calls a wait back, whether a thread is at it already or not.
    pub(crate) fn cancel(&self, wait: &Arc<KernelWait>) {
        let mut pool = self.pool();
        let queued = pool.jobs.iter().position(
            |job| matches!(job, Job::Wait { wait: queued, .. } if Arc::ptr_eq(queued, wait)),
        );
        let job = queued.and_then(|index| pool.jobs.remove(index));
        if job.is_none() && wait.interrupt() && wait.local {
            pool.returning += 1;
        }
        drop(pool);
        drop(job);
    }

    fn work(&self, mut job: Job) {
        sys::keep_signals_away();
        loop {
            let (wait, done) = match job {
                Job::Wait { wait, done } => (wait, done),
                Job::Task(task) => {
                    task();
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
            // Its descriptor shall not stay open for as long as this thread idles.
            drop(wait);
            // Before the outcome is told, since that can call for the next wait.
            let mut pool = self.pool();
            pool.idle += 1;
            pool.returning -= usize::from(returned);
            drop(pool);
            let woken = done(outcome);
            let mut pool = self.pool();
            pool.idle -= 1;
            let next = pool.jobs.pop_front();
            drop(pool);
            // Who knows what they do: nobody may count on this thread meanwhile.
            woken.wake();
            job = match next.or_else(|| self.await_work()) {
                Some(next) => next,
                None => return,
            };
        }
    }

    /// The next wait; none if it does not come soon, and then this thread is gone.
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

    /// There is no time in a model; a thread without work ends.
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
