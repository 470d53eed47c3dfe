//! How locks are granted, released and taken away in the model.

use locket::{Mode, Protocol};

use super::reference::Model;
use super::vocabulary::*;

impl Model {
    pub(crate) fn acquire(&mut self, handle: usize, mode: Mode) -> Attempt {
        let protocol = self.handles[handle].protocol;
        let want = Want { mode, protocol };
        if protocol.is_existence_lock() && mode == Mode::Shared {
            return Attempt::Unsupported;
        }
        loop {
            let key = self.key(handle);
            let queue = self.queue(key);
            let alone = queue.waiting.is_empty();
            let held = queue.held;
            let free = match held {
                Some(held) => held.joins(want),
                None => self.is_free(key, want),
            };
            if !(alone && free) {
                return Attempt::Busy;
            }
            if !self.is_current(key.1) {
                // The grant is given back, and the path opened anew.
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
                delivered: true,
            });
            return Attempt::Granted(key, ticket);
        }
    }

    /// Adds a waiter for a busy lock.
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

    /// A wait that the lock was handed on to, and that has not seen it.
    pub(crate) fn undelivered(&self) -> Option<(Key, Ticket)> {
        self.queues.iter().find_map(|(key, queue)| {
            let hold = queue.holds.iter().find(|hold| !hold.delivered)?;
            Some((*key, hold.ticket))
        })
    }

    /// The waits of which one is granted next; none if all have to keep waiting.
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
        let head = queue.waiting.front().expect("the queue has a waiter");
        queue.held = Some(head.want);
        self.grant(key);
        self.advance(key);
    }

    pub(crate) fn grant(&mut self, key: Key) {
        let queue = self.queue(key);
        if let Some(waiter) = queue.waiting.pop_front() {
            queue.holds.push(Hold {
                ticket: waiter.ticket,
                handle: waiter.handle,
                mode: waiter.want.mode,
                delivered: false,
            });
        }
    }

    /// A granted wait sees its grant. Returns the hold; or the new wait, on the file that took the place
    /// of the first.
    pub(crate) fn deliver(
        &mut self,
        key: Key,
        ticket: Ticket,
    ) -> Result<(Key, Ticket), (Key, Ticket)> {
        let current = self.is_current(key.1);
        let queue = self.queue(key);
        let index = queue.holds.iter().position(|hold| hold.ticket == ticket);
        let hold = &mut queue.holds[index.expect("a granted wait has a hold")];
        if current {
            hold.delivered = true;
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

    /// Releases a hold, by its guard or through another handle. Checks whether the file is still there if
    /// `check`.
    pub(crate) fn release(
        &mut self,
        key: Key,
        ticket: Ticket,
        handle: usize,
        check: bool,
    ) -> Answer {
        let current = !check || self.is_current(key.1);
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
        if current { Answer::Done } else { Answer::Lost }
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

    /// Breaks the lock. Returns also the queue of another engine that lost it.
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
            Some(_) if !self.is_existence_lock_of(handle) => (Answer::Unsupported, None),
            Some(_) => (Answer::Done, self.take_away(file)),
        }
    }

    /// Takes an existence lock away from the engine that holds it, through the file system.
    pub(crate) fn take_away(&mut self, file: usize) -> Option<Key> {
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

    /// Does what follows from a change in an engine.
    pub(crate) fn advance(&mut self, key: Key) {
        let hands_on = self.hands_on[key.0];
        loop {
            let queue = self.queue(key);
            let alone = queue.holds.is_empty();
            match (queue.held, queue.waiting.front()) {
                (None, None) => {
                    // It is unknown whether the last waiter had been granted the lock.
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

    pub(crate) fn give_back(&mut self, key: Key, held: Want) {
        let (_, inode) = key;
        let path = self.inodes[inode];
        let queue = self.queue(key);
        queue.held = None;
        if !queue.waiting.is_empty() || !std::mem::take(&mut queue.remove) {
            return;
        }
        // Only a holder that excludes the users of both families removes the file.
        let all_families = Want {
            mode: Mode::Exclusive,
            protocol: Protocol::Native,
        };
        if held != all_families && self.disturbed[path] {
            self.unsure.push(inode);
        } else if self.is_free(key, all_families) && self.is_current(inode) {
            self.unlink(path, false);
        }
    }
}
