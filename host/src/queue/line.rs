//! The waiters of a queue, in the order of their turns.
//!
//! Each waiter has a [`Place`]: a round, and its ticket. Turns follow the rounds, and within one the
//! order of arrival. Unless shares are fair, all waiters are in the first round, so the order of
//! arrival is all that counts. With fair shares, each share (a tenant, say) has one place a round: a
//! waiter joins the first round in which its share has none yet, from that of the head on. So a
//! hundred waiters of one share put a waiter of another behind one of them, not behind all.
//!
//! A place never changes. The head stays the head, since a newcomer comes after those that are in
//! the same round.

use std::collections::{BTreeMap, HashMap};

use foldhash::fast::RandomState;

use super::state::Waiter;
use crate::owner::Ticket;

/// A place in the line; the lower one has the earlier turn.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Place {
    round: u64,
    ticket: Ticket,
}

#[derive(Debug, Default)]
pub(super) struct Line {
    waiters: BTreeMap<Place, Waiter>,
    /// The rounds of those that are not in the first one.
    rounds: HashMap<Ticket, u64, RandomState>,
    /// The last round in which a share has a place, or had one.
    latest: HashMap<u64, u64, RandomState>,
}

/// How many shares may be remembered beyond two for each waiter.
const SHARES: usize = 16;

impl Line {
    pub(super) fn place(&self, ticket: Ticket) -> Place {
        let round = self.rounds.get(&ticket).copied().unwrap_or(0);
        Place { round, ticket }
    }

    /// Adds a waiter. Its ticket decides among those in its round.
    pub(super) fn insert(&mut self, ticket: Ticket, waiter: Waiter, fair_shares: bool) {
        let first = self.waiters.first_key_value();
        let first = first.map_or(0, |(place, _)| place.round);
        let round = if fair_shares {
            let share = waiter.requester.share;
            let next = self.latest.get(&share).map_or(0, |latest| latest + 1);
            let round = next.max(first);
            self.latest.insert(share, round);
            if self.latest.len() > 2 * self.waiters.len() + SHARES {
                self.latest.retain(|_, latest| *latest >= first);
            }
            round
        } else {
            first
        };
        if round > 0 {
            self.rounds.insert(ticket, round);
        }
        self.waiters.insert(Place { round, ticket }, waiter);
    }

    pub(super) fn front(&self) -> Option<(Ticket, &Waiter)> {
        let first = self.waiters.first_key_value();
        first.map(|(place, waiter)| (place.ticket, waiter))
    }

    pub(super) fn get(&self, ticket: Ticket) -> Option<&Waiter> {
        self.waiters.get(&self.place(ticket))
    }

    pub(super) fn get_mut(&mut self, ticket: Ticket) -> Option<&mut Waiter> {
        let place = self.place(ticket);
        self.waiters.get_mut(&place)
    }

    /// Takes out a waiter that gives up. Its share gets the turn back, if that was the last one.
    pub(super) fn remove(&mut self, ticket: Ticket) -> Option<Waiter> {
        let Place { round, .. } = self.place(ticket);
        let waiter = self.take(ticket)?;
        let share = waiter.requester.share;
        if self.latest.get(&share) == Some(&round) {
            match round.checked_sub(1) {
                Some(before) => self.latest.insert(share, before),
                None => self.latest.remove(&share),
            };
        }
        Some(waiter)
    }

    /// Takes out the waiter whose turn it is.
    pub(super) fn pop_front(&mut self) -> Option<(Ticket, Waiter)> {
        let (ticket, _) = self.front()?;
        Some((ticket, self.take(ticket)?))
    }

    fn take(&mut self, ticket: Ticket) -> Option<Waiter> {
        let waiter = self.waiters.remove(&self.place(ticket));
        self.rounds.remove(&ticket);
        if self.waiters.is_empty() {
            self.latest.clear();
        }
        waiter
    }

    /// All waiters, in the order of their turns.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Ticket, &Waiter)> {
        let all = self.waiters.iter();
        all.map(|(place, waiter)| (place.ticket, waiter))
    }

    /// Those whose turn is before that of `place`.
    pub(super) fn before(&self, place: Place) -> impl Iterator<Item = &Waiter> {
        self.waiters.range(..place).map(|(_, waiter)| waiter)
    }

    /// Whether all are in the first round.
    pub(super) fn is_by_arrival(&self) -> bool {
        self.rounds.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.waiters.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiters.is_empty()
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use std::task::Waker;

    use super::*;
    use crate::backend::Request;
    use crate::owner::{OwnerId, Requester};
    use crate::protocol::Protocol;
    use crate::types::Mode;

    fn waiter(share: u64) -> Waiter {
        Waiter {
            request: Request {
                mode: Mode::Exclusive,
                protocol: Protocol::Flock,
                stale_after: None,
                fencing: false,
            },
            requester: Requester {
                owner: OwnerId(share),
                handle: 0,
                share,
            },
            max_hold: None,
            wake: Waker::noop().clone(),
            tries: false,
            blocking: false,
            since: None,
        }
    }

    /// The line after waiters of these shares arrived, with tickets from 1 on.
    fn line(shares: &[u64], fair: bool) -> Line {
        let mut line = Line::default();
        for (ticket, share) in (1..).zip(shares) {
            line.insert(ticket, waiter(*share), fair);
        }
        line
    }

    fn tickets(line: &Line) -> Vec<Ticket> {
        line.iter().map(|(ticket, _)| ticket).collect()
    }

    #[test]
    fn turns_follow_arrival_unless_shares_are_fair() {
        let shares = [1, 1, 1, 2, 1, 2];
        assert_eq!(tickets(&line(&shares, false)), [1, 2, 3, 4, 5, 6]);
        assert_eq!(tickets(&line(&shares, true)), [1, 4, 2, 6, 3, 5]);
    }

    #[test]
    fn a_newcomer_does_not_displace_the_head() {
        let mut line = line(&[1, 1, 1], true);
        assert_eq!(line.pop_front().map(|(ticket, _)| ticket), Some(1));
        line.insert(4, waiter(2), true);
        assert_eq!(tickets(&line), [2, 4, 3]);
        // The share neither gains nor loses a turn by leaving and coming back.
        line.remove(4);
        line.insert(5, waiter(2), true);
        assert_eq!(tickets(&line), [2, 5, 3]);
        line.insert(6, waiter(2), true);
        line.remove(5);
        line.insert(7, waiter(2), true);
        assert_eq!(tickets(&line), [2, 3, 6, 7]);
    }

    #[test]
    fn one_that_came_first_and_is_added_late_goes_ahead() {
        let mut line = line(&[], true);
        line.insert(2, waiter(2), true);
        line.insert(1, waiter(1), true);
        assert_eq!(tickets(&line), [1, 2]);
    }

    #[test]
    fn an_empty_line_remembers_no_shares() {
        let mut line = line(&(0..100).collect::<Vec<_>>(), true);
        while line.pop_front().is_some() {}
        assert!(line.latest.is_empty() && line.rounds.is_empty());
    }
}
