//! What the waits and holds of a guest's lock share with it.

use std::sync::Arc;

use super::quota::Guest;
use super::rights::Rights;
use crate::error::{Error, ErrorKind, Result};
use crate::lock_file::LockFile;

/// The part of a lock that its waits and holds keep alive.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) guest: Arc<Guest>,
    pub(super) id: u64,
    pub(super) file: LockFile,
    pub(super) rights: Rights,
}

impl Open {
    pub(super) fn refuse(&self, kind: ErrorKind) -> Error {
        Error::new(kind, self.file.path())
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
        let mut usage = self.guest.usage();
        let index = usage.locks.iter().position(|(id, _)| *id == self.id);
        let lock = index.map(|index| usage.locks.swap_remove(index));
        drop(usage);
        drop(lock);
    }
}
