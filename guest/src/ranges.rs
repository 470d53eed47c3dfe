use crate::bindings::ranges;
use crate::time::to_millis;
use crate::{Error, Mode, Result};
use alloc::sync::Arc;
use core::ops::{Bound, RangeBounds};
use core::time::Duration;

pub use ranges::{Conflict, Range};

impl Range {
    /// The whole file, however long it becomes.
    pub const ALL: Self = Self {
        start: 0,
        length: 0,
    };

    /// The bytes of a Rust range. The host refuses an empty one with
    /// [`NotSupported`](crate::ErrorKind::NotSupported).
    pub fn of(bytes: impl RangeBounds<u64>) -> Self {
        let start = match bytes.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(before) => before.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match bytes.end_bound() {
            Bound::Included(last) => last.saturating_add(1),
            Bound::Excluded(end) => *end,
            Bound::Unbounded => return Self { start, length: 0 },
        };
        match end.checked_sub(start) {
            Some(length) if length > 0 => Self { start, length },
            // Beyond the last offset of every file.
            _ => Self {
                start: u64::MAX,
                length: 1,
            },
        }
    }
}

/// A file whose ranges of bytes this guest locks, as POSIX programs do with
/// `fcntl` and `lockf`.
///
/// The owner is this guest: all handles on one file are one owner, and never
/// conflict. [`lock`](Self::lock) and [`unlock`](Self::unlock) change what the
/// guest holds of a range, and so convert, split and merge. When the last handle
/// on a file is dropped, everything there is unlocked.
///
/// ```no_run
/// use locket_guest::{Mode, RangeFile};
///
/// # fn main() -> locket_guest::Result<()> {
/// let accounts = RangeFile::open("/jobs/accounts")?;
/// accounts.lock(Mode::Exclusive, 128..192, None)?;
/// // Change the record, which no other program that locks it does meanwhile.
/// accounts.unlock(128..192)
/// # }
/// ```
#[derive(Debug)]
pub struct RangeFile {
    raw: ranges::RangeFile,
    path: Arc<str>,
}

impl RangeFile {
    /// Opens the file at `path`, and creates it if it is missing and may be
    /// created. Locks nothing.
    ///
    /// # Errors
    ///
    /// Those of [`LockFile::open`](crate::LockFile::open).
    pub fn open(path: impl AsRef<str>) -> Result<Self> {
        let path = path.as_ref();
        Self::opened(path, ranges::RangeFile::open(path))
    }

    pub(crate) fn opened(
        path: &str,
        opened: Result<ranges::RangeFile, ranges::Error>,
    ) -> Result<Self> {
        match opened {
            Ok(raw) => Ok(Self {
                raw,
                path: path.into(),
            }),
            Err(kind) => Err(Error::new(kind, path)),
        }
    }

    /// The path with which the file was opened; empty if it was opened by a
    /// descriptor.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Locks a range.
    ///
    /// Waits for at most `timeout`. `None` waits indefinitely; [`Duration::ZERO`]
    /// tries once. Nothing else runs in this instance in the meantime, and what
    /// the guest holds in the range stays as it is.
    ///
    /// # Errors
    ///
    /// Those of [`LockFile::acquire`](crate::LockFile::acquire);
    /// [`NotSupported`](crate::ErrorKind::NotSupported) for a range that is empty
    /// or ends beyond the largest offset of a file. Nothing has changed then.
    pub fn lock(
        &self,
        mode: Mode,
        bytes: impl RangeBounds<u64>,
        timeout: impl Into<Option<Duration>>,
    ) -> Result<()> {
        let timeout = timeout.into().map(to_millis);
        let locked = self.raw.lock(mode, Range::of(bytes), timeout);
        locked.map_err(|kind| self.error(kind))
    }

