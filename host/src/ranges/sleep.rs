//! One wait for a range, in the kernel: on the thread of a blocking caller, or on a helper's.
//!
//! The thread waits on a duplicate of the owner's descriptor, since what the owner holds must not be in
//! its way. So a grant changes what the owner has before anyone knows. A caller that gets its answer
//! tries once more, which records the grant. If no caller is left, the thread puts the kernel's view
//! [right](OwnedRanges::reconcile) when it returns.

use std::io;
use std::sync::Arc;
use std::task::{Poll, Wake, Waker};

use super::RangeFile;
use crate::deadline::Deadline;
use crate::range::Span;
#[cfg(doc)]
use crate::ranged::OwnedRanges;
use crate::sync::{Mutex, WakeList, lock};
use crate::types::Mode;
use crate::waiter::{LockWait, Outcome};

#[derive(Debug)]
pub(crate) struct Sleep {
    file: RangeFile,
    /// Its number among the waits of the owner.
    number: u64,
    span: Span,
    /// `None` if no thread can wait.
    wait: Option<Arc<LockWait>>,
    /// Whether a helper waits.
    helped: bool,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    Waiting(Option<Waker>),
    Over(Outcome),
    /// No caller wants the answer.
    Abandoned,
}

impl Sleep {
    /// One that the owner's waits include.
    fn new(file: &RangeFile, span: Span, wait: Option<LockWait>, helped: bool) -> Arc<Self> {
        let sleep = Arc::new(Self {
            file: file.clone(),
            number: file.context.registry.number(),
            span,
            wait: wait.map(Arc::new),
            helped,
            state: Mutex::new(State::Waiting(None)),
        });
        file.owned
            .note(sleep.number, Waker::from(Arc::clone(&sleep)));
        sleep
    }

    fn wait(file: &RangeFile, span: Span, mode: Mode) -> io::Result<LockWait> {
        let RangeFile { context, owned, .. } = file;
        let object = owned.duplicate()?;
        let means = context.services.means();
        LockWait::for_range(object, owned.local, mode, span, &means)
    }

    /// A wait of a task, which has begun; `None` if no thread can wait.
    pub(super) fn begin(file: &RangeFile, span: Span, mode: Mode) -> Option<Arc<Self>> {
        let pool = &file.context.services.waiter_pool;
        let room = pool.has_room();
        let wait = room.then(|| Self::wait(file, span, mode).ok()).flatten()?;
        let sleep = Self::new(file, span, Some(wait), true);
        let told = Arc::clone(&sleep);
        let wait = sleep.wait.clone()?;
        let end = move |outcome| {
            // It may have been granted just then, and the caller need not look soon.
            if matches!(outcome, Outcome::Interrupted) {
                told.file.owned.reconcile(told.span);
            }
            told.end(outcome)
        };
        if pool.run(wait, end) {
            return Some(sleep);
        }
        file.owned.forget(sleep.number);
        None
    }

    /// A wait without a thread, whose caller tries again later.
    pub(super) fn until_later(file: &RangeFile, span: Span) -> Arc<Self> {
        Self::new(file, span, None, true)
    }

    /// Waits on the calling thread.
    pub(super) fn here(
        file: &RangeFile,
        span: Span,
        mode: Mode,
        deadline: Deadline,
        still_wanted: impl FnOnce() -> bool,
    ) -> Outcome {
        let Ok(wait) = Self::wait(file, span, mode) else {
            return Outcome::NotBegun;
        };
        let sleep = Self::new(file, span, Some(wait), false);
        let outcome = match &sleep.wait {
            Some(wait) if still_wanted() => wait.run(deadline),
            _ => Outcome::Interrupted,
        };
        file.owned.forget(sleep.number);
        outcome
    }

    /// Whether a thread waits.
    pub(super) fn has_thread(&self) -> bool {
        self.wait.is_some()
    }

    /// How it ended, once; until then `waker` is woken.
    pub(super) fn poll(&self, waker: &Waker) -> Poll<Outcome> {
        let mut state = lock(&self.state);
        if let State::Waiting(known) = &mut *state {
            *known = Some(waker.clone());
            return Poll::Pending;
        }
        match std::mem::replace(&mut *state, State::Abandoned) {
            State::Over(outcome) => Poll::Ready(outcome),
            _ => Poll::Ready(Outcome::Interrupted),
        }
    }

    /// The thread has returned.
    fn end(&self, outcome: Outcome) -> WakeList {
        self.file.owned.forget(self.number);
        let mut state = lock(&self.state);
        let State::Waiting(waker) = &mut *state else {
            drop(state);
            self.file.owned.reconcile(self.span);
            return WakeList::default();
        };
        let waker = waker.take();
        *state = State::Over(outcome);
        drop(state);
        WakeList(waker.into_iter().collect())
    }

    /// Ends the wait; the caller gets an answer as soon as the thread has returned.
    pub(super) fn interrupt(&self) {
        let Some(wait) = &self.wait else {
            // The caller looks why it was woken.
            return self.wake_caller();
        };
        let pool = &self.file.context.services.waiter_pool;
        if pool.cancel(wait, self.helped) {
            // No thread has begun it, so none will report.
            self.end(Outcome::Interrupted).wake();
        }
    }

    fn wake_caller(&self) {
        let waker = match &mut *lock(&self.state) {
            State::Waiting(waker) => waker.take(),
            _ => None,
        };
        WakeList(waker.into_iter().collect()).wake();
    }

    /// Ends the wait; no caller wants the answer.
    pub(super) fn abandon(&self) {
        self.file.owned.forget(self.number);
        let before = std::mem::replace(&mut *lock(&self.state), State::Abandoned);
        match before {
            State::Waiting(_) => {
                if let Some(wait) = &self.wait {
                    let pool = &self.file.context.services.waiter_pool;
                    pool.cancel(wait, self.helped);
                }
            }
            State::Over(_) => self.file.owned.reconcile(self.span),
            State::Abandoned => {}
        }
    }
}

/// At the deadline of a task, whether or not it is polled.
impl Wake for Sleep {
    fn wake(self: Arc<Self>) {
        self.interrupt();
    }
}
