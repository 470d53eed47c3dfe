//! What belongs to each lock that is open, for as long as it is in use.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Place;
use std::ffi::OsString;
use std::sync::{Arc, Weak};

use foldhash::fast::RandomState;

use crate::lock_path::Identity;
use crate::sync::{Mutex, lock};
use crate::sys::Process;

/// What a lock is kept on: a file, or an entry in a directory.
type Key = (Identity, Option<OsString>);

/// A table of `T` by what the locks are kept on.
#[derive(Debug)]
pub(crate) struct Table<T> {
    known: Mutex<HashMap<Key, Weak<T>, RandomState>>,
    process: Process,
}

/// The entry of a `T` in a table, which is a part of it and goes with it. Otherwise the reference
/// that is left would keep its memory.
#[derive(Debug)]
pub(crate) struct Entry<T> {
    table: Arc<Table<T>>,
    key: Key,
}

/// How many more entries than it needs the table may have room for.
const ROOM: usize = 64;

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self {
            known: Mutex::default(),
            process: Process::current(),
        }
    }
}

impl<T> Table<T> {
    /// What is there under `key`, if it is `usable`; otherwise what `new` makes from `parts`. Returns
    /// the parts if they are left.
    pub(crate) fn get<P>(
        self: &Arc<Self>,
        key: Key,
        parts: P,
        usable: impl FnOnce(&T) -> bool,
        new: impl FnOnce(P, Entry<T>) -> Arc<T>,
    ) -> (Arc<T>, Option<P>) {
        let mut known = lock(&self.known);
        let place = known.entry(key.clone());
        let before = match &place {
            Place::Occupied(known) => known.get().upgrade(),
            Place::Vacant(_) => None,
        };
        let found = before.as_ref().filter(|found| usable(found));
        let (result, parts) = match found {
            Some(found) => (Arc::clone(found), Some(parts)),
            None => {
                let table = Arc::clone(self);
                let made = new(parts, Entry { table, key });
                place.insert_entry(Arc::downgrade(&made));
                (made, None)
            }
        };
        // Not under the mutex: dropping one closes its file, and takes the mutex.
        drop(known);
        drop(before);
        (result, parts)
    }

    /// What is there under `key`, if it is in use.
    pub(crate) fn find(&self, key: &Key) -> Option<Arc<T>> {
        let known = lock(&self.known);
        known.get(key)?.upgrade()
    }

    /// All that are in use.
    pub(crate) fn all(&self) -> Vec<Arc<T>> {
        let known = lock(&self.known);
        known.values().filter_map(Weak::upgrade).collect()
    }

    /// How many there are, and how many there is room for.
    #[cfg(all(test, target_os = "linux", not(any(loom, shuttle))))]
    pub(crate) fn size(&self) -> (usize, usize) {
        let known = lock(&self.known);
        (known.len(), known.capacity())
    }
}

impl<T> Drop for Entry<T> {
    fn drop(&mut self) {
        if self.table.process.is_parent() {
            return;
        }
        let mut known = lock(&self.table.known);
        let key = (self.key.0, self.key.1.take());
        // Another may have taken its place by now.
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
