//! An acquire of a guest: whether it is admitted, and what comes of it.

use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::guest_guard::GuestGuard;
use super::hold_report::HoldReport;
use super::open::Open;
use super::quota::{Books, HeldGrant, Waiting};
use crate::acquire::{Acquire, Suspends};
use crate::deadline::Deadline;
use crate::error::{ErrorKind, Result};
use crate::guard::Guard;
use crate::types::Mode;

/// The terms on which an acquire was admitted. It counts as a wait until it is dropped.
#[derive(Debug)]
pub(super) struct Admission {
    open: Arc<Open>,
    mode: Mode,
    pub(super) timeout: Option<Duration>,
    /// The error if the time is up sooner than the guest asked for.
    cut_short: Option<ErrorKind>,
    /// Its entry among the waits of the guest, if it may wait.
    wait: Option<u64>,
    /// Those of its lock when it began: each later one ends its wait, even one that has yet to begin.
    pub(super) cancellations: u64,
    began: Instant,
    settled: bool,
}

impl Drop for Admission {
    fn drop(&mut self) {
        if self.open.guest.is_forked() {
            return;
        }
        let ended = self.end_wait(&mut self.open.guest.books());
        drop(ended);
        if !self.settled {
            self.open.story.abandoned(self.mode, self.began);
        }
    }
}

impl Admission {
    pub(super) fn new(open: &Arc<Open>, mode: Mode, timeout: Option<Duration>) -> Result<Self> {
        open.refuse_forked()?;
        let admitted = Self::admit(open, mode, timeout);
        admitted.inspect_err(|error| open.story.refused(mode, error))
    }

    fn admit(open: &Arc<Open>, mode: Mode, timeout: Option<Duration>) -> Result<Self> {
        // Before the rights are looked at: a grant that is revoked after that cancels this.
        let cancellations = open.file.handle.cancellations();
        if !open.may_hold(mode) || !open.story.admits(mode) {
            return Err(open.refuse(ErrorKind::Denied));
        }
        let guest = &open.guest;
        if !guest.tenant_has_room() {
            return Err(open.refuse(ErrorKind::LimitExceeded));
        }
        let began = Instant::now();
        let mut books = guest.books();
        if !books.has_room() {
            drop(books);
            return Err(open.refuse(ErrorKind::LimitExceeded));
        }
        let terms = books.terms(guest, &open.story, mode, timeout, began);
        drop(books);
        Ok(Self {
            open: Arc::clone(open),
            mode,
            timeout: terms.timeout,
            cut_short: terms.cut_short,
            wait: terms.wait,
            cancellations,
            began,
            settled: false,
        })
    }

    fn end_wait(&self, books: &mut Books) -> Option<Waiting> {
        books.end_wait(self.wait?)
    }

    /// What waiting suspends if the guest stops until the acquire is over.
    pub(super) fn suspended(&self) -> Suspends {
        // Another guest of the owner can release what this one waits for.
        if !self.open.guest.is_sole_owner() {
            return Suspends::Nothing;
        }
        let books = self.open.guest.books();
        let others = books.waits.len() - usize::from(self.wait.is_some());
        let has_others = others > 0 || !books.holds.is_empty();
        let has_others = has_others || !books.ranges.is_empty();
        Suspends::Owner {
            may_block_others: has_others,
        }
    }

    /// Notes that the acquire has to wait, unless it is a try that has yet to be answered.
    pub(super) fn waiting(&self) {
        if self.wait.is_some() {
            self.open.story.waiting(self.mode);
        }
    }

    /// Accounts for the result of the acquire.
    pub(super) fn settle(mut self, result: Result<Guard>) -> Result<GuestGuard> {
        self.open.refuse_forked()?;
        self.settled = true;
        let settled = self.account(result);
        settled.inspect_err(|error| self.open.story.refused(self.mode, error))
    }

    fn account(&self, result: Result<Guard>) -> Result<GuestGuard> {
        let guard = match (result, self.cut_short) {
            (Err(e), Some(kind)) if e.is_would_block() || e.is_timeout() => {
                return Err(self.open.refuse(kind));
            }
            (result, _) => result?,
        };
        // The grant may have been revoked since the acquire began. If it is from now on, that takes
        // this hold away.
        if !self.open.may_hold(self.mode) {
            return Err(self.open.refuse(ErrorKind::Denied));
        }
        // Several acquires that began within a limit may end beyond it.
        let refuse = || self.open.refuse(ErrorKind::LimitExceeded);
        let guest = &self.open.guest;
        let share = guest.share_of_hold().ok_or_else(refuse)?;
        let (story, since) = (Arc::clone(&self.open.story), Instant::now());
        let report = HoldReport::new(&guest.engine, &story, &guard, since);
        let watch = report.watch();
        let mut books = guest.books();
        let ended = self.end_wait(&mut books);
        if !books.has_room() {
            drop(books);
            report.forget();
            return Err(refuse());
        }
        let id = books.number();
        books.holds.push(HeldGrant {
            id,
            lock: self.open.id,
            kept: false,
            story,
            since,
            share,
            guard,
            report,
        });
        drop(books);
        drop(ended);
        self.open.story.acquired(self.mode, self.began);
        watch.begin();
        Ok(GuestGuard::new(&self.open, id))
    }
}

/// An acquire of a guest in progress: the future of
/// [`GuestLock::acquire_async`](crate::sandbox::GuestLock::acquire_async).
///
/// # Cancel safety
///
/// Dropping it abandons the wait, and releases the lock if it was granted in the meantime.
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct GuestAcquire {
    // In this order: the wait counts until it has ended.
    acquire: Acquire,
    admission: Option<Admission>,
    waits: bool,
}

impl GuestAcquire {
    pub(super) fn start(mode: Mode, admission: Admission, meanwhile: Suspends) -> Self {
        let file = &admission.open.file;
        Self {
            acquire: Acquire::new(
                &file.handle,
                mode,
                Deadline::after(admission.timeout),
                meanwhile,
                admission.cancellations,
            ),
            admission: Some(admission),
            waits: false,
        }
    }
}

impl Future for GuestAcquire {
    type Output = Result<GuestGuard>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Poll::Ready(result) = Pin::new(&mut self.acquire).poll(cx) else {
            if !mem::replace(&mut self.waits, true)
                && let Some(admission) = &self.admission
            {
                admission.waiting();
            }
            return Poll::Pending;
        };
        let admission = self
            .admission
            .take()
            .expect("the future is not polled after completion");
        Poll::Ready(admission.settle(result))
    }
}
