//! What a lock must answer: queues of engines, and between them the system, without any of either.
//!
//! It is told what was called, and says what must come of it. Where that is up to the system, which
//! of several engines is the next say, it says what may, and is told what did.

use std::collections::{BTreeMap, VecDeque};

use locket::{Mode, Protocol, State};

/// The place in a queue, and then the name of the hold.
pub(crate) type Ticket = u64;

/// One of the files that a path has led to, whatever the path; of a name, that.
pub(crate) type Inode = usize;

/// The queue of an engine for a file.
pub(crate) type Key = (usize, Inode);

const LOST: State = State::Lost(locket::LostReason::Broken);

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Want {
    pub(crate) mode: Mode,
    pub(crate) protocol: Protocol,
}

impl Want {
    /// The lock families of the system that it is in, as bits.
    fn families(self) -> u8 {
        match self.protocol {
            Protocol::Flock => 1,
            Protocol::Fcntl => 2,
            Protocol::Native => 3,
            _ => 4,
        }
    }

    fn excludes(self, other: Self) -> bool {
        let alone = self.mode == Mode::Exclusive || other.mode == Mode::Exclusive;
        alone && self.families() & other.families() != 0
    }

    /// Whether who has this has what `other` asks for.
    fn fits(self, other: Self) -> bool {
        self.mode == other.mode && self.families() & other.families() == other.families()
    }

    fn joins(self, other: Self) -> bool {
        self.mode == Mode::Shared && self.fits(other)
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Handle {
    pub(crate) engine: usize,
    pub(crate) file: usize,
    pub(crate) protocol: Protocol,
    remove: bool,
    /// The file that it led to when that was last looked at.
    inode: Inode,
}

#[derive(Debug, Default)]
struct Queue {
    /// What the engine has of the system.
    held: Option<Want>,
    holds: Vec<Hold>,
    lost: Vec<Hold>,
    waiting: VecDeque<Waiter>,
    /// The file is to be removed when the lock is given back.
    remove: bool,
}

#[derive(Clone, Debug)]
struct Hold {
    ticket: Ticket,
    handle: usize,
    mode: Mode,
    /// Whether the task that waited for it knows.
    told: bool,
}

#[derive(Clone, Debug)]
struct Waiter {
    ticket: Ticket,
    handle: usize,
    want: Want,
}

/// What must come of an acquire that does not wait.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Attempt {
    Granted(Key, Ticket),
    Busy,
    /// There is no such mode.
    Unsupported,
}

/// What must come of a release or of breaking a lock.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Answer {
    Done,
    Lost,
    NotLocked,
    NotOwner,
    Unsupported,
}

/// Somebody who holds a lock.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Seen {
    pub(crate) mode: Mode,
    pub(crate) is_self: bool,
}

#[derive(Debug)]
pub(crate) struct Model {
    /// Whether each engine hands a lock on to its own waiters; otherwise it always gives it back.
    hands_on: Vec<bool>,
    /// Where each path leads.
    pub(crate) paths: Vec<Option<Inode>>,
    /// The path that each file had.
    inodes: Vec<usize>,
    pub(crate) handles: Vec<Handle>,
    queues: BTreeMap<Key, Queue>,
    next: Ticket,
    /// Files of which it is up to the system whether they were removed.
    pub(crate) unsure: Vec<Inode>,
    /// Paths for which somebody waited, who can be on his way back from the system.
    pub(crate) disturbed: Vec<bool>,
}

impl Model {
    /// Of the files, those of which `names` says so are locks that are a name.
    pub(crate) fn new(hands_on: &[bool], names: &[bool]) -> Self {
        let mut model = Self {
            hands_on: hands_on.to_vec(),
            paths: vec![None; names.len()],
            inodes: Vec::new(),
            handles: Vec::new(),
            queues: BTreeMap::new(),
            next: 0,
            unsure: Vec::new(),
            disturbed: vec![false; names.len()],
        };
        for (path, name) in names.iter().enumerate() {
            if *name {
                model.make(path);
            }
        }
        model
    }

    fn ticket(&mut self) -> Ticket {
        self.next += 1;
        self.next
    }

    fn queue(&mut self, key: Key) -> &mut Queue {
        self.queues.entry(key).or_default()
    }

