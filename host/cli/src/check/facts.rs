//! What was found out by trying. As JSON it is a part of what `locket check --json` prints, so a change
//! here is one to its documented format.

use serde::Serialize;

use super::actor::{Finding, Trouble};

/// Whether something is so.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Outcome {
    Yes,
    No,
    /// It cannot be tried, for the reason that the system gives.
    Failed(String),
    /// The file system has not answered in time.
    NoAnswer,
    /// Not tried: something before it has not answered, or it was not asked for.
    #[default]
    NotTried,
}

/// Why a series of tries ends early.
pub(super) enum Stop {
    NoAnswer,
    Tool(anyhow::Error),
}

impl Outcome {
    /// Keeps what was found.
    pub(super) fn keep(&mut self, finding: Finding) -> Result<(), Stop> {
        *self = match finding {
            Ok(true) => Self::Yes,
            Ok(false) => Self::No,
            Err(Trouble::Failed(why)) => Self::Failed(why),
            Err(Trouble::NoAnswer) => Self::NoAnswer,
            Err(Trouble::Tool(e)) => return Err(Stop::Tool(e)),
        };
        match self {
            Self::NoAnswer => Err(Stop::NoAnswer),
            _ => Ok(()),
        }
    }

    pub(super) fn is_yes(&self) -> bool {
        *self == Self::Yes
    }
}

/// The facts, whether or not the tries ended early.
pub(super) fn facts<F: Default>(
    fill: impl FnOnce(&mut F) -> Result<(), Stop>,
) -> anyhow::Result<F> {
    let mut facts = F::default();
    match fill(&mut facts) {
        Ok(()) | Err(Stop::NoAnswer) => Ok(facts),
        Err(Stop::Tool(e)) => Err(e),
    }
}

/// What does not depend on Locket.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Facts {
    pub(super) flock: LockFacts,
    pub(super) record: LockFacts,
    pub(super) names: NameFacts,
}

/// One family of kernel locks. What only the other has is always `NotTried`.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct LockFacts {
    /// An exclusive lock excludes another process, until it is released.
    pub(super) exclusive: Outcome,
    /// Shared locks allow one another, and exclude an exclusive one.
    pub(super) shared: Outcome,
    /// Two descriptions of one process exclude each other.
    pub(super) descriptions: Outcome,
    /// So does an exclusive lock on a descriptor that is open for reading.
    pub(super) read_only: Outcome,
    /// So does one on a directory.
    pub(super) directory: Outcome,
    /// A locked file can be removed, and stays usable.
    pub(super) removed: Outcome,
    /// Locks of ranges exclude each other if and only if they overlap.
    pub(super) ranges: Outcome,
    /// A lock of this family excludes one of the other.
    pub(super) excludes_other_family: Outcome,
    /// A waiter is granted the lock that is released.
    pub(super) granted: Outcome,
    /// A waiter is granted the lock of a holder that is killed.
    pub(super) granted_after_kill: Outcome,
    /// A signal ends a wait.
    pub(super) interrupted: Outcome,
}

/// Names and files.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct NameFacts {
    /// A file, directory, symbolic link or hard link is created only if the name is free.
    pub(super) new_file: Outcome,
    pub(super) new_directory: Outcome,
    pub(super) new_symlink: Outcome,
    pub(super) new_link: Outcome,
    /// A hard link counts.
    pub(super) link_count: Outcome,
    /// A file can be complete before it has a name.
    pub(super) nameless_file: Outcome,
    /// A name is moved only if the other is free.
    pub(super) rename_new: Outcome,
    /// Two names are exchanged in one step.
    pub(super) exchange: Outcome,
    /// A file has the same device and inode number whenever it is opened,
    pub(super) same_when_opened: Outcome,
    /// once it is renamed,
    pub(super) same_when_renamed: Outcome,
    /// and for another process.
    pub(super) same_for_others: Outcome,
    /// Attributes `user.…` are kept.
    pub(super) attributes: Outcome,
    /// The system tells of what another process creates and removes.
    pub(super) told_of_creation: Outcome,
    pub(super) told_of_removal: Outcome,
    /// What one process writes, another reads at once.
    pub(super) read_at_once: Outcome,
}

/// A protocol, as two users of Locket see it.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct ProtocolFacts {
    /// A free lock is acquired.
    pub(super) acquired: Outcome,
    /// It excludes another user, until it is released.
    pub(super) exclusive: Outcome,
    /// It excludes programs that use `flock`,
    pub(super) excludes_flock: Outcome,
    /// and those that use record locks.
    pub(super) excludes_record: Outcome,
    /// Shared locks allow one another, and exclude an exclusive one.
    pub(super) shared: Outcome,
    /// A waiter is granted the lock that is released.
    pub(super) granted: Outcome,
    /// A waiter is granted the lock of a holder that is killed.
    pub(super) granted_after_kill: Outcome,
}
