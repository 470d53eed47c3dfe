//! Ranges of a file that a guest locks.

mod lock;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::basis::Basis;
use super::hooks::Story;
use super::quota::{Guest, HandlePermit, RangeEntry};
use super::rights::Rights;
use crate::acquire::Suspends;
use crate::error::{Error, ErrorKind, Result};
use crate::range::Range;
use crate::ranges::{HeldRange, RangeFile};
use crate::types::Mode;

use self::lock::{Asked, Wait};
pub use self::lock::{GuestLockRange, GuestPendingRange};

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

    /// What waiting suspends if the guest stops until the lock is there.
    fn suspended(&self) -> Suspends {
        // Another guest of the owner can unlock what this one waits for.
        if !self.guest.is_sole_owner() {
            return Suspends::Nothing;
        }
        let may_block_others = true;
        Suspends::Owner { may_block_others }
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
        let asked = Asked::new(&self.open, mode, range.into())?;
        if asked.at_once()? {
            return Ok(());
        }
        let wait = Wait::begin(asked, timeout.into(), self.open.suspended());
        wait.block()
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
        self.future(mode, range.into(), timeout.into(), self.open.suspended())
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
        self.future(mode, range.into(), timeout.into(), Suspends::Nothing)
    }

    fn future(
        &self,
        mode: Mode,
        range: Range,
        timeout: Option<Duration>,
        meanwhile: Suspends,
    ) -> Result<GuestLockRange> {
        let asked = Asked::new(&self.open, mode, range)?;
        // The usual case, without the accounts of a wait.
        if asked.at_once()? {
            return Ok(GuestLockRange::locked());
        }
        let wait = Wait::begin(asked, timeout, meanwhile);
        Ok(GuestLockRange::waits(wait))
    }

    /// Begins to lock a range, as [`lock_async`](Self::lock_async) does, for a guest that fetches the
    /// result later, or never.
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
        let asked = Asked::new(&self.open, mode, range.into())?;
        let wait = Wait::begin(asked, timeout.into(), Suspends::Nothing);
        Ok(GuestPendingRange::new(wait))
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
