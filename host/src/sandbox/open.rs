//! What the waits and holds of a guest's lock share with it.

use std::path::Path;
use std::sync::Arc;

use super::basis::Basis;
use super::elsewhere::Elsewhere;
use super::hooks::Story;
use super::quota::{Guest, HeldGrant};
use super::rights::Rights;
use crate::error::{Error, ErrorKind, Result};
use crate::lock_file::LockFile;
use crate::types::{Holder, Mode};

/// The part of a lock that its waits and holds keep alive.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) guest: Arc<Guest>,
    pub(super) id: u64,
    pub(super) file: LockFile,
    pub(super) basis: Basis,
    pub(super) story: Arc<Story>,
}

impl Open {
    pub(super) fn refuse(&self, kind: ErrorKind) -> Error {
        Error::new(kind, Path::new(self.story.path()))
    }

    /// Whether the rights that are left allow a hold in `mode`.
    pub(super) fn may_hold(&self, mode: Mode) -> bool {
        self.basis.rights().contains(Rights::to_hold(mode))
    }

    /// Asks what may take long, if the lock does not answer at once, on another thread than this one.
    pub(super) fn elsewhere<T: Send + 'static>(
        self: &Arc<Self>,
        ask: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> Elsewhere<T> {
        if self.guest.is_forked() || self.file.handle.queue().answers_at_once() {
            return Elsewhere::Known(Some(ask(self)));
        }
        let open = Arc::clone(self);
        let services = &self.file.handle.context.services;
        Elsewhere::ask(&services.waiter_pool, move || ask(&open))
    }

    /// Gives a hold back; without one, says why that is an error.
    pub(super) fn release(&self, hold: Option<HeldGrant>) -> Result<()> {
        match hold {
            Some(hold) => hold.release(),
            // Reports why not.
            None => self.file.release(),
        }
        .inspect_err(|error| self.story.failed(error))
    }

    pub(super) fn is_locked(&self) -> Result<bool> {
        let locked = self.file.is_locked();
        locked.inspect_err(|error| self.story.failed(error))
    }

    pub(super) fn holder(&self) -> Result<Option<Holder>> {
        let holder = self.file.find_holder(false);
        holder.inspect_err(|error| self.story.failed(error))
    }

    pub(super) fn refuse_forked(&self) -> Result<()> {
        self.guest.engine.refuse_forked(self.file.path())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if self.guest.is_forked() {
            return;
        }
        let mut books = self.guest.books();
        let index = books.locks.iter().position(|entry| entry.id == self.id);
        let lock = index.map(|index| books.locks.swap_remove(index));
        drop(books);
        drop(lock);
    }
}
