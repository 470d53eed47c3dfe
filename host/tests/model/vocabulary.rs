//! The words in which the model speaks of locks.

use std::collections::VecDeque;

use locket::{Mode, Protocol};

/// Identifies a waiter in a queue, and then its hold.
pub(crate) type Ticket = u64;

/// One of the files that any path has led to; for an existence lock, its path.
pub(crate) type Inode = usize;

/// The queue of an engine for a file.
pub(crate) type Key = (usize, Inode);

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Want {
    pub(crate) mode: Mode,
    pub(crate) protocol: Protocol,
}

impl Want {
    /// The kernel's lock families that it is in, as bits; a bit of its own for existence locks.
    pub(crate) fn families(self) -> u8 {
        match self.protocol {
            Protocol::Flock => 1,
            Protocol::Fcntl => 2,
            Protocol::Native => 3,
            _ => 4,
        }
    }

    pub(crate) fn excludes(self, other: Self) -> bool {
        let alone = self.mode == Mode::Exclusive || other.mode == Mode::Exclusive;
        alone && self.families() & other.families() != 0
    }

    /// Whether this lock is as good as what `other` asks for.
    pub(crate) fn fits(self, other: Self) -> bool {
        self.mode == other.mode && self.families() & other.families() == other.families()
    }

    pub(crate) fn joins(self, other: Self) -> bool {
        self.mode == Mode::Shared && self.fits(other)
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Handle {
    pub(crate) engine: usize,
    pub(crate) file: usize,
    pub(crate) protocol: Protocol,
    pub(crate) remove: bool,
    /// The file that the path led to when it was last opened.
    pub(crate) inode: Inode,
}

#[derive(Debug, Default)]
pub(crate) struct Queue {
    /// The lock that the engine holds in the system.
    pub(crate) held: Option<Want>,
    pub(crate) holds: Vec<Hold>,
    pub(crate) lost: Vec<Hold>,
    pub(crate) waiting: VecDeque<Waiter>,
    /// The file is to be removed when the lock is given back.
    pub(crate) remove: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Hold {
    pub(crate) ticket: Ticket,
    pub(crate) handle: usize,
    pub(crate) mode: Mode,
    /// Whether the task that waited for it has seen the grant.
    pub(crate) delivered: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Waiter {
    pub(crate) ticket: Ticket,
    pub(crate) handle: usize,
    pub(crate) want: Want,
}

/// The result of an acquire that does not wait.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Attempt {
    Granted(Key, Ticket),
    Busy,
    /// The protocol does not have the mode.
    Unsupported,
}

/// The result of a release or a break.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Answer {
    Done,
    Lost,
    NotLocked,
    NotOwner,
    Unsupported,
}

/// A holder of a lock, as a handle sees it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Seen {
    pub(crate) mode: Mode,
    pub(crate) is_self: bool,
}
