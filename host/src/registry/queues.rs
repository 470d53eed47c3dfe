//! The queue of each file, for as long as it is in use.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Place;
use std::ffi::OsString;
use std::sync::{Arc, Weak};

use hashlink::DefaultHashBuilder;

use crate::lock_path::Identity;
use crate::object::OpenLock;
use crate::queue::LockQueue;
use crate::services::Services;
use crate::sync::{Mutex, lock};
use crate::sys::Process;

/// What a lock is kept on: a file, or an entry in a directory.
type Key = (Identity, Option<OsString>);

/// The queues of an engine by what their locks are kept on.
#[derive(Debug)]
pub(crate) struct Queues {
    known: Mutex<HashMap<Key, Weak<LockQueue>, DefaultHashBuilder>>,
    process: Process,
}

/// The entry of a queue here, which is a part of it and goes with it. Otherwise the reference that
/// is left would keep the memory of the queue.
#[derive(Debug)]
pub(crate) struct Entry {
    queues: Arc<Queues>,
    key: Key,
}

/// How many more entries than it needs the table may have room for.
const ROOM: usize = 64;

impl Default for Queues {
    fn default() -> Self {
        Self {
            known: Mutex::default(),
            process: Process::current(),
        }
    }
}

impl Queues {
    /// The queue of an open file: the existing one, or a new one around this descriptor. An
    /// existing queue without a writable descriptor gets this one, if it is writable.
    pub(crate) fn queue(
        self: &Arc<Self>,
        open_lock: OpenLock,
        services: &Arc<Services>,
    ) -> Arc<LockQueue> {
        let marker = open_lock.object.as_marker();
        let name = marker.map(|marker| marker.name().to_owned());
        let key = (open_lock.identity, name);
        let mut known = lock(&self.known);
        let place = known.entry(key.clone());
        let before = match &place {
            Place::Occupied(known) => known.get().upgrade(),
            Place::Vacant(_) => None,
        };
        if let Some(queue) = before.as_ref().filter(|queue| !queue.is_poisoned()) {
            let queue = Arc::clone(queue);
            // Not under the mutex: closing a file can take long.
            drop(known);
            drop(before);
            queue.offer(open_lock.object);
            return queue;
        }
        let entry = Entry {
            queues: Arc::clone(self),
            key,
        };
        let queue = LockQueue::new(open_lock, Arc::clone(services), entry);
        place.insert_entry(Arc::downgrade(&queue));
        drop(known);
        drop(before);
        queue
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if self.queues.process.is_parent() {
            return;
        }
        let mut known = lock(&self.queues.known);
        let key = (self.key.0, self.key.1.take());
        // Another queue may have taken its place by now.
        if let Place::Occupied(place) = known.entry(key)
            && place.get().strong_count() == 0
        {
            place.remove();
            if known.capacity() > 4 * known.len() + ROOM {
                let needed = 2 * known.len();
                known.shrink_to(needed);
            }
        }
    }
}

#[cfg(all(test, target_os = "linux", not(any(loom, shuttle))))]
mod tests {
    use std::path::Path;
    use std::sync::atomic::AtomicUsize;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::lock_path::LockPath;
    use crate::sys;
    use crate::timer::Timer;
    use crate::waiter::WaiterPool;
    use crate::watch::Watcher;

    fn services() -> Arc<Services> {
        Arc::new(Services {
            timer: Arc::new(Timer::new(sys::keep_signals_away)),
            waiter_pool: Arc::new(WaiterPool::new(0)),
            watcher: Arc::new(Watcher::default()),
            hand_off_limit: 0,
            hand_off_time: Duration::ZERO,
            pause: None,
            signal: None,
            polled: AtomicUsize::new(0),
            epoch: Instant::now(),
        })
    }

    fn open(path: &Path) -> OpenLock {
        let lock_path = LockPath::ambient(path, true, true).expect("the path is absolute");
        lock_path.open().expect("the file can be created")
    }

    #[test]
    fn nothing_is_left_of_files_that_are_not_open_any_more() {
        const AT_A_TIME: usize = 250;
        let dir = tempfile::tempdir().expect("a directory can be created");
        let (queues, services) = (Arc::new(Queues::default()), services());
        for batch in 0..20_000 / AT_A_TIME {
            let number = |at: usize| dir.path().join((batch * AT_A_TIME + at).to_string());
            let held = (0..AT_A_TIME).map(|at| queues.queue(open(&number(at)), &services));
            let held: Vec<_> = held.collect();
            assert_eq!(lock(&queues.known).len(), AT_A_TIME);
            drop(held);
            let known = lock(&queues.known);
            assert_eq!(known.len(), 0);
            assert!(known.capacity() <= 2 * ROOM, "{}", known.capacity());
        }
    }

    #[test]
    fn a_queue_that_goes_leaves_the_entry_of_its_successor() {
        let dir = tempfile::tempdir().expect("a directory can be created");
        let path = dir.path().join("lock");
        let (queues, services) = (Arc::new(Queues::default()), services());
        let first = queues.queue(open(&path), &services);
        first.poison();
        let second = queues.queue(open(&path), &services);
        assert!(!Arc::ptr_eq(&first, &second));
        drop(first);
        assert!(Arc::ptr_eq(&second, &queues.queue(open(&path), &services)));
    }
}
