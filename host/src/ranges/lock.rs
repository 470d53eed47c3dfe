//! One lock of a range, blocking or async.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::RangeFile;
use super::sleep::Sleep;
use crate::acquire::Suspends;
use crate::deadline::Deadline;
use crate::deadlock::{Blocked, Suspension};
use crate::error::{ErrorKind, Result};
use crate::owner::OwnerId;
use crate::range::Span;
use crate::sync::Parker;
use crate::timer::TimerEntry;
use crate::types::Mode;
use crate::waiter::Outcome;

/// A lock of a range in progress: the future of [`RangeFile::lock_async`].
///
/// # Cancel safety
///
/// Dropping it abandons the wait. If the range has been locked in the meantime, the owner then holds
/// there what it held before.
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct LockRange {
    file: RangeFile,
    span: Result<Span, ErrorKind>,
    mode: Mode,
    deadline: Deadline,
    meanwhile: Suspends,
    /// Those of the owner when it began.
    cancellations: u64,
    suspension: Option<Suspension>,
    sleep: Option<Arc<Sleep>>,
    /// The number of the lock if dropping this undoes it.
    tentative: Option<u64>,
    /// Whether a wait may have changed what the kernel has.
    unsettled: bool,
    /// Ends the wait at the deadline, or tries again where no thread can wait.
    alarm: Option<TimerEntry>,
    /// Whether its future is complete.
    done: bool,
}

impl Drop for LockRange {
    fn drop(&mut self) {
        self.settle();
        let RangeFile { context, owned, .. } = &self.file;
        if context.forked() {
            return;
        }
        if let Some(number) = self.tentative {
            owned.undo(number);
        }
        if let Some(suspension) = &self.suspension {
            let suspensions = &context.registry.suspensions;
            suspensions.resume(owned.owner, suspension);
        }
    }
}

impl LockRange {
    pub(super) fn new(
        file: &RangeFile,
        span: Result<Span, ErrorKind>,
        mode: Mode,
        timeout: Option<Duration>,
        meanwhile: Suspends,
        cancellations: u64,
    ) -> Self {
        Self {
            file: file.clone(),
            span,
            mode,
            deadline: Deadline::after(timeout),
            meanwhile,
            cancellations,
            suspension: None,
            sleep: None,
            tentative: None,
            unsettled: false,
            alarm: None,
            done: false,
        }
    }

    /// Makes it one that, if it is dropped, also undoes what it has locked, until it is kept.
    #[cfg(feature = "sandbox")]
    pub(crate) fn make_tentative(&mut self) {
        self.tentative = Some(self.file.context.registry.number());
    }

    /// Lets what a tentative one has locked stay.
    #[cfg(feature = "sandbox")]
    pub(crate) fn keep(&mut self) {
        if let Some(number) = self.tentative.take() {
            self.file.owned.keep(number);
        }
    }

    /// Ends a wait that is in progress.
    fn rest(&mut self) {
        self.alarm = None;
        if let Some(sleep) = self.sleep.take()
            && !self.file.context.forked()
        {
            sleep.abandon();
        }
    }

    /// Ends a wait that is in progress, and puts right what it may have changed.
    fn settle(&mut self) {
        self.rest();
        if let Ok(span) = self.span
            && std::mem::take(&mut self.unsettled)
            && !self.file.context.forked()
        {
            self.file.owned.reconcile(span);
        }
    }

    /// Tries, and says why it must not wait if it must not. Returns whether the range is locked.
    fn attempt(&mut self, span: Span) -> Result<bool> {
        let file = &self.file;
        file.context.refuse_forked(file.path())?;
        if file.attempt(span, self.mode, self.tentative)? {
            self.unsettled = false;
            return Ok(true);
        }
        let registry = &file.context.registry;
        if matches!(self.deadline, Deadline::Now) {
            return Err(file.error(ErrorKind::WouldBlock));
        }
        if self.deadline.passed() {
            return Err(file.error(ErrorKind::Timeout));
        }
        if self.is_canceled() || registry.is_shut_down() {
            return Err(file.error(ErrorKind::Canceled));
        }
        if let Suspends::Owner { may_block_others } = self.meanwhile
            && self.suspension.is_none()
        {
            let own = Suspension::Held(Arc::new(Claim {
                file: file.clone(),
                span,
                mode: self.mode,
            }));
            let suspensions = &registry.suspensions;
            if !suspensions.suspend(file.owned.owner, own.clone(), may_block_others) {
                return Err(file.error(ErrorKind::Deadlock));
            }
            self.suspension = Some(own);
        }
        Ok(false)
    }

