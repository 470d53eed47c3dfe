//! The attempts of one call: what to acquire next, and when to give all back and begin anew.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::acquire::{Acquire, AcquireState, Suspends, acquire_now};
use crate::deadline::Deadline;
use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::guard::Guard;
use crate::handle::Handle;
use crate::lock_file::LockFile;
use crate::lock_path::{Identity, TRIES};
use crate::types::Mode;

/// How long a call waits for a lock while it holds others. Far longer than the queue of a lock that
/// is held briefly, and far shorter than what a user of the others takes for a hang.
pub(super) const PATIENCE: Duration = Duration::from_millis(50);

/// What a call does next.
pub(super) enum Step {
    Acquire(Next),
    Done(Result<Vec<Guard>>),
}

/// A lock to acquire.
pub(super) struct Next {
    handle: Arc<Handle>,
    mode: Mode,
    deadline: Deadline,
    /// The cancellations of the handle when the call began.
    began: u64,
}

impl Next {
    /// Acquires it on this thread.
    pub(super) fn block(&self) -> Result<Guard> {
        let wait = !matches!(self.deadline, Deadline::Now);
        if let Some(result) = acquire_now(&self.handle, self.mode, wait) {
            return result;
        }
        let none = Suspends::Nothing;
        AcquireState::new(
            &self.handle,
            self.mode,
            self.deadline,
            none,
            self.began,
            true,
        )
        .block(&self.handle, || {})
    }

    /// Acquires it in a task.
    pub(super) fn start(&self) -> Acquire {
        let none = Suspends::Nothing;
        Acquire::new(&self.handle, self.mode, self.deadline, none, self.began)
    }
}

/// What a lock is kept on: its file, and what tells it from others there: the name of an entry, or a
/// lock of a server.
type Key = (Identity, Option<OsString>);

/// A lock as the caller named it.
#[derive(Debug)]
struct Named {
    handle: Arc<Handle>,
    mode: Mode,
    began: u64,
}

impl Named {
    fn key(&self) -> Key {
        let queue = self.handle.queue();
        (queue.identity, queue.object().key())
    }
}

/// A lock to acquire, which the caller may have named more than once.
#[derive(Debug)]
struct Member {
    key: Key,
    /// The one of its names that it is acquired by.
    index: usize,
    mode: Mode,
}

/// A call of [`Engine::acquire_all`].
#[derive(Debug)]
pub(super) struct Attempt {
    engine: Engine,
    names: Vec<Named>,
    deadline: Deadline,
    /// What is left to acquire. The first of an attempt was in the way of the one before; all others
    /// are in order.
    left: VecDeque<Member>,
    /// What is held, with its name.
    held: Vec<(usize, Guard)>,
    /// The first lock of this attempt. Those after it in the order may be waited for.
    first: Option<Key>,
    /// How often a path led to another file after the grant.
    replaced: usize,
}

impl Attempt {
    pub(super) fn new<'a>(
        engine: &Engine,
        locks: impl IntoIterator<Item = (&'a LockFile, Mode)>,
        timeout: Option<Duration>,
    ) -> Self {
        let named = |(lock, mode): (&LockFile, Mode)| Named {
            handle: Arc::clone(&lock.handle),
            mode,
            began: lock.handle.cancellations(),
        };
        Self {
            engine: engine.clone(),
            names: locks.into_iter().map(named).collect(),
            deadline: Deadline::after(timeout),
            left: VecDeque::new(),
            held: Vec::new(),
            first: None,
            replaced: 0,
        }
    }

    /// Takes the answer to the last step; there is none before the first.
    pub(super) fn advance(&mut self, answer: Option<Result<Guard>>) -> Step {
        let mut result = match answer {
            None => self.refuse_others().and_then(|()| self.begin(None)),
            Some(Ok(guard)) => {
                let member = self.left.pop_front();
                self.held.extend(member.map(|member| (member.index, guard)));
                Ok(())
            }
            Some(Err(e)) => self.back_off(e),
        };
        if result.is_ok() && self.left.is_empty() {
            result = self.confirm();
        }
        match (result, self.left.front()) {
            (Err(e), _) => {
                self.held.clear();
                Step::Done(Err(e))
            }
            (Ok(()), Some(member)) => Step::Acquire(self.next(member)),
            (Ok(()), None) => {
                self.held.sort_by_key(|(index, _)| *index);
                let guards = self.held.drain(..).map(|(_, guard)| guard);
                Step::Done(Ok(guards.collect()))
            }
        }
    }

