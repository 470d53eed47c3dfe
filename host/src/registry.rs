//! What an engine knows across files: the queue of each file, and which owners wait for which
//! others.

#[cfg(all(test, target_os = "linux", not(any(loom, shuttle))))]
mod tests;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::object::OpenLock;
use crate::owner::{OwnerId, Ticket};
use crate::queue::LockQueue;
use crate::services::Services;
use crate::sync::{Mutex, lock};
use crate::table::Table;

#[derive(Debug)]
pub(crate) struct Registry {
    queues: Arc<Table<LockQueue>>,
    /// The suspended owners, which do nothing until a wait is over, and that wait.
    suspended: Mutex<HashMap<OwnerId, Suspended>>,
    labels: Mutex<HashMap<OwnerId, String>>,
    #[cfg(feature = "sandbox")]
    pub(crate) guests: crate::territory::Territories,
    next: AtomicU64,
}

impl Default for Registry {
    fn default() -> Self {
        Self {
            queues: Arc::default(),
            suspended: Mutex::default(),
            labels: Mutex::default(),
            #[cfg(feature = "sandbox")]
            guests: crate::territory::Territories::default(),
            next: AtomicU64::new(1),
        }
    }
}

/// The wait of a suspended owner.
type Suspended = (Arc<LockQueue>, Ticket);

impl Registry {
    /// A number that no owner, handle or watcher of this engine had before.
    pub(crate) fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    #[cfg(feature = "sandbox")]
    pub(crate) fn owner(&self, label: Option<&str>) -> OwnerId {
        let owner = OwnerId(self.number());
        if let Some(label) = label {
            lock(&self.labels).insert(owner, label.into());
        }
        owner
    }

    pub(crate) fn label(&self, owner: OwnerId) -> Option<String> {
        lock(&self.labels).get(&owner).cloned()
    }

    #[cfg(feature = "sandbox")]
    pub(crate) fn disown(&self, owner: OwnerId) {
        lock(&self.labels).remove(&owner);
    }

    /// The queue of an open file: the existing one, or a new one around this descriptor. An existing
    /// queue without a writable descriptor gets this one, if it is writable.
    pub(crate) fn queue(&self, open_lock: OpenLock, services: &Arc<Services>) -> Arc<LockQueue> {
        let marker = open_lock.object.as_marker();
        let name = marker.map(|marker| marker.name().to_owned());
        let key = (open_lock.identity, name);
        let usable = |queue: &LockQueue| !queue.is_poisoned();
        let (queue, spare) = self.queues.get(key, open_lock, usable, |open_lock, entry| {
            LockQueue::new(open_lock, Arc::clone(services), entry)
        });
        if let Some(spare) = spare {
            queue.offer(spare.object);
        }
        queue
    }

    /// Records that `owner` is suspended until the wait of `ticket` is over. Returns `false`, and
    /// records nothing, if that closes a cycle of owners that wait for one another. It can close
    /// one only if `blocks`: if others may be waiting for something that `owner` holds or awaits.
    ///
    /// No mutex is held while a queue is examined, since a queue can be busy. So this takes three
    /// steps. First the wait is recorded. If several owners close a cycle at the same time, the
    /// last one sees the waits of all the others. Then a walk follows each wait to the owners that
    /// block it. A cycle that it finds may not be real, if an owner in it has released one lock and
    /// then waited for another. So finally the walk examines the blockers in the cycle once more,
    /// checks in one step that all its waits have been there throughout, and takes its own wait
    /// back. A suspended owner cannot release, so the cycle was real. If several owners find the
    /// same cycle, only the first is told.
    pub(crate) fn suspend(
        &self,
        owner: OwnerId,
        queue: &Arc<LockQueue>,
        ticket: Ticket,
        blocks: bool,
    ) -> bool {
        let own = (Arc::clone(queue), ticket);
        lock(&self.suspended).insert(owner, own.clone());
        if !blocks {
            return true;
        }
        // Each wait with its owner, and the index of the wait that led to it.
        let mut walk = vec![(owner, own, 0)];
        let mut seen = HashSet::new();
        // What blocks one waiter of a queue also blocks the waiters behind it.
        let mut seen_to = HashMap::new();
        let mut next = 0;
        while let Some((_, (queue, ticket), _)) = walk.get(next).cloned() {
            let from = next;
            next += 1;
            let to = seen_to.entry(Arc::as_ptr(&queue)).or_insert(0);
            if *to >= ticket {
                continue;
            }
            let Some(blockers) = queue.blockers(ticket) else {
                continue;
            };
            *to = ticket;
            for blocker in blockers {
                if blocker == owner {
                    if self.withdraw(&walk, from) {
                        return false;
                    }
                } else if seen.insert(blocker) {
                    let wait = lock(&self.suspended).get(&blocker).cloned();
                    walk.extend(wait.map(|wait| (blocker, wait, from)));
                }
            }
        }
        true
    }

    /// Takes back the first wait of a walk, if the waits from it to the one at `last` form a cycle.
    fn withdraw(&self, walk: &[(OwnerId, Suspended, usize)], last: usize) -> bool {
        let mut cycle = vec![last];
        while let Some(&at) = cycle.last().filter(|at| **at > 0) {
            cycle.push(walk[at].2);
        }
        let mut blocks = walk[0].0;
        for &at in &cycle {
            let (owner, (queue, ticket), _) = &walk[at];
            let blockers = queue.blockers(*ticket);
            if !blockers.is_some_and(|blockers| blockers.contains(&blocks)) {
                return false;
            }
            blocks = *owner;
        }
        let mut suspended = lock(&self.suspended);
        let is_noted = |at: &usize| {
            let (owner, (queue, ticket), _) = &walk[*at];
            let noted = suspended.get(owner);
            noted.is_some_and(|(other, then)| Arc::ptr_eq(queue, other) && ticket == then)
        };
        if !cycle.iter().all(is_noted) {
            return false;
        }
        let own = suspended.remove(&walk[0].0);
        drop(suspended);
        drop(own);
        true
    }

    pub(crate) fn resume(&self, owner: OwnerId) {
        let wait = lock(&self.suspended).remove(&owner);
        drop(wait);
    }
}
