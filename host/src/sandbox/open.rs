//! What the waits and holds of a guest's lock share with it.

use std::path::Path;
use std::sync::Arc;

use super::basis::Basis;
use super::hooks::Story;
use super::quota::Guest;
use super::rights::Rights;
use crate::error::{Error, ErrorKind, Result};
use crate::lock_file::LockFile;
use crate::types::Mode;

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
