//! What a guest uses at the moment, and what it may still use.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use cap_std::fs::Dir;

use super::limits::Limits;
use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::guard::Guard;
use crate::lock_file::LockFile;
use crate::lock_path::Quota;
use crate::owner::OwnerId;
use crate::protocol::Protocol;

/// What the locks of a guest share.
#[derive(Debug)]
pub(super) struct Guest {
    pub(super) engine: Engine,
    pub(super) owner: OwnerId,
    pub(super) protocol: Protocol,
    pub(super) limits: Limits,
    pub(super) created: Arc<CreatedFiles>,
    usage: Mutex<Usage>,
}

/// What a guest uses.
#[derive(Debug, Default)]
pub(super) struct Usage {
    next: u64,
    handles: usize,
    pub(super) waiters: usize,
    /// Every lock that is open or awaited.
    pub(super) locks: Vec<(u64, LockFile)>,
    /// Every unreleased hold, including lost ones.
    pub(super) holds: Vec<HeldGrant>,
}

#[derive(Debug)]
pub(super) struct HeldGrant {
    pub(super) id: u64,
    /// The lock that it was acquired through.
    pub(super) lock: u64,
    /// Belongs to that lock, and is released with it.
    pub(super) kept: bool,
    pub(super) guard: Guard,
}

impl HeldGrant {
    pub(super) fn valid_for(&self) -> Option<Duration> {
        match self.guard.expires_at() {
            Some(until) => Some(until.saturating_duration_since(Instant::now())),
            None if self.guard.is_held() => None,
            None => Some(Duration::ZERO),
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        if !self.is_forked() {
            self.engine.disown(self.owner);
        }
    }
}

impl Usage {
    pub(super) fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// The index of a hold; holds are ordered by number.
    pub(super) fn index(&self, hold: u64) -> Option<usize> {
        self.holds
            .binary_search_by_key(&hold, |entry| entry.id)
            .ok()
    }

    pub(super) fn take(&mut self, hold: u64) -> Option<HeldGrant> {
        self.index(hold).map(|index| self.holds.remove(index))
    }
}

impl Guest {
    pub(super) fn new(
        engine: &Engine,
        label: Option<&str>,
        protocol: Protocol,
        limits: Limits,
    ) -> Self {
        Self {
            engine: engine.clone(),
            owner: engine.owner(label),
            protocol,
            created: Arc::new(CreatedFiles {
                limit: limits.created,
                files: Mutex::default(),
            }),
            limits,
            usage: Mutex::default(),
        }
    }

    /// Not for a forked child (see [`is_forked`](Self::is_forked)). Under the mutex, call nothing
    /// that can block.
    pub(super) fn usage(&self) -> MutexGuard<'_, Usage> {
        self.usage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this is a forked child of the process in which the guest runs. Its mutexes may be
    /// locked by threads that do not exist here, and its locks are the parent's.
    pub(super) fn is_forked(&self) -> bool {
        self.engine.is_forked()
    }

    /// Lost holds do not count.
    pub(super) fn may_hold_another(&self, usage: &Usage) -> bool {
        let limit = self.limits.held;
        let held = || {
            let held = usage.holds.iter().filter(|entry| entry.guard.is_held());
            held.count()
        };
        usage.holds.len() < limit || held() < limit
    }

    /// Counts one more handle, unless there are `most` already.
    fn count_handle(self: &Arc<Self>, most: usize) -> Option<HandlePermit> {
        if self.is_forked() {
            return None;
        }
        let mut usage = self.usage();
        let free = usage.handles < most;
        usage.handles += usize::from(free);
        free.then(|| HandlePermit(Arc::clone(self)))
    }

    /// A handle of the guest for what is at `path`.
    pub(super) fn handle(self: &Arc<Self>, path: &Path) -> Result<HandlePermit> {
        self.count_handle(self.limits.handles)
            .ok_or_else(|| Error::new(ErrorKind::LimitExceeded, path))
    }

    /// A handle for something whose creation cannot fail, such as a pollable: these may go up to
    /// twice the limit.
    pub(super) fn extra_handle(self: &Arc<Self>) -> Result<HandlePermit> {
        self.count_handle(self.limits.handles.saturating_mul(2))
            .ok_or_else(|| Error::new(ErrorKind::LimitExceeded, Path::new("")))
    }
}

/// A counted handle of a guest. It counts until it is dropped.
#[derive(Debug)]
pub struct HandlePermit(Arc<Guest>);

impl HandlePermit {
    /// Another handle, for something whose creation cannot fail, such as a pollable. These count
    /// too, and may go up to twice [`Limits::handles`].
    ///
    /// # Errors
    ///
    /// [Limit exceeded](Error::is_limit_exceeded), which can reach the guest only as a trap.
    pub fn extra(&self) -> Result<Self> {
        self.0.extra_handle()
    }
}

impl Drop for HandlePermit {
    fn drop(&mut self) {
        if !self.0.is_forked() {
            self.0.usage().handles -= 1;
        }
    }
}

/// The files that a guest created and that still exist.
#[derive(Debug)]
pub(super) struct CreatedFiles {
    limit: usize,
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
    fn files(&self) -> MutexGuard<'_, Vec<CreatedFile>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a file unless it counts already. Answers whether it did, or none if there is no room.
    fn add(&self, dir: &Arc<Dir>, path: &Path) -> Option<bool> {
        let mut files = self.files();
        if files.iter().any(|file| file.is(dir, path)) {
            return Some(false);
        }
        let room = files.len() < self.limit;
        room.then(|| {
            files.push(CreatedFile {
                dir: Arc::downgrade(dir),
                path: path.to_owned(),
            });
            true
        })
    }
}

impl Quota for CreatedFiles {
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
