//! Carries out what is [decided](super::decide).

use std::io;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::decide::{Action, Contends, HeldView, View, decide};
use super::state::{Contender, Head, PollTimer, State};
use super::{Event, Failure, LockQueue};

impl State {
    /// Whether this engine has held the lock for so long that a fairness pause is due.
    pub(super) fn is_due(&self, queue: &LockQueue) -> bool {
        let pause = queue.pause;
        pause.is_some_and(|pause| self.streak.is_due(pause, Instant::now()))
    }

    /// Until when newcomers are held back, if they are.
    pub(super) fn held_back(&self, queue: &LockQueue) -> Option<Instant> {
        let pause = queue.pause?;
        self.streak.held_back(pause, Instant::now())
    }

    /// Does whatever the state allows next. Fails if the lock could not be given back.
    pub(super) fn advance(&mut self, queue: &Arc<LockQueue>) -> io::Result<()> {
        let mut given_back = Ok(());
        loop {
            match decide(self.view(queue)) {
                Action::Rest => {
                    if self.held.is_none() && self.waiting.is_empty() {
                        // The file may only be removed under the lock, which this engine does not
                        // hold.
                        self.remove = None;
                    }
                    return given_back;
                }
                Action::Withdraw => {
                    if let Contender::Blocked { wait, by } = mem::take(&mut self.contender) {
                        self.canceled.push((wait, by));
                    }
                }
                Action::FailHead => self.fail(None, Failure::Replaced),
                Action::Send => self.send(queue),
                Action::Share => self.grant(queue),
                Action::HoldBack => {
                    if !self.yield_until(queue, self.held_back(queue)) {
                        self.grant(queue);
                    }
                }
                Action::HandOn if queue.remote && self.renew() => {}
                Action::HandOn => {
                    if let Some(held) = &mut self.held {
                        held.handed += 1;
                    }
                    self.grant(queue);
                }
                Action::GiveBack => given_back = given_back.and(self.give_back(queue)),
            }
        }
    }

    fn view(&mut self, queue: &LockQueue) -> View {
        let head = self.head();
        let contends = match &self.contender {
            Contender::None => Contends::Nothing,
            Contender::Yielding(_) => Contends::Pausing,
            contender if contender.serves(head) => Contends::ForHead,
            _ => Contends::InVain,
        };
        let (occupied, waits) = (!self.holds.is_empty(), head.is_some());
        // The pause comes after a grant. Otherwise there might be no grant at all.
        let granted = self.held.is_some_and(|held| held.handed > 0);
        let due = granted && waits && self.is_due(queue);
        let closed = due && occupied && self.held_back(queue).is_some();
        let doubtful = self.doubt.is_some() || !self.is_certain();
        let held = self.held.as_mut().map(|held| HeldView {
            request: held.request,
            releasing: held.releasing,
            occupied,
            over: waits && contends == Contends::Nothing && held.over(queue),
            due,
            closed,
            gone: held.gone || doubtful,
        });
        View {
            head: head.map(|head| head.request),
            held,
            contends,
            poisoned: queue.is_poisoned(),
        }
    }

    /// Lets a thread wait for the head of the queue: its own, or a helper on its behalf. Before that
    /// comes the fairness pause, if there is one; without a timer there is none.
    fn send(&mut self, queue: &Arc<LockQueue>) {
        let Some(head) = self.head() else {
            return;
        };
        let Head {
            ticket,
            request,
            blocking,
            tries,
        } = head;
        if tries {
            if !self.try_elsewhere(queue, head) {
                self.poll_later(queue);
            }
            return;
        }
        let pause = self.streak.pause();
        if self.yield_until(queue, pause) {
            return;
        }
        if blocking {
            self.contender = Contender::Elected(ticket);
            let waiter = self.waiting.get(ticket);
            self.wake.extend(waiter.map(|waiter| waiter.wake.clone()));
            return;
        }
        let waiter_pool = &queue.services.waiter_pool;
        if waiter_pool.has_room()
            && let Ok(wait) = self.lock_wait(queue, request)
        {
            let (done, waited) = (Arc::clone(queue), Arc::clone(&wait));
            let done = move |outcome| done.settle(&waited, outcome);
            if waiter_pool.run(Arc::clone(&wait), done) {
                self.contender = Contender::Blocked { wait, by: None };
                return;
            }
            self.spare = wait.take_back();
        }
        self.poll_later(queue);
    }

    /// Leaves the lock alone until then. Returns `false` if there is no such time, or no timer.
    fn yield_until(&mut self, queue: &Arc<LockQueue>, until: Option<Instant>) -> bool {
        let timer = until.and_then(|until| {
            let resume = queue.teller(Event::Resume);
            queue.services.timer.wake_at(until, resume).ok()
        });
        let yields = timer.is_some();
        if let Some(timer) = timer {
            self.contender = Contender::Yielding(timer);
        }
        yields
    }

    /// Sets the timer to try for the head of the queue, since no thread can wait for it.
    pub(super) fn poll_later(&mut self, queue: &Arc<LockQueue>) {
        if self.held.is_some() {
            self.contender = Contender::Polling(None);
            return;
        }
        let services = &queue.services;
        let at = services.next_poll(queue.is_slow());
        match services.timer.wake_at(at, queue.teller(Event::Poll)) {
            Ok(alarm) => {
                services.polled.fetch_add(1, Ordering::Relaxed);
                self.contender = Contender::Polling(Some(PollTimer {
                    _alarm: alarm,
                    polled: Arc::clone(services),
                }));
            }
            Err(e) => self.fail(None, Failure::Io(e)),
        }
    }
}
