//! One acquire, blocking or async.
//!
//! [`AcquireState::step`] drives it: enter the queue of the file, wait for the turn, check that the
//! path still leads to the file that was locked. Blocking callers and tasks take the same route.
//! They differ in what calls `step` again, and in which thread waits in the kernel.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crate::backend::Request;
use crate::deadline::Deadline;
use crate::deadlock::Suspension;
use crate::error::{ErrorKind, Result};
use crate::guard::Guard;
use crate::handle::Handle;
use crate::lock_path::{LockPath, TRIES};
use crate::owner::{Requester, Ticket};
use crate::queue::{Enqueued, Event, Failure, LockQueue, WaitStatus};
use crate::sync::Parker;
use crate::timer::TimerEntry;
use crate::types::Mode;
use crate::waiter::LockWait;

/// What the owner of a lock does while it waits for it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Suspends {
    /// It keeps running, and may release what it waits for. This process does: any of its threads
    /// can release what another acquired, so none of its acquires is provably hopeless.
    Nothing,
    /// It is suspended. `may_block_others`: it holds or awaits something else, for which others may
    /// be waiting.
    #[cfg_attr(not(feature = "sandbox"), expect(dead_code, reason = "guests only"))]
    Owner { may_block_others: bool },
}

/// An acquire in progress: the future of
/// [`LockFile::acquire_async`](crate::LockFile::acquire_async).
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct Acquire {
    handle: Arc<Handle>,
    state: AcquireState,
}

/// The state machine of one acquire, blocking or async.
#[derive(Debug)]
pub(crate) struct AcquireState {
    request: Request,
    requester: Requester,
    deadline: Deadline,
    meanwhile: Suspends,
    blocking: bool,
    wait: Option<Wait>,
    /// How often the path led to another file after the grant.
    replaced: usize,
    /// Those of the handle when the acquire began.
    cancellations: u64,
    /// Whether its future is complete.
    done: bool,
}

/// A place in a queue. Dropping it abandons the wait.
#[derive(Debug)]
struct Wait {
    handle: Arc<Handle>,
    queue: Arc<LockQueue>,
    ticket: Ticket,
    /// That of its owner, which is suspended until the wait is over.
    suspension: Option<Suspension>,
    /// Ends the wait at the deadline.
    alarm: Option<TimerEntry>,
    granted: bool,
}

impl Drop for Wait {
    fn drop(&mut self) {
        let context = &self.handle.context;
        if context.forked() {
            return;
        }
        if let Some(suspension) = &self.suspension {
            let owner = self.handle.client.owner;
            context.registry.suspensions.resume(owner, suspension);
        }
        if !self.granted {
            self.queue.abandon(self.ticket);
        }
    }
}

/// Acquires a lock that is free, without what an acquire needs that waits: a state, a deadline. `None`
/// if it takes more than that; nothing has changed then. `wait` says whether the caller can wait.
pub(crate) fn acquire_now(handle: &Arc<Handle>, mode: Mode, wait: bool) -> Option<Result<Guard>> {
    if handle.options.max_hold.is_some() || handle.context.forked() {
        return None;
    }
    let (request, queue) = (handle.request(mode), handle.queue());
    if request.needs_write() && !queue.is_writable() {
        return None;
    }
    let guard = match queue.try_now(request, handle.requester(), wait)? {
        Enqueued::Granted(ticket) => Guard::new(handle, queue, ticket, mode),
        Enqueued::Failed(failure) => return failed(handle, failure).err().map(Err),
        Enqueued::Queued(_) => unreachable!("it takes no place in the queue"),
    };
    match handle.is_current(&guard.queue) {
        Ok(true) => Some(Ok(guard)),
        Ok(false) => {
            guard.undo();
            None
        }
        Err(e) => Some(Err(e)),
    }
}

impl Acquire {
    pub(crate) fn new(
        handle: &Arc<Handle>,
        mode: Mode,
        deadline: Deadline,
        meanwhile: Suspends,
        began: u64,
    ) -> Self {
        Self {
            handle: Arc::clone(handle),
            state: AcquireState::new(handle, mode, deadline, meanwhile, began, false),
        }
    }
}

enum Progress {
    Done(Result<Guard>),
    Pending,
    WaitHere(Arc<LockQueue>, Arc<LockWait>),
}

