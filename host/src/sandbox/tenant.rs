//! What several guests share: limits, settings, a share of the turns.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::Sandbox;
use super::builder::SandboxBuilder;
use super::created::CreatedFiles;
use super::limits::Limits;
use super::quota::{Guest, Usage};
use crate::engine::Engine;
use crate::owner::{Client, OwnerId};

/// A customer of the host, all of whose guests share limits, settings and a share of the turns.
/// Clones are the same tenant.
///
/// A host that makes a new guest for each call needs it: [`Limits`] that it sets for a guest bound
/// one call. Those of a tenant bound all of its calls together. With
/// [`fair_shares`](crate::EngineBuilder::fair_shares), the turns on a contended file go round among
/// the tenants, however many calls of one are waiting.
///
/// ```
/// use locket::sandbox::{Directory, Limits, Rights, Sandbox, Tenant};
/// use locket::{Engine, Mode, OnRelease};
///
/// # let dir = tempfile::tempdir()?;
/// # let jobs = dir.path();
/// let engine = Engine::builder().fair_shares(true).build();
/// let jobs = Directory::open(jobs)?;
/// let settings = Sandbox::builder(&engine)
///     .label("alice")
///     .grant(&jobs, "/jobs", Rights::LOCKS)?;
/// let alice = Tenant::builder(settings).limits(Limits::new().held(1)).build();
///
/// // One guest for each call.
/// let (one, other) = (alice.sandbox().build(), alice.sandbox().tag("call 2").build());
/// let lock = one.open("/jobs/a.lock", None, OnRelease::Keep)?;
/// let _hold = lock.acquire(Mode::Exclusive, None)?;
/// let another = other.open("/jobs/b.lock", None, OnRelease::Keep)?;
/// assert!(another.acquire(Mode::Exclusive, None).unwrap_err().is_limit_exceeded());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Tenant {
    pub(super) shared: Arc<Shared>,
}

/// Settings of a [`Tenant`].
#[derive(Debug)]
#[must_use = "a builder does nothing until `build` is called"]
pub struct TenantBuilder {
    settings: SandboxBuilder,
    limits: Option<Limits>,
    one_owner: bool,
}

/// What the guests of a tenant share.
#[derive(Debug)]
pub(super) struct Shared {
    settings: SandboxBuilder,
    share: u64,
    /// The owner of all locks of the tenant, if they have one.
    pub(super) owner: Option<OwnerId>,
    pub(super) created: Arc<CreatedFiles>,
    account: Mutex<Account>,
}

#[derive(Debug, Default)]
struct Account {
    limits: Option<Limits>,
    used: Usage,
    guests: Vec<Weak<Guest>>,
}

/// What the guests of a tenant count together.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Handle,
    Hold,
    Wait,
}

/// Something that counts for a tenant until it is dropped.
#[derive(Debug)]
pub(super) struct Share {
    tenant: Arc<Shared>,
    kind: Kind,
}

impl Drop for Share {
    fn drop(&mut self) {
        if !self.tenant.engine().is_forked() {
            *self.tenant.account().used.of(self.kind) -= 1;
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(owner) = self.owner
            && !self.engine().is_forked()
        {
            self.engine().disown(owner);
        }
    }
}

impl Usage {
    fn of(&mut self, kind: Kind) -> &mut usize {
        match kind {
            Kind::Handle => &mut self.handles,
            Kind::Hold => &mut self.held,
            Kind::Wait => &mut self.waiters,
        }
    }
}

impl Account {
    /// Whether there are fewer of a kind than the limit allows, `times` over.
    fn has_room(&mut self, kind: Kind, times: usize) -> bool {
        let limits = self.limits.as_ref();
        let limit = limits.map_or(usize::MAX, |limits| match kind {
            Kind::Handle => limits.handles.saturating_mul(times),
            Kind::Hold => limits.held,
            Kind::Wait => limits.waiters,
        });
        *self.used.of(kind) < limit
    }
}

impl TenantBuilder {
    /// How much all guests of the tenant may use together: the number of handles, holds, waits and
    /// created files. Other limits are those of each guest. None by default.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = Some(limits);
        self
    }

