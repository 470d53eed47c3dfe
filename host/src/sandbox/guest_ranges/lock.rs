//! One lock of a range by a guest: whether it is admitted, its wait, and the accounts of that.

use std::future::Future;
use std::mem;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::OpenRanges;
use crate::acquire::Suspends;
use crate::error::{ErrorKind, Result};
use crate::range::Range;
use crate::ranges::LockRange;
use crate::sandbox::hooks::Story;
use crate::sandbox::quota::{Books, Waiting};
use crate::types::Mode;

/// A lock that the guest's rights and the hooks admit.
pub(super) struct Asked<'a> {
    open: &'a Arc<OpenRanges>,
    mode: Mode,
    range: Range,
    cancellations: u64,
    began: Instant,
}

impl<'a> Asked<'a> {
    pub(super) fn new(open: &'a Arc<OpenRanges>, mode: Mode, range: Range) -> Result<Self> {
        let guest = &open.guest;
        guest.engine.refuse_forked(Path::new(open.story.path()))?;
        // Before the rights are looked at: a grant that is revoked after that cancels this.
        let cancellations = open.file.cancellations();
        let asked = Self {
            open,
            mode,
            range,
            cancellations,
            began: Instant::now(),
        };
        if !open.may_lock(mode) || open.story.has_hooks() && !asked.story().admits(mode) {
            let error = open.refuse(ErrorKind::Denied);
            asked.story().refused(mode, &error);
            return Err(error);
        }
        Ok(asked)
    }

    /// It is made only where there is something to tell: that takes longer than the rest.
    fn story(&self) -> Story {
        self.open.story.of_range(self.range)
    }

    /// Locks the range if that is possible now. Otherwise the wait finds out why not.
    pub(super) fn at_once(&self) -> Result<bool> {
        if !self.open.file.try_at_once(self.mode, self.range) {
            return Ok(false);
        }
        let locked = self.open.check_rights(self.mode);
        if locked.is_err() || self.open.story.listener.listens() {
            self.story().ended(self.mode, self.began, &locked);
        }
        locked.map(|()| true)
    }
}

impl OpenRanges {
    /// The grant may have been revoked meanwhile, and everything unlocked before this was locked.
    fn check_rights(&self, mode: Mode) -> Result<()> {
        if self.may_lock(mode) {
            return Ok(());
        }
        self.file.unlock(Range::ALL)?;
        Err(self.refuse(ErrorKind::Denied))
    }
}

/// A lock that may have to wait.
#[derive(Debug)]
pub(super) struct Wait {
    // In this order: the wait counts until it has ended.
    lock: LockRange,
    admission: Option<Admission>,
    /// Whether the hooks have been told that it waits.
    told: bool,
}

impl Wait {
    pub(super) fn begin(asked: Asked<'_>, timeout: Option<Duration>, meanwhile: Suspends) -> Self {
        let (mode, range, cancellations) = (asked.mode, asked.range, asked.cancellations);
        let admission = Admission::new(asked, timeout);
        let file = &admission.open.file;
        let lock = file.start_since(mode, range, admission.timeout, meanwhile, cancellations);
        Self {
            lock,
            admission: Some(admission),
            told: false,
        }
    }

    pub(super) fn block(self) -> Result<()> {
        let admission = self.admission.expect("it has not ended");
        let locked = self.lock.block(|| admission.waiting());
        admission.settle(locked)
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let Poll::Ready(locked) = Pin::new(&mut self.lock).poll(cx) else {
            if !mem::replace(&mut self.told, true)
                && let Some(admission) = &self.admission
            {
                admission.waiting();
            }
            return Poll::Pending;
        };
        let admission = self.admission.take();
        let admission = admission.expect("the future is not polled after completion");
        Poll::Ready(admission.settle(locked))
    }
}

/// The terms of a wait. It counts until it is dropped.
#[derive(Debug)]
struct Admission {
    open: Arc<OpenRanges>,
    story: Arc<Story>,
    mode: Mode,
    timeout: Option<Duration>,
    /// The error if the time is up sooner than the guest asked for.
    cut_short: Option<ErrorKind>,
    wait: Option<u64>,
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
            self.story.abandoned(self.mode, self.began);
        }
    }
}

impl Admission {
    fn new(asked: Asked<'_>, timeout: Option<Duration>) -> Self {
        let story = Arc::new(asked.story());
        let Asked {
            open, mode, began, ..
        } = asked;
        let mut books = open.guest.books();
        let terms = books.terms(&open.guest, &story, mode, timeout, began);
        drop(books);
        Self {
            open: Arc::clone(open),
            story,
            mode,
            timeout: terms.timeout,
            cut_short: terms.cut_short,
            wait: terms.wait,
            began,
            settled: false,
        }
    }

    fn waiting(&self) {
        self.story.waiting(self.mode);
    }

    fn end_wait(&self, books: &mut Books) -> Option<Waiting> {
        books.end_wait(self.wait?)
    }

    /// Accounts for the result.
    fn settle(mut self, locked: Result<()>) -> Result<()> {
        self.settled = true;
        let settled = self.account(locked);
        self.story.ended(self.mode, self.began, &settled);
        settled
    }

    fn account(&self, locked: Result<()>) -> Result<()> {
        match (locked, self.cut_short) {
            (Err(e), Some(kind)) if e.is_would_block() || e.is_timeout() => {
                Err(self.open.refuse(kind))
            }
            (Ok(()), _) => self.open.check_rights(self.mode),
            (failed, _) => failed,
        }
    }
}

/// A lock of a range in progress: the future of [`GuestRanges::lock_async`](super::GuestRanges::lock_async).
///
/// # Cancel safety
///
/// If the range was free, the call has locked it already, and dropping this changes nothing. Otherwise
/// dropping it abandons the wait, as that of [`LockRange`]. To undo the lock in both cases, use
/// [`GuestRanges::start`](super::GuestRanges::start).
#[derive(Debug)]
#[must_use = "the range may not be locked until this is complete"]
pub struct GuestLockRange(Option<Box<Wait>>);

impl GuestLockRange {
    pub(super) fn locked() -> Self {
        Self(None)
    }

    pub(super) fn waits(wait: Wait) -> Self {
        Self(Some(Box::new(wait)))
    }
}

impl Future for GuestLockRange {
    type Output = Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let wait = self.0.as_mut();
        wait.map_or(Poll::Ready(Ok(())), |wait| wait.poll(cx))
    }
}

/// A lock of a range that may still be abandoned: the future of
/// [`GuestRanges::start`](super::GuestRanges::start).
///
/// # Cancel safety
///
/// Dropping it abandons the lock, even if the future is complete, unless it was
/// [kept](Self::keep): the guest then holds there what it held before. Where the guest has locked or
/// unlocked something else since, that stays.
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct GuestPendingRange(Wait);

impl GuestPendingRange {
    pub(super) fn new(mut wait: Wait) -> Self {
        wait.lock.make_tentative();
        Self(wait)
    }

    /// Lets the guest have what was locked.
    pub fn keep(mut self) {
        self.0.lock.keep();
    }
}

impl Future for GuestPendingRange {
    type Output = Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.poll(cx)
    }
}
