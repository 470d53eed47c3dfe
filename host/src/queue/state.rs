//! The state of a queue, all of it behind one mutex.
//!
//! How a wait or a hold can end, in the words that the code uses:
//! - **cancel**: a wait, on request; it fails with `canceled`;
//! - **abandon**: a wait, because its waiter is dropped;
//! - **interrupt**: a thread that is blocked in the kernel is woken;
//! - **revoke**: a hold in this engine is taken away;
//! - **break**: the lock is taken away from any holder, also in another process;
//! - **take over**: the lock of a holder that is proven dead is acquired.
//!
//! What holds between changes is in [`invariants`](super::invariants).

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;

use super::give_back::Release;
use super::line::Line;
use super::{Failure, LockQueue};
use crate::backend::Request;
use crate::fairness;
use crate::lock_path::LockPath;
use crate::object::LockObject;
use crate::owner::{OwnerId, Requester, Ticket};
use crate::services::Services;
use crate::timer::TimerEntry;
use crate::types::{LostReason, Mode, Totals};
use crate::waiter::LockWait;

#[derive(Debug)]
pub(super) struct State {
    pub(super) next: Ticket,
    pub(super) waiting: Line,
    /// Ordered by ticket.
    pub(super) holds: VecDeque<Hold>,
    /// Waits that ended without a grant, and whose waiters have not been told yet.
    pub(super) failed: HashMap<Ticket, Failure, RandomState>,
    /// Holds that were taken away and have not been released yet.
    pub(super) lost: Vec<(Hold, LostReason)>,
    /// Woken when something is lost.
    pub(super) loss_watchers: BTreeMap<u64, Waker>,
    /// To be carried out as soon as the mutex is released.
    pub(super) releases: Vec<Release>,
    /// To be woken as soon as the mutex is released.
    pub(super) wake: Vec<Waker>,
    /// Waits to be interrupted as soon as the mutex is released, each with the blocking caller whose
    /// it is, if it is one's. The queue has forgotten them.
    pub(super) canceled: Vec<(Arc<LockWait>, Option<Ticket>)>,
    /// The open file description that holds the lock, and that tries for it. No wait uses it.
    pub(super) object: Arc<LockObject>,
    /// Another description, for the next wait.
    pub(super) spare: Option<Arc<LockObject>>,
    /// The lock that `object` holds.
    pub(super) held: Option<HeldLock>,
    /// Checks once more whether the lock is lost.
    pub(super) doubt: Option<TimerEntry>,
    pub(super) contender: Contender,
    pub(super) streak: fairness::Streak,
    /// The lock file to remove when the lock is free.
    pub(super) remove: Option<Arc<LockPath>>,
    pub(super) totals: Totals,
}

#[derive(Clone, Debug)]
pub(super) struct Waiter {
    pub(super) request: Request,
    pub(super) requester: Requester,
    pub(super) max_hold: Option<Duration>,
    pub(super) wake: Waker,
    /// Waits on its own thread when it becomes the head.
    pub(super) blocking: bool,
    /// A helper makes one try for it, and it does not wait beyond that.
    pub(super) tries: bool,
    /// Since when it is in the line.
    pub(super) since: Option<Instant>,
}

#[derive(Debug)]
pub(super) struct Hold {
    pub(super) ticket: Ticket,
    pub(super) requester: Requester,
    pub(super) mode: Mode,
    /// Its fencing token, if it has one.
    pub(super) token: Option<u64>,
    /// Whether a thread acquired it that may block, and not a task.
    pub(super) blocking: bool,
    /// Whether the waiter has learned of its grant. Until then, only the waiter can release it.
    pub(super) told: bool,
    /// Revokes the hold. Counts from the grant, so that a hold whose waiter never looks expires
    /// too.
    pub(super) expiry: Option<TimerEntry>,
    /// Since when, if that is known.
    pub(super) since: Option<Instant>,
}

