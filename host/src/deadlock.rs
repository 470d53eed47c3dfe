//! Which owners do nothing until others do something, so that a circle of them is noticed.
//!
//! A guest is suspended while it waits in a plain acquire, and while a call that it made to another
//! guest is in progress. An owner that would close a circle of suspended owners gets an error
//! instead.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use crate::owner::{OwnerId, Ticket};
use crate::queue::{LockQueue, Place};
use crate::sync::{Mutex, lock};

/// A wait that is in no queue of the engine.
pub(crate) trait Blocked: fmt::Debug + Send + Sync {
    /// The owners that it depends on.
    fn blockers(&self) -> Vec<OwnerId>;
}

/// What a suspended owner waits for.
#[derive(Clone, Debug)]
pub(crate) enum Suspension {
    /// A place in a queue.
    Wait(Arc<LockQueue>, Ticket),
    /// Something else that other owners hold.
    Held(Arc<dyn Blocked>),
    /// The end of a call to this owner.
    #[cfg_attr(not(feature = "sandbox"), expect(dead_code, reason = "guests only"))]
    Call(OwnerId),
}

impl Suspension {
    /// The owners that it depends on; `None` if it is over.
    fn blockers(&self) -> Option<Vec<OwnerId>> {
        match self {
            Self::Wait(queue, ticket) => queue.blockers(*ticket),
            Self::Held(wait) => Some(wait.blockers()),
            Self::Call(callee) => Some(vec![*callee]),
        }
    }

    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Wait(queue, ticket), Self::Wait(other, then)) => {
                Arc::ptr_eq(queue, other) && ticket == then
            }
            (Self::Held(wait), Self::Held(other)) => Arc::ptr_eq(wait, other),
            (Self::Call(callee), Self::Call(other)) => callee == other,
            _ => false,
        }
    }
}

/// The suspended owners of an engine.
#[derive(Debug, Default)]
pub(crate) struct Suspensions(Mutex<Suspended>);

#[derive(Debug, Default)]
struct Suspended {
    /// Each owner with all that it waits for.
    owners: HashMap<OwnerId, Vec<Suspension>>,
    /// How many wait for the end of a call to an owner.
    callers: HashMap<OwnerId, usize>,
}

/// A suspension that a walk came to: whose it is, and the index of the one that led to it.
type Step = (OwnerId, Suspension, usize);

impl Suspensions {
    /// Records that `owner` is suspended until `own` is over. Returns `false`, and records nothing, if
    /// that closes a cycle of owners that wait for one another. It can close one only if others may
    /// be waiting for `owner`: for something that it holds or awaits, if it `blocks`, or for the end of
    /// a call to it.
    ///
    /// No mutex is held while a queue is examined, since a queue can be busy. So this takes three
    /// steps. First the suspension is recorded. If several owners close a cycle at the same time, the
    /// last one sees those of all the others. Then a walk follows each of them to the owners that
    /// block it. A cycle that it finds may not be real, if an owner in it has released one lock and
    /// then waited for another. So finally the walk examines the blockers in the cycle once more,
    /// checks in one step that all of it has been there throughout, and takes its own suspension
    /// back. A suspended owner cannot release, so the cycle was real. If several owners find the
    /// same cycle, only the first is told.
    ///
    /// A waiter that fair shares let ahead of others gives them one more blocker. No owner misses a
    /// cycle by that: the newcomer runs at that moment, and looks when it is suspended itself.
    pub(crate) fn suspend(&self, owner: OwnerId, own: Suspension, blocks: bool) -> bool {
        if !lock(&self.0).note(owner, own.clone()) && !blocks {
            return true;
        }
        let mut walk: Vec<Step> = vec![(owner, own, 0)];
        let mut seen = HashSet::new();
        // What blocks one waiter of a queue also blocks the waiters behind it.
        let mut seen_to: HashMap<_, Place> = HashMap::new();
        let mut next = 0;
        while let Some((_, suspension, _)) = walk.get(next).cloned() {
            let from = next;
            next += 1;
            if let Suspension::Wait(queue, ticket) = &suspension {
                let Some(place) = queue.place(*ticket) else {
                    continue;
                };
                let to = seen_to.entry(Arc::as_ptr(queue)).or_default();
                if *to >= place {
                    continue;
                }
                *to = place;
            }
            for blocker in suspension.blockers().unwrap_or_default() {
                if blocker == owner {
                    if self.withdraw(&walk, from) {
                        return false;
                    }
                } else if seen.insert(blocker) {
                    let suspended = lock(&self.0)
                        .owners
                        .get(&blocker)
                        .cloned()
                        .unwrap_or_default();
                    walk.extend(suspended.into_iter().map(|next| (blocker, next, from)));
                }
            }
        }
        true
    }

    /// Takes back the first suspension of a walk, if those from it to the one at `last` form a cycle.
    fn withdraw(&self, walk: &[Step], last: usize) -> bool {
        let mut cycle = vec![last];
        while let Some(&at) = cycle.last().filter(|at| **at > 0) {
            cycle.push(walk[at].2);
        }
        let mut blocks = walk[0].0;
        for &at in &cycle {
            let (owner, suspension, _) = &walk[at];
            let blockers = suspension.blockers();
            if !blockers.is_some_and(|blockers| blockers.contains(&blocks)) {
                return false;
            }
            blocks = *owner;
        }
        let mut suspended = lock(&self.0);
        let is_noted = |at: &usize| {
            let (owner, suspension, _) = &walk[*at];
            let noted = suspended.owners.get(owner);
            noted.is_some_and(|noted| noted.iter().any(|noted| noted.is(suspension)))
        };
        if !cycle.iter().all(is_noted) {
            return false;
        }
        let own = suspended.take(walk[0].0, &walk[0].1);
        drop(suspended);
        drop(own);
        true
    }

    /// Records that a suspension is over.
    pub(crate) fn resume(&self, owner: OwnerId, own: &Suspension) {
        let over = lock(&self.0).take(owner, own);
        // Not under the mutex: it may close a file.
        drop(over);
    }
}

impl Suspended {
    /// Notes a suspension. Returns whether another owner waits for the end of a call to this one.
    fn note(&mut self, owner: OwnerId, own: Suspension) -> bool {
        if let Suspension::Call(callee) = &own {
            *self.callers.entry(*callee).or_default() += 1;
        }
        self.owners.entry(owner).or_default().push(own);
        self.callers.contains_key(&owner)
    }

    fn take(&mut self, owner: OwnerId, own: &Suspension) -> Option<Suspension> {
        let noted = self.owners.get_mut(&owner)?;
        let index = noted.iter().position(|noted| noted.is(own))?;
        let taken = noted.swap_remove(index);
        if noted.is_empty() {
            self.owners.remove(&owner);
        }
        if let Suspension::Call(callee) = &taken
            && let Some(callers) = self.callers.get_mut(callee)
        {
            *callers -= 1;
            if *callers == 0 {
                self.callers.remove(callee);
            }
        }
        Some(taken)
    }
}
