//! A hold of a guest.

use std::sync::Arc;
use std::time::Duration;

use super::open::Open;
use super::quota::HeldGrant;
use crate::error::{ErrorKind, Result};

/// A hold of a guest. Dropping it releases the lock.
#[derive(Debug)]
#[must_use = "the lock is released as soon as the hold is dropped"]
pub struct GuestGuard {
    open: Arc<Open>,
    id: u64,
}

impl GuestGuard {
    pub(super) fn new(open: &Arc<Open>, id: u64) -> Self {
        let open = Arc::clone(open);
        Self { open, id }
    }

    /// For how long the hold lasts from now on, if it expires; zero if it is over.
    pub fn valid_for(&self) -> Option<Duration> {
        if self.open.guest.is_forked() {
            return Some(Duration::ZERO);
        }
        let books = self.open.guest.books();
        let entry = books.index(self.id).map(|index| &books.holds[index]);
        entry.map_or(Some(Duration::ZERO), HeldGrant::valid_for)
    }

    /// The fencing token of the hold; see [`Guard::token`](crate::Guard::token).
    pub fn token(&self) -> Option<u64> {
        if self.open.guest.is_forked() {
            return None;
        }
        let books = self.open.guest.books();
        books.holds[books.index(self.id)?].guard.token()
    }

    /// Releases the lock and reports errors. Dropping the guard releases it and ignores errors.
    ///
    /// # Errors
    ///
    /// [Not locked](crate::Error::is_not_locked) if it was released through the
    /// [`GuestLock`](crate::sandbox::GuestLock), otherwise as
    /// [`Guard::release`](crate::Guard::release).
    pub fn release(self) -> Result<()> {
        self.open.refuse_forked()?;
        let entry = self.open.guest.books().take(self.id);
        entry
            .ok_or_else(|| self.open.refuse(ErrorKind::NotLocked))?
            .release()
            .inspect_err(|error| self.open.story.failed(error))
    }

    /// Hands the hold to the lock that it was acquired through. It lasts until it is
    /// [released](crate::sandbox::GuestLock::release) through that lock, or that lock is dropped.
    /// Holds that were kept before and have been lost since are forgotten.
    pub fn keep(self) {
        if self.open.guest.is_forked() {
            return;
        }
        let mut books = self.open.guest.books();
        let lock = self.open.id;
        let lost: Vec<_> = books
            .holds
            .extract_if(.., |entry| {
                entry.kept && entry.lock == lock && !entry.guard.is_held()
            })
            .collect();
        if let Some(index) = books.index(self.id) {
            books.holds[index].kept = true;
        }
        drop(books);
        drop(lost);
    }
}

impl Drop for GuestGuard {
    fn drop(&mut self) {
        if self.open.guest.is_forked() {
            return;
        }
        let mut books = self.open.guest.books();
        let kept = books
            .index(self.id)
            .is_none_or(|index| books.holds[index].kept);
        let entry = if kept { None } else { books.take(self.id) };
        drop(books);
        drop(entry);
    }
}
