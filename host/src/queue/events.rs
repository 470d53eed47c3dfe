//! What the timer and the watcher report to a queue.

use std::mem;
use std::sync::{Arc, Weak};
use std::task::{Wake, Waker};

use super::state::{Contender, State};
use super::{Failure, LockQueue};
use crate::owner::Ticket;
use crate::sync::lock;
use crate::types::LostReason;

/// What the timer or the watcher reports to a queue.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Event {
    /// It is time for another try.
    Poll,
    /// The entry of the existence lock changed.
    Notice,
    /// The entry has been another one for `LOSS_GRACE`.
    Doubt,
    /// The fairness pause is over.
    Resume,
    /// A wait has reached its deadline.
    WaitOver(Ticket),
    /// A hold has reached its deadline.
    HoldOver(Ticket),
}

/// Tells a queue of an event, if the queue still exists.
struct Teller {
    queue: Weak<LockQueue>,
    event: Event,
}

impl Wake for Teller {
    fn wake(self: Arc<Self>) {
        if let Some(queue) = self.queue.upgrade() {
            queue.tell(self.event);
        }
    }
}

/// Events that a queue has not dealt with yet.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    events: Vec<Event>,
    /// Whether a thread is dealing with them.
    attended: bool,
}

impl LockQueue {
    /// A waker that tells this queue of an event, if the queue still exists.
    pub(crate) fn teller(self: &Arc<Self>, event: Event) -> Waker {
        let queue = Arc::downgrade(self);
        Waker::from(Arc::new(Teller { queue, event }))
    }

    /// Deals with an event: on the thread of the timer or the watcher if that is quick, otherwise
    /// on a helper. All queues of the engine share those two threads, and waiting for this queue's
    /// mutex while a try reads a large directory would hold them up.
    fn tell(self: &Arc<Self>, event: Event) {
        if !self.slow {
            return self.attend(event);
        }
        let mut inbox = lock(&self.inbox);
        if !inbox.events.contains(&event) {
            inbox.events.push(event);
        }
        if mem::replace(&mut inbox.attended, true) {
            return;
        }
        drop(inbox);
        let queue = Arc::clone(self);
        if !self
            .services
            .waiter_pool
            .run_task(move || queue.attend_all())
        {
            self.attend_all();
        }
    }

    fn attend_all(self: &Arc<Self>) {
        loop {
            let mut inbox = lock(&self.inbox);
            let events = mem::take(&mut inbox.events);
            inbox.attended = !events.is_empty();
            drop(inbox);
            if events.is_empty() {
                return;
            }
            events.into_iter().for_each(|event| self.attend(event));
        }
    }

    fn attend(self: &Arc<Self>, event: Event) {
        let change = |state: &mut State| match event {
            Event::Poll => {
                if let Contender::Polling(_) = state.contender {
                    state.try_for_head(self);
                }
                None
            }
            Event::Notice => state.notice(self),
            Event::Doubt => {
                let held = state.held.is_some_and(|held| !held.is_releasing());
                if held && !state.is_held() {
                    let holds = mem::take(&mut state.holds);
                    state.lose_broken(holds);
                    state.let_go();
                }
                state.doubt.take()
            }
            Event::Resume => {
                if let Contender::Yielding(_) = state.contender {
                    state.contender = Contender::None;
                    // Changes of the entry during the pause are not reported again.
                    if self.slow {
                        state.try_for_head(self);
                    }
                }
                None
            }
            Event::WaitOver(ticket) => {
                state.fail(Some(ticket), Failure::TimedOut);
                None
            }
            Event::HoldOver(ticket) => {
                if let Ok(index) = state.hold(ticket) {
                    let over = state.holds.remove(index).into_iter().collect();
                    state.lose(over, LostReason::Expired);
                }
                None
            }
        };
        // A queue whose calls may take long is attended on a helper already.
        let doubt = if self.slow {
            self.change_and_finish(change).0
        } else {
            self.change(change)
        };
        drop(doubt);
    }
}
