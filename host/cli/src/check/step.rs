//! What an actor can do in the scratch directory, and what it answers.

use serde::{Deserialize, Serialize};

/// The number of one of the actor's open files.
pub(super) type Slot = usize;

#[derive(Debug, Deserialize, Serialize)]
pub(super) enum Step {
    Open(Slot, String, Opening),
    Lock(Slot, Lock),
    Unlock(Slot, Family),
    /// Creates a name, unless it is there.
    Make(String, Entry),
    Rename(String, String),
    /// Moves a name, unless the other is there.
    RenameNew(String, String),
    Exchange(String, String),
    Remove(String),
    /// What has the name.
    Named(String),
    /// What is open.
    Opened(Slot),
    SetAttribute(String, String),
    Attribute(String),
    Write(Slot, String),
    Read(Slot),
    /// Asks for notifications of what is in a directory.
    Watch(String),
    /// Waits for the notification of a change to a name.
    Told(String, Change),
    /// Acquires a lock as users of Locket do.
    Acquire {
        /// The name of a protocol.
        protocol: String,
        mode: Mode,
        wait: bool,
    },
    Release,
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(super) enum Opening {
    /// For reading.
    Read,
    /// For reading and writing; created if it is missing.
    Write,
}

#[derive(Debug, Deserialize, Serialize)]
pub(super) enum Entry {
    File,
    Directory,
    Symlink,
    /// Another name of this file.
    Link(String),
    /// A file that was there before it got its name.
    Nameless,
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(super) enum Change {
    Creation,
    Removal,
}

/// A kernel lock.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(super) struct Lock {
    pub(super) family: Family,
    pub(super) mode: Mode,
    pub(super) wait: Wait,
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(super) enum Family {
    Flock,
    /// Of an open file description, on so many bytes from here on; 0 for all that follow.
    Record {
        from: i64,
        length: i64,
    },
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub(super) enum Mode {
    Shared,
    Exclusive,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub(super) enum Wait {
    No,
    Yes,
    /// Until a signal comes, which is soon.
    Interrupted,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(super) enum Answer {
    Done,
    /// Another has the lock, or the name is there already.
    Refused,
    Interrupted,
    Inode {
        device: u64,
        number: u64,
        links: u64,
    },
    Text(String),
}

/// An answer, or what the system says that went wrong.
pub(super) type Answered = Result<Answer, String>;

impl Family {
    pub(super) const RECORD: Self = Self::Record { from: 0, length: 0 };
}
