//! An attempt to get a lock, and the section it led to.

use std::fmt;

use crate::stress::journal::{Mode, Time, Why};

/// The time between entering and leaving.
#[derive(Clone, Debug, PartialEq)]
pub struct Section {
    /// When it began.
    pub enter: Time,
    /// How it ended.
    pub end: End,
}

/// The end of a section.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    /// The worker released the lock.
    Left {
        /// Before the call.
        at: Time,
        /// The counter on entering and on leaving; none if the object was not used.
        counted: Option<[u64; 2]>,
    },
    /// The worker learned that the lock was lost.
    Lost {
        /// When it learned that.
        at: Time,
    },
    /// The worker was killed.
    CutOff {
        /// Before the signal was sent.
        at: Time,
    },
}

impl End {
    /// When the worker left, learned that it had lost the lock, or was killed.
    pub fn at(&self) -> Time {
        match self {
            Self::Left { at, .. } | Self::Lost { at } | Self::CutOff { at } => *at,
        }
    }
}

/// What came of an attempt to get a lock.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The worker got the lock.
    Entered(Section),
    /// It did not, for an expected reason.
    GaveUp(Why, Time),
    /// It failed.
    Failed(String, Time),
    /// It was killed while it waited.
    CutOff(Time),
}

/// An attempt to get a lock.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempt {
    /// The worker.
    pub worker: String,
    /// Number of this attempt of the worker.
    pub number: u64,
    /// Name of the lock.
    pub lock: String,
    /// What the hold is to exclude.
    pub mode: Mode,
    /// When it began.
    pub asked: Time,
    /// Its timeout, in nanoseconds.
    pub limit: Option<u64>,
    /// How it ended.
    pub outcome: Outcome,
}

impl Attempt {
    /// The section that it led to.
    pub fn section(&self) -> Option<&Section> {
        match &self.outcome {
            Outcome::Entered(section) => Some(section),
            _ => None,
        }
    }

    /// When the wait ended.
    pub fn answered(&self) -> Time {
        match &self.outcome {
            Outcome::Entered(section) => section.enter,
            Outcome::GaveUp(_, at) | Outcome::Failed(_, at) | Outcome::CutOff(at) => *at,
        }
    }
}

/// The break of a lock, and the times between which it happened.
#[derive(Clone, Debug, PartialEq)]
pub struct Break {
    /// Name of the lock.
    pub lock: String,
    /// Before the call, and after it.
    pub between: [Time; 2],
}

/// Which promise was broken.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Breach {
    /// Two workers held a lock at once, at least one of them exclusively.
    Overlap,
    /// A line of the log is not whole, although its worker was not killed.
    Torn,
    /// A section left no line.
    Missing,
    /// A line stands before one of an earlier section.
    OutOfOrder,
    /// A line belongs to no section, or to one that already has a line.
    Stray,
    /// A line was written before its section was entered, or after it was left or lost.
    Outside,
    /// A section found or left a count other than the sum of the sections before.
    Count,
    /// The count at the end is not the sum of all sections.
    Total,
    /// A lock was lost without a break.
    Lost,
    /// A worker released a lock after it had learned that the lock was lost.
    AfterLost,
    /// A timeout came early, or without having been asked for.
    Timeout,
    /// An acquire or release failed.
    Failed,
    /// A worker ended within an attempt, although it was not killed.
    Unfinished,
}

/// A broken promise, with all that helps to find the reason.
#[derive(Clone, Debug)]
pub struct Violation {
    /// Which promise.
    pub kind: Breach,
    /// The worker, the times, and what was expected.
    pub text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.text)
    }
}
