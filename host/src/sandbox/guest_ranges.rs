//! Ranges of a file that a guest locks.

use std::mem;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::hooks::Story;
use super::open::Basis;
use super::quota::{Books, Guest, HandlePermit, RangeEntry, Waiting};
use super::rights::Rights;
use crate::acquire::Suspends;
use crate::error::{Error, ErrorKind, Result};
use crate::range::Range;
use crate::ranges::{HeldRange, LockRange, RangeFile};
use crate::types::Mode;

/// A file of which a guest locks ranges; see [`RangeFile`]. The owner is the guest: all that it opens
/// of one file is one.
///
/// [`Limits::longest_hold`](super::Limits::longest_hold) does not count for ranges, which have no hold
/// of their own: what is locked, converted and unlocked need not be the same.
#[derive(Debug)]
pub struct GuestRanges {
    open: Arc<OpenRanges>,
    _handle: HandlePermit,
}

/// The part that waits keep alive.
#[derive(Debug)]
struct OpenRanges {
    guest: Arc<Guest>,
    id: u64,
    file: RangeFile,
    basis: Basis,
    story: Story,
}

impl Drop for OpenRanges {
    fn drop(&mut self) {
        if self.guest.is_forked() {
            return;
        }
        let mut books = self.guest.books();
        let index = books.ranges.iter().position(|entry| entry.id == self.id);
        let entry = index.map(|index| books.ranges.swap_remove(index));
        drop(books);
        drop(entry);
    }
}

impl OpenRanges {
    fn refuse(&self, kind: ErrorKind) -> Error {
        Error::new(kind, Path::new(self.story.path()))
    }

    fn may_lock(&self, mode: Mode) -> bool {
        self.basis.rights().contains(Rights::to_hold(mode))
    }
}

impl GuestRanges {
    pub(super) fn new(
        guest: &Arc<Guest>,
        story: Story,
        file: RangeFile,
        basis: Basis,
        handle: HandlePermit,
    ) -> Self {
        let mut books = guest.books();
        let id = books.number();
        books.ranges.push(RangeEntry {
            id,
            path: story.path().to_owned(),
            file: file.clone(),
            basis: basis.clone(),
        });
        drop(books);
        let open = OpenRanges {
            guest: Arc::clone(guest),
            id,
            file,
            basis,
            story,
        };
        Self {
            open: Arc::new(open),
            _handle: handle,
        }
    }

    pub(super) fn guest(&self) -> &Arc<Guest> {
        &self.open.guest
    }

    /// The path, as the guest opened it; empty if it lent an open file.
    pub fn path(&self) -> &str {
        self.open.story.path()
    }

    /// Locks a range on the calling thread; see [`RangeFile::lock`]. The guest is suspended meanwhile.
    ///
    /// # Errors
    ///
    /// As [`RangeFile::lock`]; [denied](Error::is_denied) for a mode that is not granted; [limit
    /// exceeded](Error::is_limit_exceeded); [deadlock](Error::is_deadlock) if the wait could not end
    /// before the guest resumes, or closes a cycle of guests that wait for one another;
    /// [canceled](Error::is_canceled) if the longest wait ends before the timeout.
    pub fn lock(
        &self,
        mode: Mode,
        range: impl Into<Range>,
        timeout: impl Into<Option<Duration>>,
    ) -> Result<()> {
        let admission = Admission::new(&self.open, mode, range.into(), timeout.into())?;
        let lock = admission.start(admission.suspended());
        let locked = lock.block(|| admission.story.waiting(mode));
        admission.settle(locked)
    }

    /// Locks a range in a task, while the guest is suspended.
    ///
    /// # Errors
    ///
    /// The call fails with [denied](Error::is_denied) and [limit
    /// exceeded](Error::is_limit_exceeded) if that is known beforehand. The future fails as
    /// [`lock`](Self::lock).
    pub fn lock_suspended(
        &self,
        mode: Mode,
        range: impl Into<Range>,
        timeout: impl Into<Option<Duration>>,
    ) -> Result<GuestLockRange> {
        let admission = Admission::new(&self.open, mode, range.into(), timeout.into())?;
        let lock = admission.start(admission.suspended());
        Ok(GuestLockRange::new(lock, admission))
    }

    /// Locks a range in a task, while the guest keeps running.
    ///
    /// # Errors
    ///
    /// As [`lock_suspended`](Self::lock_suspended), except for the deadlock.
    pub fn lock_async(
        &self,
        mode: Mode,
        range: impl Into<Range>,
        timeout: impl Into<Option<Duration>>,
    ) -> Result<GuestLockRange> {
        let admission = Admission::new(&self.open, mode, range.into(), timeout.into())?;
        let lock = admission.start(Suspends::Nothing);
        Ok(GuestLockRange::new(lock, admission))
    }

    /// Begins to lock a range, as [`lock_async`](Self::lock_async) does, for a guest that looks after
    /// the result later, or never.
    ///
    /// # Errors
    ///
    /// As [`lock_async`](Self::lock_async).
    pub fn start(
        &self,
        mode: Mode,
        range: impl Into<Range>,
        timeout: impl Into<Option<Duration>>,
    ) -> Result<GuestPendingRange> {
        let admission = Admission::new(&self.open, mode, range.into(), timeout.into())?;
        let lock = admission.start(Suspends::Nothing).tentative();
        Ok(GuestPendingRange(GuestLockRange::new(lock, admission)))
    }