    /// Locks a range if that needs no wait; otherwise returns `false`.
    ///
    /// # Errors
    ///
    /// Those of [`lock`](Self::lock), except `WouldBlock`.
    pub fn try_lock(&self, mode: Mode, bytes: impl RangeBounds<u64>) -> Result<bool> {
        match self.lock(mode, bytes, Duration::ZERO) {
            Ok(()) => Ok(true),
            Err(error) if error.is_would_block() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Unlocks a range. It is no error if the guest holds nothing there.
    ///
    /// # Errors
    ///
    /// [`NotSupported`], [`LimitExceeded`] if the guest would be left with too many
    /// ranges, or [`Io`].
    ///
    /// [`Io`]: crate::ErrorKind::Io
    /// [`LimitExceeded`]: crate::ErrorKind::LimitExceeded
    /// [`NotSupported`]: crate::ErrorKind::NotSupported
    pub fn unlock(&self, bytes: impl RangeBounds<u64>) -> Result<()> {
        let unlocked = self.raw.unlock(Range::of(bytes));
        unlocked.map_err(|kind| self.error(kind))
    }

    /// A lock of another owner that excludes `mode` in the range.
    ///
    /// # Errors
    ///
    /// [`NotSupported`](crate::ErrorKind::NotSupported) or
    /// [`Io`](crate::ErrorKind::Io).
    pub fn query(&self, mode: Mode, bytes: impl RangeBounds<u64>) -> Result<Option<Conflict>> {
        let found = self.raw.query(mode, Range::of(bytes));
        found.map_err(|kind| self.error(kind))
    }

    /// The interface resource of this handle, to pass to your own imports.
    pub fn as_raw(&self) -> &ranges::RangeFile {
        &self.raw
    }

    fn error(&self, kind: ranges::Error) -> Error {
        Error::new(kind, Arc::clone(&self.path))
    }

    /// Begins to lock a range, and returns immediately.
    ///
    /// # Errors
    ///
    /// [`LimitExceeded`](crate::ErrorKind::LimitExceeded), or
    /// [`AccessDenied`](crate::ErrorKind::AccessDenied) for a mode that is not
    /// granted. [`PendingRange::finish`] returns all others.
    #[cfg(feature = "poll")]
    pub fn start(
        &self,
        mode: Mode,
        bytes: impl RangeBounds<u64>,
        timeout: impl Into<Option<Duration>>,
    ) -> Result<PendingRange> {
        let timeout = timeout.into().map(to_millis);
        let started =
            crate::bindings::ranges_poll::start(&self.raw, mode, Range::of(bytes), timeout);
        match started {
            Ok(raw) => Ok(PendingRange {
                raw,
                path: Arc::clone(&self.path),
            }),
            Err(kind) => Err(self.error(kind)),
        }
    }

    /// Locks a range while the other tasks of this guest keep running.
    ///
    /// # Errors
    ///
    /// Those of [`lock`](Self::lock), but never
    /// [`Deadlock`](crate::ErrorKind::Deadlock), since another task can unlock.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future abandons the wait. Once the host has answered, it is too
    /// late: the range is locked, even if the future was not polled again.
    #[cfg(feature = "async")]
    pub async fn lock_async(
        &self,
        mode: Mode,
        bytes: impl RangeBounds<u64>,
        timeout: impl Into<Option<Duration>>,
    ) -> Result<()> {
        let timeout = timeout.into().map(to_millis);
        let range = Range::of(bytes);
        let locked = crate::bindings::ranges_async::lock(&self.raw, mode, range, timeout).await;
        locked.map_err(|kind| self.error(kind))
    }
}

/// A lock of a range in progress, created by [`RangeFile::start`].
///
/// Dropping it before [`finish`](Self::finish) has returned the result abandons it.
/// If the range has been locked in the meantime, the guest then holds there what it
/// held before, except where it has locked or unlocked something else since.
#[cfg(feature = "poll")]
#[derive(Debug)]
#[must_use = "the wait is abandoned when it is dropped"]
pub struct PendingRange {
    raw: crate::bindings::ranges_poll::PendingRange,
    path: Arc<str>,
}

#[cfg(feature = "poll")]
impl PendingRange {
    /// A pollable that is ready as soon as [`finish`](Self::finish) has an
    /// answer. It remains usable after `self` is dropped, and is ready then.
    pub fn subscribe(&self) -> wasip2::io::poll::Pollable {
        self.raw.subscribe()
    }

    /// Takes the result. Returns `None` while the wait continues, and again once
    /// the result has been taken.
    ///
    /// # Errors
    ///
    /// Those of [`RangeFile::lock`].
    pub fn finish(&self) -> Option<Result<()>> {
        let answer = self.raw.finish()?;
        Some(answer.map_err(|kind| Error::new(kind, Arc::clone(&self.path))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rust_ranges_are_ranges_of_bytes() {
        assert_eq!(Range::of(..), Range::ALL);
        assert_eq!(
            Range::of(3..),
            Range {
                start: 3,
                length: 0
            }
        );
        assert_eq!(
            Range::of(3..5),
            Range {
                start: 3,
                length: 2
            }
        );
        assert_eq!(
            Range::of(3..=5),
            Range {
                start: 3,
                length: 3
            }
        );
        assert_eq!(
            Range::of(..5),
            Range {
                start: 0,
                length: 5
            }
        );
        for empty in [Range::of(3..3), Range::of(..0)] {
            assert_eq!(empty.start, u64::MAX);
        }
    }
}
