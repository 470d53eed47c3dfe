//! The files of a file system for tests, and the locks of them.

use std::collections::HashMap;

use rustix::io::Errno;

use super::Switches;
use super::wire::{Answer, Lock, Mode, Operation, Request};

/// The only directory.
pub(crate) const DIRECTORY: u64 = 1;

/// All files and locks.
pub(crate) struct Files {
    switches: Switches,
    /// The files that have a name.
    names: HashMap<String, u64>,
    last_node: u64,
    last_description: u64,
    locks: Vec<(u64, Lock)>,
    /// The requests for locks that wait, in their order.
    waiting: Vec<(u64, u64, Lock)>,
}

/// What is to be answered: the requests, and how.
pub(crate) type Answers = Vec<(u64, Result<Answer, Errno>)>;

impl Files {
    pub(crate) fn new(switches: Switches) -> Self {
        Self {
            switches,
            names: HashMap::new(),
            last_node: DIRECTORY,
            last_description: 0,
            locks: Vec::new(),
            waiting: Vec::new(),
        }
    }

    /// Answers a request, and those that waited for this one.
    pub(crate) fn answer(&mut self, request: &Request<'_>) -> Answers {
        let result = match request.operation {
            Operation::Init => Ok(Answer::version(self.switches.keeps_locks)),
            Operation::Lookup => match self.names.get(&request.name()) {
                Some(node) => Ok(Answer::entry(*node)),
                None => Err(Errno::NOENT),
            },
            Operation::Create => {
                let node = self.create(request.name());
                Ok(Answer::entry(node).open(self.description()))
            }
            Operation::Attributes => Ok(Answer::attributes(request.node)),
            Operation::Unlink => match self.names.remove(&request.name()) {
                Some(_) => Ok(Answer::default()),
                None => Err(Errno::NOENT),
            },
            Operation::Open | Operation::OpenDir => Ok(Answer::default().open(self.description())),
            Operation::StatFs => Ok(Answer::size()),
            Operation::Flush | Operation::ReleaseDir => Ok(Answer::default()),
            Operation::Release => {
                let description = request.description();
                self.locks.retain(|(_, lock)| lock.owner.0 != description);
                return self.advance((request.id, Ok(Answer::default())));
            }
            Operation::LockHolder => {
                let other = self.conflict(request.node, &request.lock());
                Ok(Answer::holder(other))
            }
            Operation::TryLock | Operation::Lock => return self.lock(request),
            Operation::Interrupt => return self.interrupt(request.interrupted()),
            // It has no answer.
            Operation::Forget => return Vec::new(),
            Operation::Unknown => Err(Errno::NOSYS),
        };
        vec![(request.id, result)]
    }

    fn create(&mut self, name: String) -> u64 {
        self.last_node += 1;
        *self.names.entry(name).or_insert(self.last_node)
    }

    fn description(&mut self) -> u64 {
        self.last_description += 1;
        self.last_description
    }

    /// The mode of a lock that excludes this one.
    fn conflict(&self, node: u64, wanted: &Lock) -> Option<Mode> {
        let excludes = |(locked, held): &&(u64, Lock)| {
            *locked == node
                && held.owner != wanted.owner
                && held.owner.1 == wanted.owner.1
                && [held.mode, wanted.mode].contains(&Some(Mode::Exclusive))
        };
        self.locks
            .iter()
            .find(excludes)
            .and_then(|(_, lock)| lock.mode)
    }

    fn lock(&mut self, request: &Request<'_>) -> Answers {
        let lock = request.lock();
        if lock.mode.is_none() {
            self.locks.retain(|(_, held)| held.owner != lock.owner);
            return self.advance((request.id, Ok(Answer::default())));
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

    fn take(&mut self, node: u64, lock: Lock) {
        self.locks.retain(|(_, held)| held.owner != lock.owner);
        self.locks.push((node, lock));
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

    /// Ends a wait, unless it is over or that is not honoured.
    fn interrupt(&mut self, request: u64) -> Answers {
        let waits = self.waiting.iter().position(|(id, ..)| *id == request);
        match waits.filter(|_| self.switches.honours_interrupts) {
            Some(index) => {
                self.waiting.remove(index);
                vec![(request, Err(Errno::INTR))]
            }
            None => Vec::new(),
        }
    }
}
