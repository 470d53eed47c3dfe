//! What an engine does at one moment, for operators: who holds and awaits what.

use std::path::PathBuf;
use std::time::Duration;

use crate::engine::Engine;
use crate::protocol::Protocol;
use crate::queue::Party;
use crate::ranges::HeldRange;
use crate::types::{Mode, Totals};

/// The open locks of an engine at one moment, and what it has done so far. Made by
/// [`Engine::snapshot`].
///
/// With the feature `serde` it can be serialized: durations are numbers of seconds.
#[derive(Clone, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Snapshot {
    /// The locks that are open, sorted by path.
    pub locks: Vec<LockSnapshot>,
    /// The files of which ranges are open, for each owner, sorted by path.
    pub ranges: Vec<RangesSnapshot>,
    /// What the engine has done so far.
    pub totals: Totals,
}

/// One lock that is open.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct LockSnapshot {
    /// A path of the host through which it was opened. Guests open locks beneath a directory: if
    /// the engine does not know the path of that, this is the path of a guest.
    pub path: PathBuf,
    /// The protocol in which this engine has the lock, if it has it.
    pub protocol: Option<Protocol>,
    /// Whether a thread of this engine waits for other programs to release it.
    pub awaited_elsewhere: bool,
    /// Those that hold it, in the order of their grants.
    pub holders: Vec<ClientSnapshot>,
    /// Those that wait for it, in the order of their turns.
    pub waiters: Vec<ClientSnapshot>,
}

/// What one owner holds and awaits of the ranges of a file.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct RangesSnapshot {
    /// A path of the host through which the file was opened, as [`LockSnapshot::path`]. If a guest
    /// lent the file, the path that the system reports for it; empty if it reports none.
    pub path: PathBuf,
    /// The label of the guest; none for this process.
    pub label: Option<String>,
    /// The host's own tag of the guest, which no guest is shown.
    pub tag: Option<String>,
    /// What it holds, in the order of the bytes.
    pub held: Vec<HeldRange>,
    /// How many waits for ranges are in progress.
    pub waiting: usize,
}

/// A holder or waiter.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ClientSnapshot {
    /// The label of the guest; none for this process.
    pub label: Option<String>,
    /// The host's own tag of the guest, which no guest is shown.
    pub tag: Option<String>,
    /// Whether it is a guest.
    pub guest: bool,
    /// What it holds or awaits.
    pub mode: Mode,
    /// For how long it has held or awaited the lock. The engine does not note when this process
    /// acquired a lock that was free.
    #[cfg_attr(
        feature = "serde",
        serde(serialize_with = "crate::serialize::optional_seconds::serialize")
    )]
    pub since: Option<Duration>,
}

impl Engine {
    /// Lists the locks that are open, with those that hold and await them, and counts what the
    /// engine has done so far. Touches no file, and waits for no other program, so it can be called
    /// at any time. Locks are looked at one after the other, so two of them may be of different
    /// moments.
    ///
    /// ```
    /// use locket::{Engine, Mode};
    ///
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("app.lock");
    /// let engine = Engine::new();
    /// let _guard = engine.open(&path)?.acquire(Mode::Shared, None)?;
    /// let snapshot = engine.snapshot();
    /// assert_eq!(snapshot.locks[0].path, path);
    /// assert_eq!(snapshot.locks[0].holders.len(), 1);
    /// assert_eq!(snapshot.totals.granted, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn snapshot(&self) -> Snapshot {
        let context = self.context();
        if context.forked() {
            return Snapshot::default();
        }
        let client = |party: Party| {
            let owner = party.requester.owner;
            let profile = context.registry.profile(owner);
            let profile = profile.as_deref().cloned().unwrap_or_default();
            ClientSnapshot {
                label: profile.label,
                tag: profile.tag,
                guest: party.requester.is_guest(),
                mode: party.mode,
                since: party.since,
            }
        };
        let queues = context.registry.queues();
        let mut totals = Totals::default();
        let mut locks = Vec::new();
        for queue in &queues {
            let view = queue.view();
            totals += view.totals;
            locks.push(LockSnapshot {
                path: queue.name.clone(),
                protocol: view.protocol,
                awaited_elsewhere: view.awaited_elsewhere,
                holders: view.holders.into_iter().map(client).collect(),
                waiters: view.waiters.into_iter().map(client).collect(),
            });
        }
        // While these exist: a queue adds its totals to the past ones when it goes.
        let totals = context.services.past.with(&totals);
        drop(queues);
        locks.sort_by(|one, other| one.path.cmp(&other.path));
        Snapshot {
            locks,
            ranges: self.ranges_snapshot(),
            totals,
        }
    }

    fn ranges_snapshot(&self) -> Vec<RangesSnapshot> {
        let context = self.context();
        let mut ranges = Vec::new();
        for file in context.services.ranged.all() {
            for owned in file.owners() {
                let profile = context.registry.profile(owned.owner);
                let profile = profile.as_deref().cloned().unwrap_or_default();
                ranges.push(RangesSnapshot {
                    path: file.path.clone(),
                    label: profile.label,
                    tag: profile.tag,
                    held: owned.held().into_iter().map(HeldRange::new).collect(),
                    waiting: owned.waits(),
                });
            }
        }
        ranges.sort_by(|one, other| one.path.cmp(&other.path));
        ranges
    }
}
