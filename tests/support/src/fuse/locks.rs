//! The locks of a file system for tests.

use rustix::io::Errno;

use super::files::Answers;
use super::wire::{Answer, Lock, Mode, Operation, Request};
use super::{Locks, Switches};

/// All locks, and who waits for one.
pub(crate) struct Table {
    switches: Switches,
    held: Vec<(u64, Lock)>,
    /// The requests that wait, in their order.
    waiting: Vec<(u64, u64, Lock)>,
}

impl Table {
    pub(crate) fn new(switches: Switches) -> Self {
        Self {
            switches,
            held: Vec::new(),
            waiting: Vec::new(),
        }
    }

    /// Answers who holds a lock.
    pub(crate) fn holder(&self, request: &Request<'_>) -> Answers {
        let other = self.conflict(request.node, &request.lock());
        vec![(request.id, Ok(Answer::holder(other)))]
    }

    /// Answers a request to lock or unlock.
    pub(crate) fn lock(&mut self, request: &Request<'_>) -> Answers {
        let lock = request.lock();
        if lock.mode.is_none() {
            self.held.retain(|(_, held)| held.owner != lock.owner);
            return self.advance((request.id, Ok(Answer::default())));
        }
        match self.switches.locks {
            Locks::Kept | Locks::OfKernel => {}
            Locks::Refused => return vec![(request.id, Err(Errno::NOSYS))],
            Locks::Granted => return vec![(request.id, Ok(Answer::default()))],
            Locks::Unanswered => return Vec::new(),
        }
        if self.conflict(request.node, &lock).is_none() {
            self.take(request.node, lock);
            return vec![(request.id, Ok(Answer::default()))];
        }
        if let Operation::TryLock = request.operation {
            return vec![(request.id, Err(Errno::AGAIN))];
        }
        self.waiting.push((request.id, request.node, lock));
        Vec::new()
    }

    /// Gives back the locks of a description that is closed.
    pub(crate) fn close(&mut self, request: &Request<'_>) -> Answers {
        let description = request.description();
        self.held.retain(|(_, lock)| lock.owner.0 != description);
        self.advance((request.id, Ok(Answer::default())))
    }

    /// Ends a wait, unless it is over or that is not honoured.
    pub(crate) fn interrupt(&mut self, request: u64) -> Answers {
        let waits = self.waiting.iter().position(|(id, ..)| *id == request);
        match waits.filter(|_| self.switches.honours_interrupts) {
            Some(index) => {
                self.waiting.remove(index);
                vec![(request, Err(Errno::INTR))]
            }
            None => Vec::new(),
        }
    }

    /// The mode of a lock that excludes this one.
    fn conflict(&self, node: u64, wanted: &Lock) -> Option<Mode> {
        let excludes = |(locked, held): &&(u64, Lock)| {
            *locked == node
                && held.owner != wanted.owner
                && held.owner.1 == wanted.owner.1
                && [held.mode, wanted.mode].contains(&Some(Mode::Exclusive))
        };
        self.held
            .iter()
            .find(excludes)
            .and_then(|(_, lock)| lock.mode)
    }

    fn take(&mut self, node: u64, lock: Lock) {
        self.held.retain(|(_, held)| held.owner != lock.owner);
        self.held.push((node, lock));
    }

    /// Grants what has become free.
    fn advance(&mut self, answer: (u64, Result<Answer, Errno>)) -> Answers {
        let mut answers = vec![answer];
        for (id, node, lock) in std::mem::take(&mut self.waiting) {
            if self.conflict(node, &lock).is_some() {
                self.waiting.push((id, node, lock));
                continue;
            }
            self.take(node, lock);
            answers.push((id, Ok(Answer::default())));
        }
        answers
    }
}