impl AcquireState {
    pub(crate) fn new(
        handle: &Handle,
        mode: Mode,
        deadline: Deadline,
        meanwhile: Suspends,
        cancellations: u64,
        blocking: bool,
    ) -> Self {
        Self {
            request: handle.request(mode),
            requester: handle.requester(),
            deadline,
            meanwhile,
            blocking,
            wait: None,
            replaced: 0,
            cancellations,
            done: false,
        }
    }

    /// Advances as far as possible. If the acquire is not done, `waker` is woken when to call
    /// again.
    fn step(&mut self, handle: &Arc<Handle>, waker: &Waker) -> Progress {
        if let Err(e) = handle.refuse_forked() {
            return Progress::Done(Err(e));
        }
        loop {
            let granted = match self.wait.take() {
                None => self.enter(handle),
                Some(mut wait) => match wait.queue.turn(wait.ticket, waker) {
                    WaitStatus::Granted => Ok(Some(self.granted(handle, wait))),
                    WaitStatus::Failed(failure) => failed(handle, failure).map(|()| None),
                    WaitStatus::Wait if self.deadline.passed() => {
                        Err(handle.error(ErrorKind::Timeout))
                    }
                    WaitStatus::Wait => match self.arm(&mut wait) {
                        Ok(()) => {
                            self.wait = Some(wait);
                            return Progress::Pending;
                        }
                        Err(e) => Err(handle.os(e)),
                    },
                    WaitStatus::WaitHere(kernel) => {
                        let queue = Arc::clone(&wait.queue);
                        self.wait = Some(wait);
                        return Progress::WaitHere(queue, kernel);
                    }
                },
            };
            match granted
                .and_then(|guard| guard.map(|guard| self.confirm(handle, guard)).transpose())
            {
                Ok(Some(Some(guard))) => return Progress::Done(Ok(guard)),
                Ok(_) => {}
                Err(e) => return Progress::Done(Err(e)),
            }
        }
    }

    /// Enters the queue. Without a guard, the caller continues with the wait.
    fn enter(&mut self, handle: &Arc<Handle>) -> Result<Option<Guard>> {
        self.request.refuse_sharing().map_err(|e| handle.os(e))?;
        let mut queue = handle.queue();
        if self.request.needs_write() && !queue.is_writable() {
            if handle.options.late_write {
                handle.reopen(LockPath::open_for_writing)?;
                queue = handle.queue();
            }
            if !queue.is_writable() {
                return Err(handle.error(ErrorKind::Denied));
            }
        }
        let may_wait = !matches!(self.deadline, Deadline::Now);
        // An engine that shuts down begins no wait, not even one for the end of a fairness pause.
        let waits = may_wait && !handle.context.registry.is_shut_down();
        let max_hold = handle.options.max_hold;
        match queue.enter(self.request, self.requester, max_hold, waits, self.blocking) {
            Enqueued::Granted(ticket) => {
                Ok(Some(Guard::new(handle, queue, ticket, self.request.mode)))
            }
            Enqueued::Failed(Failure::WouldBlock) if may_wait => {
                Err(handle.error(ErrorKind::Canceled))
            }
            Enqueued::Failed(failure) => failed(handle, failure).map(|()| None),
            // It was canceled between two queues, where no queue could tell it so, or no wait may
            // begin any more.
            Enqueued::Queued(ticket)
                if handle.cancellations() != self.cancellations
                    || may_wait && handle.context.registry.is_shut_down() =>
            {
                queue.abandon(ticket);
                Err(handle.error(ErrorKind::Canceled))
            }
            Enqueued::Queued(ticket) => {
                let owner = self.requester.owner;
                let registry = &handle.context.registry;
                let (suspension, hopeless) = match self.meanwhile {
                    Suspends::Nothing => (None, false),
                    // A try waits for no holder.
                    Suspends::Owner { .. } if !may_wait => (None, false),
                    Suspends::Owner { may_block_others } => {
                        let own = Suspension::Wait(Arc::clone(&queue), ticket);
                        let suspensions = &registry.suspensions;
                        let suspended = suspensions.suspend(owner, own.clone(), may_block_others);
                        (suspended.then_some(own), !suspended)
                    }
                };
                let wait = Wait {
                    handle: Arc::clone(handle),
                    queue,
                    ticket,
                    suspension,
                    alarm: None,
                    granted: false,
                };
                if hopeless {
                    return Err(handle.error(ErrorKind::Deadlock));
                }
                self.wait = Some(wait);
                Ok(None)
            }
        }
    }

