//! What a lock must answer: the queues of engines, and between them the system, without the code of
//! either.
//!
//! The model learns what was called, and says what must come of it. If that is up to the system, for
//! example which of several engines is next, it says what may happen and learns what did.

use std::collections::BTreeMap;

use locket::{LostReason, Mode, Protocol, State};

use super::vocabulary::*;

pub(crate) const LOST: State = State::Lost(LostReason::Broken);

#[derive(Debug)]
pub(crate) struct Model {
    /// Whether each engine hands a lock on to its own waiters. If not, it always gives it back.
    pub(crate) hands_on: Vec<bool>,
    /// Where each path leads.
    pub(crate) paths: Vec<Option<Inode>>,
    /// The path that each file had.
    pub(crate) inodes: Vec<usize>,
    pub(crate) handles: Vec<Handle>,
    pub(crate) queues: BTreeMap<Key, Queue>,
    pub(crate) next: Ticket,
    /// Files that the system may or may not have removed.
    pub(crate) unsure: Vec<Inode>,
    /// Paths with a wait that has ended, whose thread may not have returned from the kernel yet.
    pub(crate) disturbed: Vec<bool>,
}

impl Model {
    /// `existence` says which of the files are existence locks.
    pub(crate) fn new(hands_on: &[bool], existence: &[bool]) -> Self {
        let mut model = Self {
            hands_on: hands_on.to_vec(),
            paths: vec![None; existence.len()],
            inodes: Vec::new(),
            handles: Vec::new(),
            queues: BTreeMap::new(),
            next: 0,
            unsure: Vec::new(),
            disturbed: vec![false; existence.len()],
        };
        for (path, exists) in existence.iter().enumerate() {
            if *exists {
                model.make(path);
            }
        }
        model
    }

    pub(crate) fn ticket(&mut self) -> Ticket {
        self.next += 1;
        self.next
    }

    pub(crate) fn queue(&mut self, key: Key) -> &mut Queue {
        self.queues.entry(key).or_default()
    }

    /// The file that a path leads to, made if it is missing.
    pub(crate) fn make(&mut self, path: usize) -> Inode {
        *self.paths[path].get_or_insert_with(|| {
            self.inodes.push(path);
            self.inodes.len() - 1
        })
    }

    /// The path leads to another file from now on, or to none.
    pub(crate) fn unlink(&mut self, path: usize, replace: bool) {
        self.paths[path] = None;
        if replace {
            self.make(path);
        }
    }

    pub(crate) fn is_current(&self, inode: Inode) -> bool {
        self.paths[self.inodes[inode]] == Some(inode)
    }

    pub(crate) fn is_existence_lock_of(&self, handle: usize) -> bool {
        self.handles[handle].protocol.is_existence_lock()
    }

    /// The number of waiters for the files that a path leads to, or led to.
    pub(crate) fn waiters(&self, path: usize) -> usize {
        let queues = self
            .queues
            .iter()
            .filter(|((_, inode), _)| self.inodes[*inode] == path);
        queues.map(|(_, queue)| queue.waiting.len()).sum()
    }

    /// Whether one more wait through a handle is predictable: not if it is up to the system which of
    /// several waiters moves to another file first.
    pub(crate) fn may_wait(&self, handle: usize) -> bool {
        let Handle { file, inode, .. } = self.handles[handle];
        let mut queues = self.queues.iter();
        let moves = queues.any(|((_, inode), queue)| {
            self.inodes[*inode] == file && !self.is_current(*inode) && !queue.waiting.is_empty()
        });
        let removed = self
            .handles
            .iter()
            .any(|other| other.file == file && other.remove);
        self.waiters(file) == 0 || !(moves || removed || !self.is_current(inode))
    }

    pub(crate) fn open(
        &mut self,
        engine: usize,
        file: usize,
        protocol: Protocol,
        remove: bool,
    ) -> usize {
        let inode = self.make(file);
        self.handles.push(Handle {
            engine,
            file,
            protocol,
            remove,
            inode,
        });
        self.handles.len() - 1
    }

    /// Whether a handle leads to the file to which its path does.
    pub(crate) fn is_fresh(&self, handle: usize) -> bool {
        self.is_current(self.handles[handle].inode)
    }

    pub(crate) fn key(&self, handle: usize) -> Key {
        (self.handles[handle].engine, self.handles[handle].inode)
    }

    /// Whether no lock of another engine excludes `want`.
    pub(crate) fn is_free(&self, key: Key, want: Want) -> bool {
        self.queues
            .iter()
            .filter(|((engine, inode), _)| *inode == key.1 && *engine != key.0)
            .all(|(_, queue)| queue.held.is_none_or(|held| !held.excludes(want)))
    }

    /// The waits through a handle.
    pub(crate) fn waits_of(&self, handle: usize) -> Vec<(Key, Ticket)> {
        let queues = self.queues.iter();
        let waits = queues.flat_map(|(key, queue)| {
            let of = queue
                .waiting
                .iter()
                .filter(|waiter| waiter.handle == handle);
            of.map(|waiter| (*key, waiter.ticket))
        });
        waits.collect()
    }

    /// The state of the owner of a handle.
    pub(crate) fn state(&self, handle: usize) -> State {
        match self.queues.get(&self.key(handle)) {
            Some(queue) if !queue.holds.is_empty() => State::Held,
            Some(queue) if !queue.lost.is_empty() => LOST,
            _ => State::Unlocked,
        }
    }

    /// The holder of the lock, as far as the protocol of a handle shows.
    pub(crate) fn holder(&self, handle: usize) -> Option<Seen> {
        let Handle {
            engine,
            file,
            protocol,
            ..
        } = self.handles[handle];
        let inode = self.paths[file]?;
        let queue = self.queues.get(&(engine, inode));
        if let Some(hold) = queue.and_then(|queue| queue.holds.last()) {
            return Some(Seen {
                mode: hold.mode,
                is_self: true,
            });
        }
        let held_in = |families: u8| {
            let mut queues = self.queues.iter().filter(|((_, of), _)| *of == inode);
            queues.find_map(|(_, queue)| {
                let held = queue.held?;
                (held.families() & families != 0).then_some(held.mode)
            })
        };
        let waits = queue.is_some_and(|queue| !queue.waiting.is_empty());
        let mode = match protocol {
            // There is a waiter, so there is a holder; only record locks show its mode.
            Protocol::Native | Protocol::Flock | Protocol::Fcntl if waits => {
                Some(held_in(2).unwrap_or(Mode::Exclusive))
            }
            Protocol::Native => held_in(2).or_else(|| held_in(1)),
            Protocol::Flock => held_in(1),
            Protocol::Fcntl => held_in(2),
            _ => held_in(4),
        };
        mode.map(|mode| Seen {
            mode,
            is_self: false,
        })
    }

    /// Learns whether a file that the model was unsure of is still there.
    pub(crate) fn resolve(&mut self, inode: Inode, is_there: bool) {
        if !is_there && self.is_current(inode) {
            self.unlink(self.inodes[inode], false);
        }
    }

    /// The path that a file had.
    pub(crate) fn path_of(&self, inode: Inode) -> usize {
        self.inodes[inode]
    }
}
