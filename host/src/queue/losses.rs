//! Holds that are taken away: revoked, expired or broken; and those that learn of it.

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use super::give_back::Finish;
use super::state::{HeldLock, Hold, State, Waiter};
use super::{Event, Failure, LockQueue};
use crate::owner::{OwnerId, Requester, Ticket};
use crate::protocol::Protocol;
use crate::sync::{WakeList, lock};
use crate::timer::TimerEntry;
use crate::types::LostReason;
use crate::watch::Interest;

/// How long the entry may be another one before the lock counts as lost. A process that breaks a
/// lock by mistake puts it back within microseconds.
const LOSS_GRACE: Duration = Duration::from_millis(20);

/// Which losses a caller waits for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Losses {
    /// A loss after which the owner holds nothing on the file.
    OfOwner(OwnerId),
    /// That of one hold.
    OfHold(Ticket),
}

impl LockQueue {
    /// Cancels the waits that `concerns` selects. With a `reason`, also takes the selected holds
    /// away.
    pub(crate) fn revoke(
        self: &Arc<Self>,
        reason: Option<LostReason>,
        concerns: impl Fn(Ticket, Requester) -> bool,
    ) {
        self.change(|state| {
            let concerned = |(ticket, waiter): (Ticket, &Waiter)| {
                concerns(ticket, waiter.requester).then_some(ticket)
            };
            let waits: Vec<_> = state.waiting.iter().filter_map(concerned).collect();
            for ticket in waits {
                state.fail(Some(ticket), Failure::Canceled);
            }
            let Some(reason) = reason else {
                return;
            };
            let (taken, kept) = mem::take(&mut state.holds)
                .into_iter()
                .partition(|hold| concerns(hold.ticket, hold.requester));
            state.holds = kept;
            state.lose(taken, reason);
        });
    }

    /// The timer that ends a hold after `max_hold`.
    pub(super) fn expiry(
        self: &Arc<Self>,
        ticket: Ticket,
        max_hold: Option<Duration>,
    ) -> io::Result<Option<TimerEntry>> {
        let Some(at) = max_hold.and_then(|time| Instant::now().checked_add(time)) else {
            return Ok(None);
        };
        let over = self.teller(Event::HoldOver(ticket));
        self.services.timer.wake_at(at, over).map(Some)
    }

    /// Takes the lock away from its holder, in this engine or elsewhere. Returns `false` if it is
    /// free; with `require_owner`, also if the lock does not name its holder. Unsupported for a
    /// kernel lock that another process holds.
    pub(crate) fn break_lock(
        self: &Arc<Self>,
        protocol: Protocol,
        require_owner: bool,
    ) -> io::Result<bool> {
        let held: Vec<_> = self.state().holds.iter().map(|hold| hold.ticket).collect();
        if !held.is_empty() {
            let _ = self.change_and(Finish::Patiently, |state| {
                let (broken, kept): (VecDeque<_>, _) = mem::take(&mut state.holds)
                    .into_iter()
                    .partition(|hold| held.contains(&hold.ticket));
                state.holds = kept;
                state.lose_lock(broken, LostReason::Broken);
            });
            return Ok(true);
        }
        if self.is_releasing() {
            return Ok(false);
        }
        if !protocol.is_existence_lock() && !self.remote {
            let foreign = self.holder(OwnerId::PROCESS, protocol)?;
            return foreign.map_or(Ok(false), |_| Err(io::ErrorKind::Unsupported.into()));
        }
        // On an object of its own: this engine may acquire the lock meanwhile.
        let object = Arc::new(self.object().renewed()?);
        let broken = protocol.backend().break_lock(&object, require_owner);
        if object.has_created() {
            // It could be taken but not removed. Only this object knows the entry as one of ours.
            self.change(|state| {
                if state.held.is_none() {
                    state.spare = Some(mem::replace(&mut state.object, object));
                }
            });
        }
        broken
    }

    /// Watches for changes of the entry, unless it is watched. Returns whether this is new.
    pub(super) fn watch(self: &Arc<Self>, protocol: Protocol) -> bool {
        let mut watch = lock(&self.watch);
        if watch.is_some() {
            return false;
        }
        let object = self.object();
        let interest = Interest {
            entries: protocol.backend().watched(&object),
            waker: self.teller(Event::Notice),
        };
        // Descriptors may be missing for a moment only, so the next acquire asks again.
        *watch = self.services.watcher.watch(&object.file, interest).ok();
        true
    }

