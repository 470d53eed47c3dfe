//! What an engine knows across files: the queue of each file, its owners, and which of them wait for
//! which others.

#[cfg(all(test, target_os = "linux", not(any(loom, shuttle))))]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::deadlock::Suspensions;
use crate::lock_path::Identity;
use crate::lock_path::LockPath;
use crate::object::OpenLock;
use crate::owner::{OwnerId, Profile};
use crate::queue::LockQueue;
use crate::services::Services;
use crate::sync::{Mutex, lock};
use crate::table::Table;

#[derive(Debug)]
pub(crate) struct Registry {
    queues: Arc<Table<LockQueue>>,
    pub(crate) suspensions: Suspensions,
    owners: Mutex<HashMap<OwnerId, Arc<Profile>>>,
    /// How often all waits of the engine were canceled.
    pub(crate) cancel_generation: AtomicU64,
    /// Whether no wait may begin any more.
    shut_down: AtomicBool,
    #[cfg(feature = "sandbox")]
    pub(crate) guests: crate::territory::Territories,
    next: AtomicU64,
}

impl Default for Registry {
    fn default() -> Self {
        Self {
            queues: Arc::default(),
            suspensions: Suspensions::default(),
            owners: Mutex::default(),
            cancel_generation: AtomicU64::new(0),
            shut_down: AtomicBool::new(false),
            #[cfg(feature = "sandbox")]
            guests: crate::territory::Territories::default(),
            next: AtomicU64::new(1),
        }
    }
}

impl Registry {
    /// A number that no owner, handle or watcher of this engine had before.
    pub(crate) fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Makes an owner, about which `profile` says what there is to say.
    #[cfg(feature = "sandbox")]
    pub(crate) fn owner(&self, profile: Option<Profile>) -> OwnerId {
        let owner = OwnerId(self.number());
        if let Some(profile) = profile {
            lock(&self.owners).insert(owner, Arc::new(profile));
        }
        owner
    }

    #[cfg(feature = "sandbox")]
    pub(crate) fn set_tag(&self, owner: OwnerId, tag: &str) {
        if let Some(profile) = lock(&self.owners).get_mut(&owner) {
            let label = profile.label.clone();
            let tag = Some(tag.to_owned());
            *profile = Arc::new(Profile { label, tag });
        }
    }

    pub(crate) fn profile(&self, owner: OwnerId) -> Option<Arc<Profile>> {
        lock(&self.owners).get(&owner).cloned()
    }

    #[cfg(feature = "sandbox")]
    pub(crate) fn disown(&self, owner: OwnerId) {
        lock(&self.owners).remove(&owner);
    }

    /// Cancels every wait, and with `for_good` each that begins later.
    pub(crate) fn cancel_all(&self, for_good: bool) {
        self.shut_down.fetch_or(for_good, Ordering::SeqCst);
        // An acquire that is between two queues at this moment sees it.
        self.cancel_generation.fetch_add(1, Ordering::SeqCst);
        for queue in self.queues() {
            queue.revoke(None, |_, _| true);
        }
    }

    pub(crate) fn is_shut_down(&self) -> bool {
        self.shut_down.load(Ordering::SeqCst)
    }

    /// The queue of an open file, if one is in use.
    pub(crate) fn queue_of(&self, identity: Identity) -> Option<Arc<LockQueue>> {
        self.queues.find(&(identity, None))
    }

    /// The queues of all files that are open.
    pub(crate) fn queues(&self) -> Vec<Arc<LockQueue>> {
        self.queues.all()
    }

    /// The queue of an open file: the existing one, or a new one around this descriptor. An existing
    /// queue without a writable descriptor gets this one, if it is writable.
    pub(crate) fn queue(
        &self,
        open_lock: OpenLock,
        lock_path: &LockPath,
        services: &Arc<Services>,
    ) -> Arc<LockQueue> {
        let key = (open_lock.identity, open_lock.object.key());
        let usable = |queue: &LockQueue| !queue.is_poisoned();
        let (queue, spare) = self.queues.get(key, open_lock, usable, |open_lock, entry| {
            LockQueue::new(open_lock, lock_path.whole(), Arc::clone(services), entry)
        });
        if let Some(spare) = spare {
            queue.offer(spare.object);
        }
        queue
    }
}
