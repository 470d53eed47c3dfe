//! The files that guests created, and how many there may be.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use cap_std::fs::Dir;

use crate::lock_path::Quota;

/// What a guest may create: within its own limit, and within that of its tenant.
#[derive(Debug)]
pub(super) struct Created {
    pub(super) own: CreatedFiles,
    pub(super) tenant: Option<Arc<CreatedFiles>>,
}

impl Quota for Created {
    fn count(&self, dir: &Arc<Dir>, path: &Path) -> io::Result<bool> {
        let added = self.own.count(dir, path)?;
        if let Some(tenant) = &self.tenant {
            tenant.count(dir, path).inspect_err(|_| {
                if added {
                    self.own.discount(dir, path);
                }
            })?;
        }
        Ok(added)
    }

    fn discount(&self, dir: &Arc<Dir>, path: &Path) {
        self.own.discount(dir, path);
        if let Some(tenant) = &self.tenant {
            tenant.discount(dir, path);
        }
    }
}

/// The files that one guest, or all of a tenant, created and that still exist.
#[derive(Debug)]
pub(super) struct CreatedFiles {
    limit: AtomicUsize,
    files: Mutex<Vec<CreatedFile>>,
}

#[derive(Clone, Debug)]
struct CreatedFile {
    dir: Weak<Dir>,
    path: PathBuf,
}

impl CreatedFile {
    fn is(&self, dir: &Arc<Dir>, path: &Path) -> bool {
        std::ptr::eq(self.dir.as_ptr(), Arc::as_ptr(dir)) && self.path == path
    }

    /// Whether its name is taken, or cannot be looked up.
    fn is_there(&self) -> bool {
        let found = self
            .dir
            .upgrade()
            .map(|dir| dir.symlink_metadata(&self.path));
        found.is_some_and(|found| {
            found.map_or_else(|e| e.kind() != io::ErrorKind::NotFound, |_| true)
        })
    }
}

impl CreatedFiles {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit: AtomicUsize::new(limit),
            files: Mutex::default(),
        }
    }

    pub(super) fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// How many count.
    pub(super) fn len(&self) -> usize {
        self.files().len()
    }

    fn files(&self) -> MutexGuard<'_, Vec<CreatedFile>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a file unless it counts already. Answers whether it did, or none if there is no room.
    fn add(&self, dir: &Arc<Dir>, path: &Path) -> Option<bool> {
        let limit = self.limit.load(Ordering::Relaxed);
        // Without a limit, the list would grow with each file that is ever created.
        if limit == usize::MAX {
            return Some(false);
        }
        let mut files = self.files();
        if files.iter().any(|file| file.is(dir, path)) {
            return Some(false);
        }
        let room = files.len() < limit;
        room.then(|| {
            files.push(CreatedFile {
                dir: Arc::downgrade(dir),
                path: path.to_owned(),
            });
            true
        })
    }
}

impl CreatedFiles {
    fn count(&self, dir: &Arc<Dir>, path: &Path) -> io::Result<bool> {
        if let Some(added) = self.add(dir, path) {
            return Ok(added);
        }
        // Some may have been removed. The check does not hold the mutex.
        let mut gone = self.files().clone();
        gone.retain(|file| !file.is_there());
        let is_gone = |file: &CreatedFile| {
            let same = |other: &CreatedFile| {
                std::ptr::eq(file.dir.as_ptr(), other.dir.as_ptr()) && file.path == other.path
            };
            gone.iter().any(same)
        };
        self.files().retain(|file| !is_gone(file));
        let why = "the guest may not create another file";
        let full = || io::Error::new(io::ErrorKind::QuotaExceeded, why);
        self.add(dir, path).ok_or_else(full)
    }

    fn discount(&self, dir: &Arc<Dir>, path: &Path) {
        self.files().retain(|file| !file.is(dir, path));
    }
}