    /// Whether other processes see the lock of the hold `ticket` as held.
    pub(super) fn sees(&self, ticket: Ticket) -> bool {
        let state = self.state();
        let held = state.held.filter(|_| state.hold(ticket).is_ok());
        let Some(held) = held else { return true };
        let object = Arc::clone(&state.object);
        drop(state);
        held.request.protocol.backend().is_held(&object)
    }

    /// Checks, outside of the mutex, whether other processes see the lock that is held here. If they
    /// do not, an existence lock counts as lost only if they still do not after `LOSS_GRACE`, at the
    /// `last` check.
    pub(super) fn check_loss(self: &Arc<Self>, last: bool) {
        let state = self.state();
        let held = state.held.filter(|held| !held.releasing);
        let object = Arc::clone(&state.object);
        drop(state);
        let Some(held) = held else { return };
        let backend = held.request.protocol.backend();
        let seen = backend.is_held(&object);
        let last = last || self.remote;
        let needless = self.change(|state| {
            let same = |now: HeldLock| now.id == held.id && !now.releasing;
            if !state.held.is_some_and(same) {
                return None;
            }
            if !seen && last {
                let holds = mem::take(&mut state.holds);
                state.lose_lock(holds, backend.loss(&object));
                state.let_go();
            } else if !seen {
                // Later changes of the entry do not postpone it.
                if state.doubt.is_none() {
                    let again = self.teller(Event::Doubt);
                    let at = Instant::now() + LOSS_GRACE;
                    state.doubt = self.services.timer.wake_at(at, again).ok();
                }
                return None;
            }
            state.doubt.take()
        });
        drop(needless);
    }

    /// Forgets the lost holds of a handle, once no caller can ask for them.
    pub(crate) fn forget(&self, handle: u64) {
        self.state()
            .lost
            .retain(|(hold, _)| hold.requester.handle != handle);
    }

    /// Ready at a loss. `watcher` identifies the caller, which removes the waker with
    /// [`unwatch`](Self::unwatch).
    pub(crate) fn poll_lost(&self, which: Losses, watcher: u64, waker: &Waker) -> Poll<LostReason> {
        let mut state = self.state();
        let lost = match which {
            Losses::OfOwner(owner) => state.standing(owner).err(),
            Losses::OfHold(ticket) => state.loss(ticket),
        };
        if let Some(reason) = lost {
            return Poll::Ready(reason);
        }
        let old = state.loss_watchers.insert(watcher, waker.clone());
        drop(state);
        drop(old);
        Poll::Pending
    }

    /// Wakes the callers that wait for a loss, because the path leads to another file now.
    pub(crate) fn wake_loss_watchers(&self) {
        let watchers = mem::take(&mut self.state().loss_watchers);
        WakeList(watchers.into_values().collect()).wake();
    }

    pub(crate) fn unwatch(&self, watcher: u64) {
        let old = self.state().loss_watchers.remove(&watcher);
        drop(old);
    }
}

impl State {
    /// The entry of an existence lock has not been looked at, so the lock is not handed on. A lock on
    /// a server proves itself when it is.
    pub(super) fn distrust(&mut self) {
        if let Some(held) = &mut self.held {
            held.gone |= self.object.as_marker().is_some();
        }
    }

    /// Why the hold `ticket` was lost, if it was.
    pub(super) fn loss(&self, ticket: Ticket) -> Option<LostReason> {
        let mut lost = self.lost.iter();
        let found = lost.find(|(hold, _)| hold.ticket == ticket);
        found.map(|(_, reason)| *reason)
    }

    /// Records that holds were lost.
    pub(super) fn lose(&mut self, holds: VecDeque<Hold>, reason: LostReason) {
        if holds.is_empty() {
            return;
        }
        self.totals.lost += holds.len() as u64;
        self.lost
            .extend(holds.into_iter().map(|hold| (hold, reason)));
        let watchers = mem::take(&mut self.loss_watchers);
        self.wake.extend(watchers.into_values());
    }

    /// Records that holds went with the lock. A waiter that has not learned of its grant waits again.
    pub(super) fn lose_lock(&mut self, holds: VecDeque<Hold>, reason: LostReason) {
        let (lost, untold): (VecDeque<_>, VecDeque<_>) =
            holds.into_iter().partition(|hold| hold.told);
        let untold = untold.iter().map(|hold| (hold.ticket, Failure::Broken));
        self.failed.extend(untold);
        self.lose(lost, reason);
    }
}
