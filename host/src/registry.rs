//! What an engine knows across files: which queue belongs to which file, and who waits for whom.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use hashlink::DefaultHashBuilder;

use crate::queue::{LockQueue, Means, OwnerId, Ticket};
use crate::site::Opened;
use crate::sync::{Mutex, lock};
use crate::target::Identity;

#[derive(Debug)]
pub(crate) struct Registry {
    queues: Mutex<Queues>,
    /// The owners that do nothing at all until a certain wait is over, and that wait.
    suspended: Mutex<HashMap<OwnerId, (Arc<LockQueue>, Ticket)>>,
    labels: Mutex<HashMap<OwnerId, String>>,
    next: AtomicU64,
}

impl Default for Registry {
    fn default() -> Self {
        Self {
            queues: Mutex::default(),
            suspended: Mutex::default(),
            labels: Mutex::default(),
            next: AtomicU64::new(1),
        }
    }
}

/// What a lock is kept on: a file, or a name in a directory.
type Key = (Identity, Option<OsString>);

/// The queues by what their locks are kept on. One is gone with its last handle; that it was there is forgotten
/// when enough of them are gone.
#[derive(Debug, Default)]
struct Queues {
    known: HashMap<Key, Weak<LockQueue>, DefaultHashBuilder>,
    /// How many there were after the last tidying.
    tidy: usize,
}

impl Queues {
    fn tidy(&mut self) {
        if self.known.len() > 2 * self.tidy + 64 {
            self.known.retain(|_, queue| queue.strong_count() > 0);
            self.tidy = self.known.len();
        }
    }
}

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

    /// The queue of an open file: the one there is, or a new one around this descriptor. One
    /// whose descriptor cannot be written to gives way to one whose can.
    pub(crate) fn queue(&self, opened: Opened, means: &Arc<Means>) -> Arc<LockQueue> {
        let mut queues = lock(&self.queues);
        let name = opened.site.as_name().map(|name| name.name().to_owned());
        let known = queues.known.entry((opened.identity, name)).or_default();
        if let Some(queue) = known.upgrade()
            && !queue.is_dead()
            && (queue.writable || !opened.writable)
        {
            return queue;
        }
        let queue = Arc::new(LockQueue::new(opened, Arc::clone(means)));
        *known = Arc::downgrade(&queue);
        queues.tidy();
        queue
    }

    /// Notes that `owner` does nothing until the wait of `ticket` is over. Answers `false`, and
    /// notes nothing, if that closes a cycle of owners who wait for one another. It cannot unless
    /// `blocks`: unless others may be waiting for something that `owner` holds or awaits.
    ///
    /// The mutex is held for the whole walk, so that nobody in it can begin or end such a wait
    /// meanwhile; and a suspended owner cannot release. So what looks like a cycle is one.
    pub(crate) fn suspend(
        &self,
        owner: OwnerId,
        queue: &Arc<LockQueue>,
        ticket: Ticket,
        blocks: bool,
    ) -> bool {
        let mut suspended = lock(&self.suspended);
        let mut walk = Vec::new();
        if blocks {
            walk.push((Arc::clone(queue), ticket));
        }
        let mut seen = HashSet::new();
        // Whoever blocks one waiter of a queue blocks those behind it too.
        let mut seen_to = HashMap::new();
        while let Some((queue, ticket)) = walk.pop() {
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
                    return false;
                }
                if seen.insert(blocker) {
                    walk.extend(suspended.get(&blocker).cloned());
                }
            }
        }
        suspended.insert(owner, (Arc::clone(queue), ticket));
        true
    }

    pub(crate) fn resume(&self, owner: OwnerId) {
        let wait = lock(&self.suspended).remove(&owner);
        drop(wait);
    }
}
