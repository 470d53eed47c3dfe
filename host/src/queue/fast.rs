//! The short way through the queue, for an uncontended lock.
//!
//! It is the way of nearly all acquires and releases, so it leaves out what only others need: a
//! decision what happens next, a list of wakers, a clock. What it finds in its way sends the caller
//! to [`enter`](LockQueue::enter) or to the rest of [`release`](LockQueue::release), and nothing
//! has changed by then. It is there for kernel locks alone, on file systems that answer at once,
//! since it makes its calls under the mutex.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use super::state::{Contender, Hold, State};
use super::{Enqueued, Failure, LockQueue};
use crate::backend::Request;
use crate::owner::{Requester, Ticket};

impl LockQueue {
    /// Takes the lock if it is free, and otherwise fails if the caller does not `wait`. `None` if
    /// the caller has to enter the queue.
    #[inline]
    pub(crate) fn try_now(
        self: &Arc<Self>,
        request: Request,
        requester: Requester,
        wait: bool,
    ) -> Option<Enqueued> {
        let mut state = self.state();
        if self.is_slow() || request.fencing {
            return None;
        }
        match state.try_take(self, request, wait) {
            Ok(true) => {
                let ticket = state.ticket();
                state.add(Hold {
                    ticket,
                    requester,
                    mode: request.mode,
                    token: None,
                    blocking: true,
                    told: true,
                    expiry: None,
                    since: requester.is_guest().then(Instant::now),
                });
                debug_assert_eq!(state.broken_invariant(), None, "{state:?}");
                Some(Enqueued::Granted(ticket))
            }
            Ok(false) if wait => None,
            Ok(false) => Some(Enqueued::Failed(Failure::WouldBlock)),
            Err(failure) => Some(Enqueued::Failed(failure)),
        }
    }

    /// Gives the lock back if `ticket` is its only hold and no caller waits for anything here. `None`
    /// if the rest of a release is needed.
    #[inline]
    pub(super) fn release_now(self: &Arc<Self>, ticket: Ticket) -> Option<io::Result<()>> {
        let mut state = self.state();
        if self.is_slow() || !state.is_left_alone_by(ticket) {
            return None;
        }
        let hold = state.holds.pop_front();
        let given_back = state.give_back(self);
        debug_assert!(state.releases.is_empty(), "it was given back at once");
        debug_assert_eq!(state.broken_invariant(), None, "{state:?}");
        drop(state);
        // Not under the mutex: its timer has one of its own.
        drop(hold);
        Some(given_back)
    }
}

impl State {
    /// Whether nothing is left to do here after the hold `ticket` but to give the lock back: no
    /// waiter, no other hold, no loss to tell, no file to remove.
    fn is_left_alone_by(&self, ticket: Ticket) -> bool {
        self.waiting.is_empty()
            && matches!(self.contender, Contender::None)
            && self.holds.len() == 1
            && self.holds[0].ticket == ticket
            && self.lost.is_empty()
            && self.remove.is_none()
    }
}
