//! What the timer and the watcher report to a queue.

use std::mem;
use std::sync::{Arc, Weak};
use std::task::{Wake, Waker};

use super::give_back::Finish;
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
    /// The entry of the existence lock changed, or what is known of the lock on its server.
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

    /// Deals with an event on the thread of the timer or the watcher, which all queues of the engine
    /// share. A helper does so if that takes calls that may take long.
    fn tell(self: &Arc<Self>, event: Event) {
        let calls = match event {
            Event::Poll | Event::Notice | Event::Doubt => self.is_slow(),
            Event::Resume | Event::WaitOver(_) | Event::HoldOver(_) => false,
        };
        if !calls {
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
            Event::Poll => state.poll(self),
            Event::Notice | Event::Doubt => {}
            Event::Resume => {
                if let Contender::Yielding(_) = state.contender {
                    state.contender = Contender::None;
                }
            }
            Event::WaitOver(ticket) => state.fail(Some(ticket), Failure::TimedOut),
            Event::HoldOver(ticket) => {
                if let Ok(index) = state.hold(ticket) {
                    let over = state.holds.remove(index).into_iter().collect();
                    state.lose(over, LostReason::Expired);
                    state.distrust();
                }
            }
        };
        match event {
            Event::Notice => self.check_loss(false),
            Event::Doubt => self.check_loss(true),
            Event::Poll if self.is_slow() => self.poll_slowly(),
            // This thread has others to serve.
            _ => _ = self.change_and(Finish::Elsewhere, change),
        }
    }
}