impl Waiter {
    pub(super) fn hold(
        &self,
        ticket: Ticket,
        token: Option<u64>,
        told: bool,
        expiry: Option<TimerEntry>,
    ) -> Hold {
        let noted = self.since.is_some() || self.requester.is_guest();
        Hold {
            ticket,
            requester: self.requester,
            mode: self.request.mode,
            token,
            blocking: self.blocking,
            told,
            expiry,
            since: noted.then(Instant::now),
        }
    }
}

/// The lock that this engine has: held, or about to be handed on.
#[derive(Clone, Copy, Debug)]
pub(super) struct HeldLock {
    pub(super) request: Request,
    /// Identifies it; comes from the tickets.
    pub(super) id: Ticket,
    /// How many grants this engine made of it.
    pub(super) handed: u32,
    /// When this engine first saw one of its own waiters wait for it.
    pub(super) contended: Option<Instant>,
    /// A release is giving it back, or its server is asked to confirm it. Until that is over, it
    /// counts as held.
    pub(super) releasing: bool,
    /// Whether its server has granted or confirmed it, with a new token, since the last grant here.
    pub(super) renewed: bool,
    /// Other processes may see it as lost, so it is not handed on.
    pub(super) gone: bool,
}

impl HeldLock {
    pub(super) fn new(request: Request, id: Ticket) -> Self {
        Self {
            request,
            id,
            handed: 0,
            contended: None,
            releasing: false,
            renewed: true,
            gone: false,
        }
    }

    /// Whether `request` is compatible with the current holders.
    pub(super) fn joins(&self, request: Request) -> bool {
        self.request.is_shared_with(request) && !self.releasing
    }

    /// Whether the bound on hand-offs is reached. Call this only if a waiter is queued.
    pub(super) fn over(&mut self, queue: &LockQueue) -> bool {
        // The first grant is the kernel's.
        if self.handed > queue.services.hand_off_limit {
            return true;
        }
        let now = Instant::now();
        // At the first look it is not, even if the bound is zero: a lock that nothing uses would go back.
        now - *self.contended.get_or_insert(now) > queue.hand_off_time
    }
}