    /// Makes the tenant the owner of its locks, instead of each guest: any of its guests may release
    /// what another acquired, and sees it as its own. Since another guest may do so at any time, no
    /// wait is answered with [deadlock](crate::Error::is_deadlock).
    pub fn one_owner(mut self) -> Self {
        self.one_owner = true;
        self
    }

    /// Builds the tenant.
    pub fn build(self) -> Tenant {
        let engine = &self.settings.engine;
        let owner = || engine.owner(self.settings.profile());
        let created = self
            .limits
            .as_ref()
            .map_or(usize::MAX, |limits| limits.created);
        let shared = Shared {
            share: engine.number(),
            owner: self.one_owner.then(owner),
            created: Arc::new(CreatedFiles::new(created)),
            account: Mutex::new(Account {
                limits: self.limits,
                ..Account::default()
            }),
            settings: self.settings,
        };
        Tenant {
            shared: Arc::new(shared),
        }
    }
}

impl Tenant {
    /// A tenant whose guests have these settings unless they get others.
    pub fn builder(settings: SandboxBuilder) -> TenantBuilder {
        TenantBuilder {
            settings,
            limits: None,
            one_owner: false,
        }
    }

    /// The settings for a guest of this tenant.
    pub fn sandbox(&self) -> SandboxBuilder {
        let mut settings = self.shared.settings.clone();
        settings.tenant = Some(Arc::clone(&self.shared));
        settings
    }

    /// The guests of the tenant that exist.
    pub fn guests(&self) -> Vec<Sandbox> {
        self.shared.guests()
    }

    /// How much all guests of the tenant use together.
    pub fn usage(&self) -> Usage {
        if self.shared.engine().is_forked() {
            return Usage::default();
        }
        self.shared.discount_lost();
        let used = self.shared.account().used;
        let created = self.shared.created.len();
        Usage { created, ..used }
    }

    /// Changes how much all guests of the tenant may use together. What is in use stays. Files count
    /// if they are created while there is a limit.
    pub fn set_limits(&self, limits: Option<Limits>) {
        if self.shared.engine().is_forked() {
            return;
        }
        let created = limits.as_ref().map_or(usize::MAX, |limits| limits.created);
        self.shared.created.set_limit(created);
        self.shared.account().limits = limits;
    }

    /// Cancels the waits of all guests of the tenant.
    pub fn cancel_waits(&self) {
        self.guests().iter().for_each(Sandbox::cancel_waits);
    }

    /// Revokes every lock that a guest of the tenant holds, and cancels their waits.
    pub fn release_all(&self) {
        // Before a hold that ends lets one of them in.
        self.cancel_waits();
        self.guests().iter().for_each(Sandbox::release_all);
    }
}

impl Shared {
    fn engine(&self) -> &Engine {
        &self.settings.engine
    }

    fn account(&self) -> MutexGuard<'_, Account> {
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How a new guest appears to the engine.
    pub(super) fn client(&self, owner: impl FnOnce() -> OwnerId) -> Client {
        Client {
            owner: self.owner.unwrap_or_else(owner),
            share: self.share,
        }
    }

    pub(super) fn enter(&self, guest: &Arc<Guest>) {
        let mut account = self.account();
        account.guests.retain(|guest| guest.strong_count() > 0);
        account.guests.push(Arc::downgrade(guest));
    }

    pub(super) fn guests(&self) -> Vec<Sandbox> {
        if self.engine().is_forked() {
            return Vec::new();
        }
        let guests = self.account().guests.clone();
        let guests = guests.iter().filter_map(Weak::upgrade);
        guests.map(Sandbox::of).collect()
    }

    /// Lost holds do not count any more. Call it without the mutex of any guest.
    pub(super) fn discount_lost(&self) {
        let guests = self.guests();
        guests.iter().for_each(|guest| guest.guest.discount_lost());
    }

    /// Whether the tenant may hold another lock.
    pub(super) fn has_room(&self) -> bool {
        self.account().has_room(Kind::Hold, 1)
    }

    /// Counts one more of a kind, unless there are as many as the limit allows, `times` over.
    pub(super) fn count(self: &Arc<Self>, kind: Kind, times: usize) -> Option<Share> {
        let mut account = self.account();
        let free = account.has_room(kind, times);
        *account.used.of(kind) += usize::from(free);
        drop(account);
        let tenant = Arc::clone(self);
        free.then(|| Share { tenant, kind })
    }
}
