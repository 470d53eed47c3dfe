//! What a guest uses at the moment, and what it may still use.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::basis::Basis;
use super::builder::SandboxBuilder;
use super::created::{Created, CreatedFiles};
use super::hold_report::HoldReport;
use super::hooks::{Listener, Story};
use super::limits::Limits;
use super::paths::Grant;
use super::tenant::{Kind, Share, Shared};
use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::guard::Guard;
use crate::lock_file::LockFile;
use crate::owner::{Client, OwnerId};
use crate::protocol::Protocol;
use crate::ranges::RangeFile;
use crate::types::Mode;

/// What the locks of a guest share.
#[derive(Debug)]
pub(super) struct Guest {
    pub(super) engine: Engine,
    pub(super) client: Client,
    /// The settings that stay the same.
    pub(super) settings: Settings,
    pub(super) tenant: Option<Arc<Shared>>,
    listener: Mutex<Arc<Listener>>,
    pub(super) created: Arc<Created>,
    grants: Mutex<Vec<Arc<Grant>>>,
    books: Mutex<Books>,
}

/// What a guest may choose.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) protocol: Protocol,
    /// `None` means all of them.
    pub(super) protocols: Option<Vec<Protocol>>,
    /// Whether it may lock files that it has open by other means.
    pub(super) lends: bool,
    /// Whether kernel locks on files in granted directories have fencing tokens.
    pub(super) fencing: bool,
    pub(super) database: Option<std::path::PathBuf>,
}

/// How much a guest, or a tenant, uses.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Usage {
    /// Open locks, guards, pending acquires, pollables.
    pub handles: usize,
    /// Holds that are neither released nor lost.
    pub held: usize,
    /// Acquires in progress that may wait.
    pub waiters: usize,
    /// Files that were created, and were there when that was last looked at; 0 without a limit.
    pub created: usize,
}

/// The limits of a guest, and all that it uses.
#[derive(Debug)]
pub(super) struct Books {
    next: u64,
    pub(super) limits: Limits,
    handles: usize,
    /// Every acquire that may wait.
    pub(super) waits: Vec<Waiting>,
    /// Every lock that is open or awaited.
    pub(super) locks: Vec<OpenEntry>,
    /// Every unreleased hold, including lost ones.
    pub(super) holds: Vec<HeldGrant>,
    /// Every file of which ranges can be locked.
    pub(super) ranges: Vec<RangeEntry>,
}

/// A lock that is open or awaited.
#[derive(Debug)]
pub(super) struct OpenEntry {
    pub(super) id: u64,
    pub(super) file: LockFile,
    pub(super) basis: Basis,
    pub(super) story: Arc<Story>,
}

/// A file of which ranges can be locked.
#[derive(Debug)]
pub(super) struct RangeEntry {
    pub(super) id: u64,
    pub(super) path: String,
    pub(super) file: RangeFile,
    pub(super) basis: Basis,
}

/// An acquire that may wait.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) id: u64,
    pub(super) story: Arc<Story>,
    pub(super) mode: Mode,
    pub(super) since: Instant,
    pub(super) _share: Option<Share>,
}

#[derive(Debug)]
pub(super) struct HeldGrant {
    pub(super) id: u64,
    /// The lock that it was acquired through.
    pub(super) lock: u64,
    /// Belongs to that lock, and is released with it.
    pub(super) kept: bool,
    pub(super) story: Arc<Story>,
    pub(super) since: Instant,
    /// For the tenant, unless the hold is lost.
    pub(super) share: Option<Share>,
    // In this order: the report comes after the release.
    pub(super) guard: Guard,
    pub(super) report: HoldReport,
}

impl HeldGrant {
    pub(super) fn valid_for(&self) -> Option<Duration> {
        match self.guard.expires_at() {
            Some(until) => Some(until.saturating_duration_since(Instant::now())),
            None if self.guard.is_held() => None,
            None => Some(Duration::ZERO),
        }
    }

    pub(super) fn release(self) -> Result<()> {
        let released = self.guard.release();
        if let Err(error) = &released
            && let ErrorKind::Lost(reason) = error.kind()
        {
            self.report.found_lost(reason);
        }
        released
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let shared = self.tenant.as_ref().and_then(|tenant| tenant.owner);
        if shared.is_none() && !self.is_forked() {
            self.engine.disown(self.client.owner);
        }
    }
}

impl Books {
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

    fn held(&self) -> usize {
        let held = self.holds.iter().filter(|entry| entry.guard.is_held());
        held.count()
    }

    /// Whether the guest's own limit allows another hold. Lost holds do not count.
    pub(super) fn has_room(&self) -> bool {
        let limit = self.limits.held;
        self.holds.len() < limit || self.held() < limit
    }

    pub(super) fn usage(&self) -> Usage {
        Usage {
            handles: self.handles,
            held: self.held(),
            waiters: self.waits.len(),
            created: 0,
        }
    }
}