    fn refuse_others(&self) -> Result<()> {
        let ours = |name: &&Named| Arc::ptr_eq(self.engine.context(), &name.handle.context);
        match self.names.iter().find(|name| !ours(name)) {
            Some(name) => Err(unsupported(&name.handle, "another engine opened it")),
            None => Ok(()),
        }
    }

    /// Begins an attempt, with the lock that was in the way of the last one.
    fn begin(&mut self, obstacle: Option<usize>) -> Result<()> {
        for (_, guard) in self.held.drain(..) {
            guard.undo();
        }
        let obstacle = obstacle.map(|index| self.names[index].key());
        let named = self.names.iter().enumerate();
        let mut members: Vec<_> = named
            .map(|(index, name)| Member {
                key: name.key(),
                index,
                mode: name.mode,
            })
            .collect();
        members.sort_by(|a, b| a.key.cmp(&b.key));
        let mut left: VecDeque<Member> = VecDeque::with_capacity(members.len());
        for member in members {
            match left.back_mut().filter(|last| last.key == member.key) {
                Some(same) => self.join(same, &member)?,
                None => left.push_back(member),
            }
        }
        let place = obstacle.and_then(|key| left.iter().position(|member| member.key == key));
        if let Some(first) = place.and_then(|place| left.remove(place)) {
            left.push_front(first);
        }
        self.first = left.front().map(|member| member.key.clone());
        self.left = left;
        Ok(())
    }

    /// Makes two names of one lock one.
    fn join(&self, one: &mut Member, other: &Member) -> Result<()> {
        let handle = |index: usize| &self.names[index].handle;
        let protocol = |index| handle(index).options.protocol;
        if other.mode == Mode::Exclusive {
            one.mode = other.mode;
        }
        if !protocol(one.index).covers(protocol(other.index)) {
            if !protocol(other.index).covers(protocol(one.index)) {
                let why = "another path leads to the same lock, with another protocol";
                return Err(unsupported(handle(other.index), why));
            }
            one.index = other.index;
        }
        Ok(())
    }

    fn next(&self, member: &Member) -> Next {
        let Named { handle, began, .. } = &self.names[member.index];
        let deadline = if self.held.is_empty() {
            self.deadline
        } else if Some(&member.key) > self.first.as_ref() {
            self.deadline.or_at(Instant::now() + PATIENCE)
        } else {
            Deadline::Now
        };
        Next {
            handle: Arc::clone(handle),
            mode: member.mode,
            deadline,
            began: *began,
        }
    }

    /// Begins anew if a lock was in the way only because others are held.
    fn back_off(&mut self, error: Error) -> Result<()> {
        let in_the_way = error.is_would_block() || error.is_timeout();
        if !in_the_way || self.held.is_empty() || matches!(self.deadline, Deadline::Now) {
            return Err(error);
        }
        match self.left.front() {
            Some(obstacle) => self.begin_unless_over(obstacle.index),
            None => Err(error),
        }
    }

    fn begin_unless_over(&mut self, obstacle: usize) -> Result<()> {
        if self.deadline.passed() {
            return Err(self.names[obstacle].handle.error(ErrorKind::Timeout));
        }
        self.begin(Some(obstacle))
    }

    /// Checks that what was acquired has not been lost since, nor its file replaced.
    fn confirm(&mut self) -> Result<()> {
        if let Some(lost) = self.held.iter().position(|(_, guard)| !guard.is_held()) {
            let (index, guard) = self.held.remove(lost);
            // It fails with the reason.
            guard.release()?;
            return Err(self.names[index].handle.error(ErrorKind::NotLocked));
        }
        let mut gone = None;
        // The last one has just been checked.
        let before = self.held.split_last().map_or(&[][..], |(_, before)| before);
        for (index, guard) in before {
            if !guard.handle.is_current(&guard.queue)? {
                gone = Some(*index);
            }
        }
        let Some(gone) = gone else {
            return Ok(());
        };
        self.replaced += 1;
        if matches!(self.deadline, Deadline::Now) && self.replaced == TRIES {
            return Err(self.names[gone].handle.error(ErrorKind::WouldBlock));
        }
        self.begin_unless_over(gone)
    }
}

fn unsupported(handle: &Handle, why: &str) -> Error {
    handle.os(std::io::Error::new(std::io::ErrorKind::Unsupported, why))
}