/// What contends for the lock on behalf of the head of the queue.
#[derive(Debug, Default)]
pub(super) enum Contender {
    #[default]
    None,
    /// A blocking caller was told to wait on its own thread, and is about to.
    Elected(Ticket),
    /// A thread waits: that of the blocking caller `by`, otherwise a helper.
    Blocked {
        wait: Arc<LockWait>,
        by: Option<Ticket>,
    },
    /// A thread makes a try outside of the mutex, for itself or for the head of the queue.
    Trying,
    /// No thread can wait; the timer makes a try. `None` while the lock is held here and there is
    /// nothing to try.
    Polling(Option<PollTimer>),
    /// The fairness pause: the lock is left alone for a moment.
    Yielding(#[expect(dead_code, reason = "dropping it ends the pause")] TimerEntry),
}

impl Contender {
    /// Whether it still serves `head`, the head of the queue.
    pub(super) fn serves(&self, head: Option<Head>) -> bool {
        match self {
            Self::None | Self::Trying | Self::Yielding(_) => true,
            Self::Elected(ticket) => head.is_some_and(|head| head.ticket == *ticket),
            Self::Blocked { wait, by } => head.is_some_and(|head| match *by {
                Some(by) => by == head.ticket,
                None => wait.request == head.request,
            }),
            Self::Polling(_) => head.is_some(),
        }
    }
}

/// A try that the timer will make.
#[derive(Debug)]
pub(super) struct PollTimer {
    pub(super) _alarm: TimerEntry,
    /// Their counter includes it.
    pub(super) polled: Arc<Services>,
}

impl Drop for PollTimer {
    fn drop(&mut self) {
        self.polled.polled.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The head of the queue.
#[derive(Clone, Copy)]
pub(super) struct Head {
    pub(super) ticket: Ticket,
    pub(super) request: Request,
    pub(super) blocking: bool,
    pub(super) tries: bool,
}

impl State {
    #[inline]
    pub(super) fn new(object: LockObject) -> Self {
        Self {
            next: 0,
            waiting: Line::default(),
            holds: VecDeque::new(),
            failed: HashMap::default(),
            lost: Vec::new(),
            loss_watchers: BTreeMap::new(),
            releases: Vec::new(),
            wake: Vec::new(),
            canceled: Vec::new(),
            object: Arc::new(object),
            spare: None,
            held: None,
            doubt: None,
            contender: Contender::None,
            streak: fairness::Streak::default(),
            remove: None,
            totals: Totals::default(),
        }
    }

    pub(super) fn ticket(&mut self) -> Ticket {
        self.next += 1;
        self.next
    }

    pub(super) fn hold(&self, ticket: Ticket) -> Result<usize, usize> {
        self.holds.binary_search_by_key(&ticket, |hold| hold.ticket)
    }

    /// Adds a hold. Nearly always it is the latest.
    pub(super) fn add(&mut self, hold: Hold) {
        self.totals.granted += 1;
        match self.hold(hold.ticket) {
            Err(index) if index < self.holds.len() => self.holds.insert(index, hold),
            _ => self.holds.push_back(hold),
        }
    }

    pub(super) fn standing(&self, owner: OwnerId) -> Result<bool, LostReason> {
        let mine = |hold: &&Hold| hold.requester.owner == owner;
        let held = self.holds.iter().filter(mine).map(|hold| hold.told).max();
        let lost = self.lost.iter().find(|(hold, _)| mine(&hold));
        match (held, lost) {
            // A hold of which the owner has not learned does not hide a loss.
            (Some(false) | None, Some((_, reason))) => Err(*reason),
            (held, _) => Ok(held.is_some()),
        }
    }

    pub(super) fn head(&self) -> Option<Head> {
        self.waiting.front().map(|(ticket, waiter)| Head {
            ticket,
            request: waiter.request,
            blocking: waiter.blocking,
            tries: waiter.tries,
        })
    }

    /// Adds a waiter to the line.
    pub(super) fn wait(&mut self, queue: &LockQueue, ticket: Ticket, mut waiter: Waiter) {
        let fair = queue.services.fair_shares;
        waiter.since = Some(Instant::now());
        if waiter.tries {
            // The pause of a waiter that has given up since is none of its own.
            self.contender = Contender::None;
        }
        self.waiting.insert(ticket, waiter, fair);
    }

    /// Takes a waiter that gives up out of the line.
    pub(super) fn leave(&mut self, ticket: Ticket) -> Option<Waiter> {
        let waiter = self.waiting.remove(ticket)?;
        self.totals.given_up += u64::from(!waiter.tries);
        Some(waiter)
    }

    /// Moves the head of the queue to the holders.
    pub(super) fn grant(&mut self, queue: &Arc<LockQueue>) {
        if let Some((ticket, waiter)) = self.waiting.pop_front() {
            let expiry = queue.expiry(ticket, waiter.max_hold);
            let token = self.token(waiter.request);
            match expiry.and_then(|expiry| Ok((expiry, token?))) {
                Ok((expiry, token)) => {
                    let hold = waiter.hold(ticket, token, false, expiry);
                    self.totals.granted_after_wait += u64::from(!waiter.tries);
                    if let (Some(from), Some(to), false) = (waiter.since, hold.since, waiter.tries)
                    {
                        self.totals.waited += to.saturating_duration_since(from);
                    }
                    self.add(hold);
                }
                Err(e) => drop(self.failed.insert(ticket, Failure::Io(e))),
            }
            self.wake.push(waiter.wake);
        }
    }

    /// Ends the wait of `ticket`, or of the head of the queue if there is none.
    pub(super) fn fail(&mut self, ticket: Option<Ticket>, failure: Failure) {
        let ticket = ticket.or(self.head().map(|head| head.ticket));
        if let Some(ticket) = ticket
            && let Some(waiter) = self.leave(ticket)
        {
            self.failed.insert(ticket, failure);
            self.wake.push(waiter.wake);
        }
    }
}