    /// Unlocks a range; see [`RangeFile::unlock`].
    ///
    /// # Errors
    ///
    /// As [`RangeFile::unlock`].
    pub fn unlock(&self, range: impl Into<Range>) -> Result<()> {
        let unlocked = self.open.file.unlock(range);
        unlocked.inspect_err(|error| self.open.story.failed(error))
    }

    /// A lock of another owner that excludes `mode` in the range; see [`RangeFile::query`].
    ///
    /// # Errors
    ///
    /// As [`RangeFile::query`].
    pub fn query(&self, mode: Mode, range: impl Into<Range>) -> Result<Option<HeldRange>> {
        let found = self.open.file.query(mode, range);
        found.inspect_err(|error| self.open.story.failed(error))
    }

    /// What the guest holds of the file, in the order of the bytes.
    pub fn held(&self) -> Vec<HeldRange> {
        self.open.file.held()
    }

    /// Counts a handle of the guest, until the result is dropped.
    ///
    /// # Errors
    ///
    /// [Limit exceeded](Error::is_limit_exceeded).
    pub fn handle(&self) -> Result<HandlePermit> {
        self.open.guest.handle(self.open.file.path())
    }
}

/// The terms on which a lock of a range was admitted. It counts as a wait until it is dropped.
#[derive(Debug)]
struct Admission {
    open: Arc<OpenRanges>,
    story: Arc<Story>,
    mode: Mode,
    range: Range,
    timeout: Option<Duration>,
    /// The error if the time is up sooner than the guest asked for.
    cut_short: Option<ErrorKind>,
    wait: Option<u64>,
    cancellations: u64,
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
    fn new(
        open: &Arc<OpenRanges>,
        mode: Mode,
        range: Range,
        timeout: Option<Duration>,
    ) -> Result<Self> {
        let guest = &open.guest;
        guest.engine.refuse_forked(Path::new(open.story.path()))?;
        // Before the rights are looked at: a grant that is revoked after that cancels this.
        let cancellations = open.file.cancellations();
        let story = Arc::new(open.story.of_range(range));
        if !open.may_lock(mode) || !story.admits(mode) {
            let error = open.refuse(ErrorKind::Denied);
            story.refused(mode, &error);
            return Err(error);
        }
        let began = Instant::now();
        let mut books = guest.books();
        let terms = books.terms(guest, &story, mode, timeout, began);
        drop(books);
        Ok(Self {
            open: Arc::clone(open),
            story,
            mode,
            range,
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

    /// What waiting suspends if the guest stops until the lock is there.
    fn suspended(&self) -> Suspends {
        // Another guest of the owner can unlock what this one waits for.
        if !self.open.guest.is_sole_owner() {
            return Suspends::Nothing;
        }
        let may_block_others = true;
        Suspends::Owner { may_block_others }
    }

    fn start(&self, meanwhile: Suspends) -> LockRange {
        let file = &self.open.file;
        file.start_since(
            self.mode,
            self.range,
            self.timeout,
            meanwhile,
            self.cancellations,
        )
    }

    /// Accounts for the result.
    fn settle(mut self, locked: Result<()>) -> Result<()> {
        self.settled = true;
        let settled = self.account(locked);
        match &settled {
            Ok(()) => self.story.acquired(self.mode, self.began),
            Err(error) => self.story.refused(self.mode, error),
        }
        settled
    }

    fn account(&self, locked: Result<()>) -> Result<()> {
        match (locked, self.cut_short) {
            (Err(e), Some(kind)) if e.is_would_block() || e.is_timeout() => {
                return Err(self.open.refuse(kind));
            }
            (locked, _) => locked?,
        }
        // The grant may have been revoked meanwhile, and everything unlocked before this was locked.
        if !self.open.may_lock(self.mode) {
            self.open.file.unlock(Range::ALL)?;
            return Err(self.open.refuse(ErrorKind::Denied));
        }
        Ok(())
    }
}

/// A lock of a range in progress: the future of [`GuestRanges::lock_async`].
///
/// # Cancel safety
///
/// As that of [`LockRange`].
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct GuestLockRange {
    // In this order: the wait counts until it has ended.
    lock: LockRange,
    admission: Option<Admission>,
    waits: bool,
}

impl GuestLockRange {
    fn new(lock: LockRange, admission: Admission) -> Self {
        Self {
            lock,
            admission: Some(admission),
            waits: false,
        }
    }
}

impl Future for GuestLockRange {
    type Output = Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Poll::Ready(locked) = Pin::new(&mut self.lock).poll(cx) else {
            if !mem::replace(&mut self.waits, true)
                && let Some(admission) = &self.admission
            {
                admission.story.waiting(admission.mode);
            }
            return Poll::Pending;
        };
        let admission = self
            .admission
            .take()
            .expect("the future is not polled after completion");
        Poll::Ready(admission.settle(locked))
    }
}

/// A lock of a range that may still be abandoned: the future of [`GuestRanges::start`].
///
/// # Cancel safety
///
/// Dropping it abandons the lock, even if the future is complete, unless it was
/// [kept](Self::keep): the guest then holds there what it held before. A lock that the guest has
/// locked over or unlocked in the meantime stays as that has left it.
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct GuestPendingRange(GuestLockRange);

impl GuestPendingRange {
    /// Lets the guest have what was locked.
    pub fn keep(mut self) {
        self.0.lock.keep();
    }
}

impl Future for GuestPendingRange {
    type Output = Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx)
    }
}
