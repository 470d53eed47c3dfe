//! What holds of a queue between changes. Builds with debug assertions check it after each.
//!
//! 1. If the lock is held, there are holds, unless it is being given back.
//! 2. If a waiter is queued and the lock is not held, something contends for it.
//! 3. What was elected, or waits for a blocking caller, stands for the head of the queue.
//! 4. A wait makes the request of the head, and excludes what is held.
//! 5. Polling has a timer if and only if the lock is not held.
//! 6. `object`, `spare` and the object of a wait are three different ones.
//! 7. Tickets ascend in `holds`. So do those of the waiters, and each hold's is below them, if they are in one round.
//! 8. All holds have the mode of what is held. Several are shared.
//! 9. The file is removed only under the lock: none is to be removed if the lock is neither held nor
//!    awaited.
//! 10. Each ticket is in one of `waiting`, `holds`, `failed` and `lost` until its waiter learns.

use std::sync::Arc;

use super::state::{Contender, HeldLock, State};
use crate::types::Mode;

/// An invariant, with its number.
type Rule = (u32, fn(&State) -> bool);

/// The longest queue that is checked, since a check takes time in proportion to its length.
const LONGEST: usize = 64;

impl State {
    /// The number of the first invariant that does not hold.
    pub(super) fn broken_invariant(&self) -> Option<u32> {
        if self.waiting.len().max(self.lost.len()) > LONGEST {
            return None;
        }
        let rules: [Rule; 10] = [
            (1, Self::holds_are_held),
            (2, Self::waiters_contend),
            (3, Self::contender_stands_for_the_head),
            (4, Self::wait_makes_the_request_of_the_head),
            (5, Self::polling_has_a_timer_unless_held),
            (6, Self::descriptions_differ),
            (7, Self::tickets_ascend),
            (8, Self::modes_agree),
            (9, Self::removal_is_under_the_lock),
            (10, Self::tickets_are_in_one_place),
        ];
        let broken = rules.into_iter().find(|(_, holds)| !holds(self));
        broken.map(|(number, _)| number)
    }

    fn holds_are_held(&self) -> bool {
        let releasing = self.held.is_some_and(|held| held.releasing);
        self.held.is_some() == (releasing || !self.holds.is_empty())
    }

    fn waiters_contend(&self) -> bool {
        let nothing = matches!(self.contender, Contender::None);
        self.waiting.is_empty() || self.held.is_some() || !nothing
    }

    fn contender_stands_for_the_head(&self) -> bool {
        let head = self.head();
        match self.contender {
            Contender::Elected(ticket)
            | Contender::Blocked {
                by: Some(ticket), ..
            } => head.is_some_and(|head| head.ticket == ticket && head.blocking),
            _ => true,
        }
    }

    fn wait_makes_the_request_of_the_head(&self) -> bool {
        let Contender::Blocked { wait, .. } = &self.contender else {
            return true;
        };
        let head = self.head().is_some_and(|head| head.request == wait.request);
        let excluded = |held: HeldLock| held.request.excludes(wait.request);
        head && self.held.is_none_or(excluded)
    }

    fn polling_has_a_timer_unless_held(&self) -> bool {
        match &self.contender {
            Contender::Polling(timer) => timer.is_some() != self.held.is_some(),
            _ => true,
        }
    }

    fn descriptions_differ(&self) -> bool {
        let wait = match &self.contender {
            Contender::Blocked { wait, .. } => wait.object(),
            _ => None,
        };
        let used = [Some(&self.object), self.spare.as_ref(), wait];
        let used: Vec<_> = used.into_iter().flatten().collect();
        let differs = |at: usize| !used[..at].iter().any(|other| Arc::ptr_eq(other, used[at]));
        (0..used.len()).all(differs)
    }

    fn tickets_ascend(&self) -> bool {
        let waiting = self.waiting.iter().map(|(ticket, _)| ticket);
        let by_arrival = self.waiting.is_by_arrival();
        let holds = self.holds.iter().map(|hold| hold.ticket);
        holds.chain(waiting.filter(|_| by_arrival)).is_sorted()
    }

    fn modes_agree(&self) -> bool {
        let Some(held) = self.held else { return true };
        let agrees = self.holds.iter().all(|hold| hold.mode == held.request.mode);
        agrees && (self.holds.len() < 2 || held.request.mode == Mode::Shared)
    }

    fn removal_is_under_the_lock(&self) -> bool {
        self.remove.is_none() || self.held.is_some() || !self.waiting.is_empty()
    }

    fn tickets_are_in_one_place(&self) -> bool {
        let lost = self.lost.iter().map(|(hold, _)| hold.ticket);
        let mut tickets: Vec<_> = self.holds.iter().map(|hold| hold.ticket).collect();
        tickets.extend(self.waiting.iter().map(|(ticket, _)| ticket));
        tickets.extend(self.failed.keys());
        tickets.extend(lost);
        let count = tickets.len();
        tickets.sort_unstable();
        tickets.dedup();
        tickets.len() == count
    }
}