impl Guest {
    pub(super) fn new(builder: SandboxBuilder) -> Arc<Self> {
        let listener = builder.listener();
        let owner = || builder.engine.owner(builder.profile());
        let client = match &builder.tenant {
            Some(tenant) => tenant.client(owner),
            None => {
                let owner = owner();
                let OwnerId(share) = owner;
                Client { owner, share }
            }
        };
        let tenant = builder.tenant.as_ref();
        let created = Created {
            own: CreatedFiles::new(builder.limits.created),
            tenant: tenant.map(|tenant| Arc::clone(&tenant.created)),
        };
        let grants = builder.grants.iter().map(|grant| Arc::new(grant.again()));
        let grants = grants.collect();
        let guest = Arc::new(Self {
            engine: builder.engine,
            client,
            settings: builder.settings,
            tenant: builder.tenant,
            listener: Mutex::new(Arc::new(listener)),
            created: Arc::new(created),
            grants: Mutex::new(grants),
            books: Mutex::new(Books {
                next: 0,
                limits: builder.limits,
                handles: 0,
                waits: Vec::new(),
                locks: Vec::new(),
                holds: Vec::new(),
                ranges: Vec::new(),
            }),
        });
        if let Some(tenant) = &guest.tenant
            && !guest.is_forked()
        {
            tenant.enter(&guest);
        }
        guest
    }

    /// Not for a forked child (see [`is_forked`](Self::is_forked)). Under the mutex, call nothing
    /// that can block.
    pub(super) fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where its events go. Not for a forked child.
    pub(super) fn listener(&self) -> Arc<Listener> {
        let listener = self.listener.lock();
        Arc::clone(&listener.unwrap_or_else(PoisonError::into_inner))
    }

    /// Not for a forked child.
    pub(super) fn set_tag(&self, tag: &str) {
        let listener = Arc::new(self.listener().tagged(tag));
        *self.listener.lock().unwrap_or_else(PoisonError::into_inner) = listener;
        if self.is_sole_owner() {
            self.engine.set_tag(self.client.owner, tag);
        }
    }

    pub(super) fn grants(&self) -> MutexGuard<'_, Vec<Arc<Grant>>> {
        self.grants.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this is a forked child of the process in which the guest runs. Its mutexes may be
    /// locked by threads that do not exist here, and its locks are the parent's.
    pub(super) fn is_forked(&self) -> bool {
        self.engine.is_forked()
    }

    /// Whether the guest alone owns its locks, so that only it can release them.
    pub(super) fn is_sole_owner(&self) -> bool {
        self.tenant
            .as_ref()
            .is_none_or(|tenant| tenant.owner.is_none())
    }

    /// Counts one more for the tenant, unless there are as many as it may have. The outer result is
    /// none in that case, the inner one if there is no tenant.
    pub(super) fn share(&self, kind: Kind, times: usize) -> Option<Option<Share>> {
        match &self.tenant {
            Some(tenant) => tenant.count(kind, times).map(Some),
            None => Some(None),
        }
    }

    /// A share for a hold. Call it without the mutex of any guest.
    pub(super) fn share_of_hold(&self) -> Option<Option<Share>> {
        self.share(Kind::Hold, 1).or_else(|| {
            self.tenant.as_ref()?.discount_lost();
            self.share(Kind::Hold, 1)
        })
    }

    /// Whether the tenant may hold another lock. Call it without the mutex of any guest.
    pub(super) fn tenant_has_room(&self) -> bool {
        self.tenant.as_ref().is_none_or(|tenant| {
            tenant.has_room() || {
                tenant.discount_lost();
                tenant.has_room()
            }
        })
    }

    /// Lost holds do not count for the tenant any more.
    pub(super) fn discount_lost(&self) {
        let mut books = self.books();
        let lost = books
            .holds
            .iter_mut()
            .filter(|entry| !entry.guard.is_held());
        lost.for_each(|entry| entry.share = None);
    }

    /// Counts one more handle, unless there are as many already as the limit says, `times` over.
    fn count_handle(self: &Arc<Self>, times: usize) -> Option<HandlePermit> {
        if self.is_forked() {
            return None;
        }
        let mut books = self.books();
        if books.handles >= books.limits.handles.saturating_mul(times) {
            return None;
        }
        let share = self.share(Kind::Handle, times)?;
        books.handles += 1;
        Some(HandlePermit {
            guest: Arc::clone(self),
            _share: share,
        })
    }

    /// A handle of the guest for what is at `path`.
    pub(super) fn handle(self: &Arc<Self>, path: &Path) -> Result<HandlePermit> {
        self.count_handle(1)
            .ok_or_else(|| Error::new(ErrorKind::LimitExceeded, path))
    }

    /// A handle for something whose creation cannot fail, such as a pollable: these may go up to
    /// twice the limit.
    pub(super) fn extra_handle(self: &Arc<Self>) -> Result<HandlePermit> {
        self.count_handle(2)
            .ok_or_else(|| Error::new(ErrorKind::LimitExceeded, Path::new("")))
    }
}

/// A counted handle of a guest. It counts until it is dropped.
#[derive(Debug)]
pub struct HandlePermit {
    guest: Arc<Guest>,
    _share: Option<Share>,
}

impl HandlePermit {
    /// Another handle, for something whose creation cannot fail, such as a pollable. These count
    /// too, and may go up to twice [`Limits::handles`].
    ///
    /// # Errors
    ///
    /// [Limit exceeded](Error::is_limit_exceeded), which can reach the guest only as a trap.
    pub fn extra(&self) -> Result<Self> {
        self.guest.extra_handle()
    }
}

impl Drop for HandlePermit {
    fn drop(&mut self) {
        if !self.guest.is_forked() {
            self.guest.books().handles -= 1;
        }
    }
}