    /// The file that a path leads to; a new one if there is none.
    fn make(&mut self, path: usize) -> Inode {
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

    fn is_current(&self, inode: Inode) -> bool {
        self.paths[self.inodes[inode]] == Some(inode)
    }

    fn is_name(&self, handle: usize) -> bool {
        self.handles[handle].protocol.is_existence_lock()
    }

    /// How many wait for what a path leads to, or led to.
    pub(crate) fn waiters(&self, path: usize) -> usize {
        let queues = self
            .queues
            .iter()
            .filter(|((_, inode), _)| self.inodes[*inode] == path);
        queues.map(|(_, queue)| queue.waiting.len()).sum()
    }

    /// Whether one more may wait through a handle without it being up to the system who of several
    /// moves to another file first.
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

    fn key(&self, handle: usize) -> Key {
        (self.handles[handle].engine, self.handles[handle].inode)
    }

    /// Whether nothing that another engine holds is in the way.
    fn is_free(&self, key: Key, want: Want) -> bool {
        self.queues
            .iter()
            .filter(|((engine, inode), _)| *inode == key.1 && *engine != key.0)
            .all(|(_, queue)| queue.held.is_none_or(|held| !held.excludes(want)))
    }

    pub(crate) fn acquire(&mut self, handle: usize, mode: Mode) -> Attempt {
        let protocol = self.handles[handle].protocol;
        let want = Want { mode, protocol };
        loop {
            let key = self.key(handle);
            let queue = self.queue(key);
            let alone = queue.waiting.is_empty();
            let held = queue.held;
            if protocol.is_existence_lock() && mode == Mode::Shared && alone && held.is_none() {
                return Attempt::Unsupported;
            }
            let free = match held {
                Some(held) => held.joins(want),
                None => self.is_free(key, want),
            };
            if !(alone && free) {
                return Attempt::Busy;
            }
            if !self.is_current(key.1) {
                // What was granted is given back, and the path opened anew.
                self.handles[handle].inode = self.make(self.handles[handle].file);
                continue;
            }
            let ticket = self.ticket();
            let queue = self.queue(key);
            queue.held.get_or_insert(want);
            queue.holds.push(Hold {
                ticket,
                handle,
                mode,
                told: true,
            });
            return Attempt::Granted(key, ticket);
        }
    }

    /// Has somebody wait for whom the lock was busy.
    pub(crate) fn wait(&mut self, handle: usize, mode: Mode) -> (Key, Ticket) {
        let (key, ticket) = (self.key(handle), self.ticket());
        let Handle { file, protocol, .. } = self.handles[handle];
        self.disturbed[file] = true;
        let want = Want { mode, protocol };
        self.queue(key).waiting.push_back(Waiter {
            ticket,
            handle,
            want,
        });
        (key, ticket)
    }

    /// Waits to which the lock was handed on, and who do not know.
    pub(crate) fn untold(&self) -> Option<(Key, Ticket)> {
        self.queues.iter().find_map(|(key, queue)| {
            let hold = queue.holds.iter().find(|hold| !hold.told)?;
            Some((*key, hold.ticket))
        })
    }

    /// Waits of which one is the next to be granted; none where all have to go on waiting.
    pub(crate) fn candidates(&self) -> Vec<(Key, Ticket)> {
        let next = |(key, queue): (&Key, &Queue)| {
            let head = queue.waiting.front()?;
            let free = queue.held.is_none() && self.is_free(*key, head.want);
            free.then_some((*key, head.ticket))
        };
        self.queues.iter().filter_map(next).collect()
    }

    /// The system granted the head of a queue.
    pub(crate) fn granted(&mut self, key: Key) {
        let queue = self.queue(key);
        let head = queue.waiting.front().expect("a candidate");
        queue.held = Some(head.want);
        self.grant(key);
        self.advance(key);
    }

    fn grant(&mut self, key: Key) {
        let queue = self.queue(key);
        if let Some(waiter) = queue.waiting.pop_front() {
            queue.holds.push(Hold {
                ticket: waiter.ticket,
                handle: waiter.handle,
                mode: waiter.want.mode,
                told: false,
            });
        }
    }

    /// A wait that was granted is told. Answers the hold; or where it waits now, on the file that
    /// took the place of the first.
    pub(crate) fn tell(
        &mut self,
        key: Key,
        ticket: Ticket,
    ) -> Result<(Key, Ticket), (Key, Ticket)> {
        let current = self.is_current(key.1);
        let queue = self.queue(key);
        let index = queue.holds.iter().position(|hold| hold.ticket == ticket);
        let hold = &mut queue.holds[index.expect("a hold")];
        if current {
            hold.told = true;
            return Ok((key, ticket));
        }
        let (handle, mode) = (hold.handle, hold.mode);
        self.leave(key, ticket);
        self.handles[handle].inode = self.make(self.handles[handle].file);
        match self.acquire(handle, mode) {
            Attempt::Granted(key, ticket) => Ok((key, ticket)),
            _ => Err(self.wait(handle, mode)),
        }
    }

    /// Ends a wait, whether or not it has been granted, or a hold.
    pub(crate) fn leave(&mut self, key: Key, ticket: Ticket) {
        let queue = self.queue(key);
        queue.waiting.retain(|waiter| waiter.ticket != ticket);
        queue.holds.retain(|hold| hold.ticket != ticket);
        self.advance(key);
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

    /// Releases a hold, by the guard of a handle or through another; looks whether the file is still
    /// there if `check`.
    pub(crate) fn release(
        &mut self,
        key: Key,
        ticket: Ticket,
        handle: usize,
        check: bool,
    ) -> Answer {
        let named = !check || self.is_current(key.1);
        let remove = self.handles[handle].remove;
        let queue = self.queue(key);
        if let Some(index) = queue.lost.iter().position(|hold| hold.ticket == ticket) {
            queue.lost.remove(index);
            return Answer::Lost;
        }
        if !queue.holds.iter().any(|hold| hold.ticket == ticket) {
            return Answer::NotLocked;
        }
        queue.remove |= remove;
        self.leave(key, ticket);
        if named { Answer::Done } else { Answer::Lost }
    }

    /// Releases through a handle.
    pub(crate) fn release_through(&mut self, handle: usize) -> Answer {
        let key = self.key(handle);
        let queue = self.queue(key);
        let all = queue.holds.iter().chain(&queue.lost);
        let found = all.max_by_key(|hold| (hold.handle == handle, hold.ticket));
        match found.map(|hold| hold.ticket) {
            Some(ticket) => self.release(key, ticket, handle, true),
            None if self.holder(handle).is_some() => Answer::NotOwner,
            None => Answer::NotLocked,
        }
    }

    /// Takes the lock away. Answers the queues in which it was lost to another engine, too.
    pub(crate) fn break_lock(&mut self, handle: usize) -> (Answer, Option<Key>) {
        let Handle { engine, file, .. } = self.handles[handle];
        let Some(inode) = self.paths[file] else {
            return (Answer::NotLocked, None);
        };
        let key = (engine, inode);
        let queue = self.queue(key);
        if !queue.holds.is_empty() {
            let mut holds = std::mem::take(&mut queue.holds);
            queue.lost.append(&mut holds);
            self.advance(key);
            return (Answer::Done, None);
        }
        match self.holder(handle) {
            None => (Answer::NotLocked, None),
            Some(_) if !self.is_name(handle) => (Answer::Unsupported, None),
            Some(_) => (Answer::Done, self.rob(file)),
        }
    }

    /// Takes a lock that is a name away from the engine that holds it, by way of the file system.
    pub(crate) fn rob(&mut self, file: usize) -> Option<Key> {
        let inode = self.paths[file]?;
        let held = |((_, of), queue): (&Key, &Queue)| *of == inode && queue.held.is_some();
        let key = *self
            .queues
            .iter()
            .find(|(key, queue)| held((key, queue)))?
            .0;
        let queue = self.queue(key);
        let mut holds = std::mem::take(&mut queue.holds);
        queue.lost.append(&mut holds);
        queue.held = None;
        Some(key)
    }

    /// How the owner of a handle stands.
    pub(crate) fn state(&self, handle: usize) -> State {
        match self.queues.get(&self.key(handle)) {
            Some(queue) if !queue.holds.is_empty() => State::Held,
            Some(queue) if !queue.lost.is_empty() => LOST,
            _ => State::Unlocked,
        }
    }

    /// Who holds the lock, as far as the protocol of a handle tells.
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
            // Somebody waits, so somebody holds; in what mode, only record locks tell.
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

    /// Does in an engine what follows from a change in it.
    fn advance(&mut self, key: Key) {
        let hands_on = self.hands_on[key.0];
        loop {
            let queue = self.queue(key);
            let alone = queue.holds.is_empty();
            match (queue.held, queue.waiting.front()) {
                (None, None) => {
                    // Nobody knows whether the last to wait had been granted it.
                    if std::mem::take(&mut queue.remove) {
                        self.unsure.push(key.1);
                    }
                    return;
                }
                (None, Some(_)) => return,
                (Some(held), Some(head)) if !alone && held.joins(head.want) => self.grant(key),
                (Some(_), _) if !alone => return,
                (Some(held), Some(head)) if hands_on && held.fits(head.want) => self.grant(key),
                (Some(held), _) => self.give_back(key, held),
            }
        }
    }

    fn give_back(&mut self, key: Key, held: Want) {
        let (_, inode) = key;
        let path = self.inodes[inode];
        let queue = self.queue(key);
        queue.held = None;
        if !queue.waiting.is_empty() || !std::mem::take(&mut queue.remove) {
            return;
        }
        // Only a holder that excludes the users of both families removes the file.
        let everybody = Want {
            mode: Mode::Exclusive,
            protocol: Protocol::Native,
        };
        if held != everybody && self.disturbed[path] {
            self.unsure.push(inode);
        } else if self.is_free(key, everybody) && self.is_current(inode) {
            self.unlink(path, false);
        }
    }

    /// Says whether a file of which it was unsure is still there.
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
