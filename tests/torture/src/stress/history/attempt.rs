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
    /// The participant released the lock.
    Left {
        /// Before it did.
        at: Time,
        /// The counter as it was on entering and on leaving; none if it was left alone.
        counted: Option<[u64; 2]>,
    },
    /// The participant learned that the lock had been taken away.
    Lost {
        /// When it did.
        at: Time,
    },
    /// The participant was killed.
    CutOff {
        /// Before the signal was sent.
        at: Time,
    },
}

impl End {
    /// When the participant left, was told that it had lost the lock, or was killed.
    pub fn at(&self) -> Time {
        match self {
            Self::Left { at, .. } | Self::Lost { at } | Self::CutOff { at } => *at,
        }
    }
}

/// What came of an attempt to get a lock.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The participant got it.
    Entered(Section),
    /// It did not, for a reason that is part of the game.
    GaveUp(Why, Time),
    /// It failed.
    Failed(String, Time),
    /// It was killed while it waited.
    CutOff(Time),
}

/// An attempt to get a lock.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempt {
    /// The participant.
    pub worker: String,
    /// The how-many-th of this participant.
    pub number: u64,
    /// Name of the lock.
    pub lock: String,
    /// What the hold shall exclude.
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

    /// When the participant stopped waiting.
    pub fn answered(&self) -> Time {
        match &self.outcome {
            Outcome::Entered(section) => section.enter,
            Outcome::GaveUp(_, at) | Outcome::Failed(_, at) | Outcome::CutOff(at) => *at,
        }
    }
}

/// A lock that was broken, and the times between which that happened.
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
    /// Two held a lock at once that at most one may hold.
    Overlap,
    /// A line of the log is not whole, though nobody was killed over it.
    Torn,
    /// A section left no line.
    Missing,
    /// A line stands before one of an earlier section.
    OutOfOrder,
    /// A line belongs to no section, or to one that has its line already.
    Stray,
    /// A line was written outside its section: before it was entered, or after it was left or lost.
    Outside,
    /// A section found or left another number than those before it make up.
    Count,
    /// The number at the end is not the sum.
    Total,
    /// A lock was lost that nobody had broken.
    Lost,
    /// Who was told that the lock is lost got to release it all the same.
    AfterLost,
    /// A timeout came before its time, or where there was none.
    Timeout,
    /// An acquire or release failed.
    Failed,
    /// A participant stopped in the midst, though nobody killed it.
    Unfinished,
}

/// A broken promise, with what there is to look for the reason.
#[derive(Clone, Debug)]
pub struct Violation {
    /// Which promise.
    pub kind: Breach,
    /// By whom, when, against what.
    pub text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.text)
    }
}