    fn is_canceled(&self) -> bool {
        self.file.cancellations() != self.cancellations
    }

    /// What the end of a wait means. Success means: try again.
    fn ended(&self, outcome: Outcome) -> Result<()> {
        match outcome {
            Outcome::Locked | Outcome::NotBegun => Ok(()),
            Outcome::Interrupted if self.is_canceled() => Err(self.file.error(ErrorKind::Canceled)),
            Outcome::Interrupted | Outcome::TimedOut if self.deadline.passed() => {
                Err(self.file.error(ErrorKind::Timeout))
            }
            Outcome::Interrupted | Outcome::TimedOut => Ok(()),
            Outcome::Failed(e) => Err(self.file.os(e)),
        }
    }

    /// When to try again if no thread can wait.
    fn next_try(&self) -> Instant {
        let RangeFile { context, owned, .. } = &self.file;
        let next = context.services.next_poll(!owned.local);
        self.deadline.instant().map_or(next, |end| end.min(next))
    }

    /// Locks on the calling thread. Calls `waiting` if that takes a wait.
    pub(crate) fn block(mut self, waiting: impl FnOnce()) -> Result<()> {
        let span = self.span.map_err(|kind| self.file.error(kind))?;
        let mut waiting = Some(waiting);
        while !self.attempt(span)? {
            if let Some(waiting) = waiting.take() {
                waiting();
            }
            self.unsettled = true;
            let wanted = || !self.is_canceled();
            let outcome = Sleep::here(&self.file, span, self.mode, self.deadline, wanted);
            if matches!(outcome, Outcome::NotBegun) {
                // It is not woken: a cancellation is seen at the next try.
                Parker::default().sleep(Some(self.next_try()));
            }
            self.ended(outcome)?;
        }
        Ok(())
    }

    fn step(&mut self, span: Span, waker: &Waker) -> Result<bool> {
        // Once a thread could not wait, none is asked for before the next try.
        let mut threads = true;
        loop {
            if let Some(sleep) = &self.sleep
                && sleep.has_thread()
            {
                let Poll::Ready(outcome) = sleep.poll(waker) else {
                    return Ok(false);
                };
                self.sleep = None;
                self.alarm = None;
                threads = !matches!(outcome, Outcome::NotBegun);
                self.ended(outcome)?;
            }
            self.rest();
            if self.attempt(span)? {
                return Ok(true);
            }
            self.unsettled = true;
            let begin = || Sleep::begin(&self.file, span, self.mode);
            let sleep = threads.then(begin).flatten();
            let sleep = sleep.unwrap_or_else(|| Sleep::until_later(&self.file, span));
            let timer = &self.file.context.services.timer;
            let alarm = if sleep.has_thread() {
                let over = Waker::from(Arc::clone(&sleep));
                let at = self.deadline.instant();
                at.map(|at| timer.wake_at(at, over)).transpose()
            } else {
                timer.wake_at(self.next_try(), waker.clone()).map(Some)
            };
            let polls = !sleep.has_thread() && sleep.poll(waker).is_pending();
            self.sleep = Some(sleep);
            self.alarm = alarm.map_err(|e| self.file.os(e))?;
            // It was canceled before it could be seen.
            if self.is_canceled() {
                return Err(self.file.error(ErrorKind::Canceled));
            }
            if polls {
                return Ok(false);
            }
        }
    }
}

/// A wait for a range, as others see it that wait.
#[derive(Debug)]
struct Claim {
    file: RangeFile,
    span: Span,
    mode: Mode,
}

impl Blocked for Claim {
    fn blockers(&self) -> Vec<OwnerId> {
        let RangeFile { context, owned, .. } = &self.file;
        let mut blockers = owned.blockers(self.span, self.mode);
        // The owner's own lock of the whole file is in its way, too.
        if let Some(queue) = context.registry.queue_of(owned.identity()) {
            blockers.extend(queue.record_lock_holders(self.mode));
        }
        blockers
    }
}

impl Future for LockRange {
    type Output = Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        assert!(!self.done, "the future is not polled after completion");
        let step = match self.span {
            Ok(span) => self.step(span, cx.waker()),
            Err(kind) => Err(self.file.error(kind)),
        };
        self.done = !matches!(step, Ok(false));
        match step {
            Ok(true) => Poll::Ready(Ok(())),
            Ok(false) => Poll::Pending,
            Err(e) => {
                // A caller that keeps the future keeps nothing else.
                self.settle();
                Poll::Ready(Err(e))
            }
        }
    }
}