    fn granted(&self, handle: &Arc<Handle>, mut wait: Wait) -> Guard {
        wait.granted = true;
        Guard::new(
            handle,
            Arc::clone(&wait.queue),
            wait.ticket,
            self.request.mode,
        )
    }

    /// Checks that the path leads to the file that was locked. If it does not, releases that file
    /// and opens the path again.
    fn confirm(&mut self, handle: &Handle, guard: Guard) -> Result<Option<Guard>> {
        if !handle.is_current(&guard.queue)? {
            guard.undo();
            if self.deadline.passed() {
                return Err(handle.error(ErrorKind::Timeout));
            }
            // Other programs lock and remove the file over and over; a single try must end.
            self.replaced += 1;
            if matches!(self.deadline, Deadline::Now) && self.replaced == TRIES {
                return Err(handle.error(ErrorKind::WouldBlock));
            }
            return handle.reopen(LockPath::open).map(|()| None);
        }
        Ok(Some(guard))
    }

    /// Sets a timer that ends the wait of a task at the deadline, whether or not the task is
    /// polled. A thread ends its own wait.
    fn arm(&self, wait: &mut Wait) -> std::io::Result<()> {
        if let Some(at) = self.deadline.instant()
            && !self.blocking
            && wait.alarm.is_none()
        {
            let over = wait.queue.teller(Event::WaitOver(wait.ticket));
            let timer = &wait.handle.context.services.timer;
            wait.alarm = Some(timer.wake_at(at, over)?);
        }
        Ok(())
    }

    /// Acquires on the calling thread. Calls `waiting` if that takes a wait.
    pub(crate) fn block(mut self, handle: &Arc<Handle>, waiting: impl FnOnce()) -> Result<Guard> {
        let mut waiting = Some(waiting);
        let mut parker: Option<(Arc<Parker>, Waker)> = None;
        loop {
            let waker = parker.as_ref().map_or(Waker::noop(), |(_, waker)| waker);
            let progress = self.step(handle, waker);
            if !matches!(progress, Progress::Done(_))
                && let Some(waiting) = waiting.take()
            {
                waiting();
            }
            match progress {
                Progress::Done(result) => return result,
                Progress::WaitHere(queue, wait) => {
                    queue.settle(&wait, wait.run(self.deadline)).wake();
                }
                Progress::Pending => match &parker {
                    Some((parker, _)) => _ = parker.sleep(self.deadline.instant()),
                    // Most acquires never get here, so the parker is made on demand.
                    None => {
                        let created = Arc::new(Parker::default());
                        parker = Some((Arc::clone(&created), Waker::from(created)));
                    }
                },
            }
        }
    }
}

/// What a wait without a grant means for the caller. Success means: try again.
fn failed(handle: &Handle, failure: Failure) -> Result<()> {
    match failure {
        Failure::Replaced => {
            let before = handle.queue();
            handle.reopen(LockPath::open)?;
            // A guest's directory can be opened again even after it was removed. A removed store of
            // rows may have been replaced by one with the same inode number.
            let object = before.object();
            let is_row = object
                .as_marker()
                .is_some_and(|marker| marker.store().is_some());
            if !is_row && Arc::ptr_eq(&before, &handle.queue()) {
                return Err(handle.error(ErrorKind::NotFound));
            }
            Ok(())
        }
        Failure::WouldBlock => Err(handle.error(ErrorKind::WouldBlock)),
        Failure::TimedOut => Err(handle.error(ErrorKind::Timeout)),
        Failure::Canceled => Err(handle.error(ErrorKind::Canceled)),
        Failure::Broken => Ok(()),
        Failure::Lost(reason) => Err(handle.error(ErrorKind::Lost(reason))),
        Failure::Io(e) => Err(handle.os(e)),
    }
}

impl Future for Acquire {
    type Output = Result<Guard>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { handle, state } = &mut *self;
        assert!(!state.done, "the future is not polled after completion");
        let wait = !matches!(state.deadline, Deadline::Now);
        if state.wait.is_none()
            && let Some(result) = acquire_now(handle, state.request.mode, wait)
        {
            state.done = true;
            return Poll::Ready(result);
        }
        match state.step(handle, cx.waker()) {
            Progress::Done(result) => {
                state.done = true;
                Poll::Ready(result)
            }
            Progress::Pending => Poll::Pending,
            Progress::WaitHere(..) => {
                unreachable!("only blocking callers are sent to the kernel")
            }
        }
    }
}
