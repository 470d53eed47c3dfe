//! Decides what happens next, and does it.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::state::{Contender, Head, PollTimer, State};
use super::{Event, Failure, LockQueue};

/// How often an acquire rechecks an existence lock. If the system reports changes, this is rare,
/// and only finds dead holders and what other hosts did. Each interval is stretched at random by up
/// to half, so that waiters do not try at the same moment. The second interval is for when changes
/// are not reported, or another program has the directory locked.
const RECHECK_INTERVAL: Duration = Duration::from_millis(200);
const RECHECK_INTERVAL_UNWATCHED: Duration = Duration::from_millis(40);

impl State {
    /// Whether this engine has held the lock for so long that a fairness pause is due.
    pub(super) fn is_due(&self, queue: &LockQueue) -> bool {
        let pause = queue.services.pause;
        pause.is_some_and(|pause| self.streak.is_due(pause, Instant::now()))
    }

    /// Does whatever the state allows next. Fails if the lock could not be given back.
    pub(super) fn advance(&mut self, queue: &Arc<LockQueue>) -> io::Result<()> {
        let mut given_back = Ok(());
        loop {
            let head = self.head();
            // A pause comes before the next wait and after a grant. Otherwise there might be no
            // grant at all.
            let granted = self.held.is_some_and(|held| held.handed > 0);
            let is_due = granted && head.is_some() && self.is_due(queue);
            if (is_due || !self.contender.serves(head))
                && let Contender::Blocked { wait, by } = mem::take(&mut self.contender)
            {
                self.canceled.push((wait, by));
            }
            if self.held.is_some_and(|held| held.is_releasing()) {
                return given_back;
            }
            let contender = !matches!(self.contender, Contender::None);
            // The waiter that is granted the lock of a replaced file finds that out by itself.
            let handed = self.holds.is_empty() && head.is_some();
            let gone = handed && self.object.as_marker().is_some() && !self.is_held();
            match (&mut self.held, head) {
                (None, None) => {
                    // The file may only be removed under the lock, which this engine does not hold.
                    self.remove = None;
                    return given_back;
                }
                (None, Some(_)) if queue.is_poisoned() => self.fail(None, Failure::Replaced),
                (None, Some(_)) if contender => return given_back,
                (None, Some(head)) => self.send(queue, head),
                (Some(_), None) if !self.holds.is_empty() => return given_back,
                (Some(held), Some(head)) if !self.holds.is_empty() => {
                    if held.joins(head.request) && !is_due {
                        self.grant(queue);
                    } else if !(contender || is_due)
                        && held.request.excludes(head.request)
                        && (!held.fits(head.request) || held.over(&queue.services))
                    {
                        self.send(queue, head);
                    } else {
                        return given_back;
                    }
                }
                (Some(held), Some(head))
                    if !(contender || is_due || gone) && held.fits(head.request) =>
                {
                    held.handed += 1;
                    self.grant(queue);
                }
                (Some(_), _) => given_back = given_back.and(self.give_back(queue)),
            }
        }
    }

    /// Sends the head of the queue into the kernel, or a helper on its behalf.
    /// During a fairness pause, sends nobody. Without a timer, there is no pause.
    pub(super) fn send(&mut self, queue: &Arc<LockQueue>, head: Head) {
        if let Some(until) = self.streak.pause()
            && let Ok(timer) = queue
                .services
                .timer
                .wake_at(until, queue.teller(Event::Resume))
        {
            self.contender = Contender::Yielding(timer);
            return;
        }
        if head.request.protocol.is_existence_lock() {
            return self.poll_later(queue);
        }
        if head.blocking {
            self.contender = Contender::Elected(head.ticket);
            let waiter = self.waiting.get(&head.ticket);
            self.wake.extend(waiter.map(|waiter| waiter.wake.clone()));
            return;
        }
        let waiter_pool = &queue.services.waiter_pool;
        if waiter_pool.has_room()
            && let Ok(wait) = self.kernel_wait(queue, head.request)
        {
            let (done, waited) = (Arc::clone(queue), Arc::clone(&wait));
            let done = move |outcome| done.settle(&waited, outcome);
            if waiter_pool.run(Arc::clone(&wait), done) {
                self.contender = Contender::Blocked { wait, by: None };
                return;
            }
            self.spare = Some(Arc::clone(&wait.object));
        }
        self.poll_later(queue);
    }

    /// Sets the timer to try for the head of the queue, since no thread can wait for it.
    pub(super) fn poll_later(&mut self, queue: &Arc<LockQueue>) {
        if self.held.is_some() {
            self.contender = Contender::Polling(None);
            return;
        }
        self.watch_holder(queue);
        let services = &queue.services;
        let (at, polled) = match &self.watch {
            Some(Ok(_)) if !self.out_of_reach => (later(RECHECK_INTERVAL), None),
            Some(_) => (later(RECHECK_INTERVAL_UNWATCHED), None),
            None => (services.next_poll(), Some(Arc::clone(services))),
        };
        match services.timer.wake_at(at, queue.teller(Event::Poll)) {
            Ok(alarm) => {
                if polled.is_some() {
                    services.polled.fetch_add(1, Ordering::Relaxed);
                }
                self.contender = Contender::Polling(Some(PollTimer {
                    _alarm: alarm,
                    polled,
                }));
            }
            Err(e) => self.fail(None, Failure::Io(e)),
        }
    }
}

/// A random moment from `pause` to one and a half times `pause` from now.
fn later(pause: Duration) -> Instant {
    let part = RandomState::new().hash_one(()) % 512;
    Instant::now() + pause + pause * u32::try_from(part).unwrap_or(0) / 1024
}
