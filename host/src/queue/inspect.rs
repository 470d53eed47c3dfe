//! What others ask of a queue: its holders, its waiters, and the owners that a wait depends on.
//! Nothing here changes who holds or awaits the lock.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::state::Contender;
use super::{LockQueue, Place};
use crate::backend::Request;
use crate::owner::{OwnerId, Requester, Ticket};
use crate::protocol::Protocol;
use crate::range::Span;
#[cfg(feature = "remote")]
use crate::remote::Standing;
use crate::sys;
use crate::timer::TimerEntry;
use crate::types::{ForeignHolder, Mode, State, Totals};

/// A holder of the lock: an owner of this engine, or `None` for a foreign process.
#[derive(Clone, Debug)]
pub(crate) struct Holder {
    pub(crate) owner: Option<OwnerId>,
    pub(crate) found: ForeignHolder,
}

/// What a queue looks like at one moment.
#[derive(Debug)]
pub(crate) struct QueueView {
    pub(crate) protocol: Option<Protocol>,
    pub(crate) awaited_elsewhere: bool,
    pub(crate) holders: Vec<Party>,
    pub(crate) waiters: Vec<Party>,
    pub(crate) totals: Totals,
}

/// A holder or waiter.
#[derive(Debug)]
pub(crate) struct Party {
    pub(crate) requester: Requester,
    pub(crate) mode: Mode,
    pub(crate) since: Option<Duration>,
}

impl LockQueue {
    pub(crate) fn view(&self) -> QueueView {
        let now = Instant::now();
        let elapsed =
            |since: Option<Instant>| since.map(|since| now.saturating_duration_since(since));
        let state = self.state();
        let holders = state.holds.iter().map(|hold| Party {
            requester: hold.requester,
            mode: hold.mode,
            since: elapsed(hold.since),
        });
        let waiters = state.waiting.iter().map(|(_, waiter)| Party {
            requester: waiter.requester,
            mode: waiter.request.mode,
            since: elapsed(waiter.since),
        });
        QueueView {
            protocol: state.held.map(|held| held.request.protocol),
            awaited_elsewhere: state.held.is_none()
                && matches!(
                    state.contender,
                    Contender::Blocked { .. } | Contender::Polling(_)
                ),
            holders: holders.collect(),
            waiters: waiters.collect(),
            totals: state.totals,
        }
    }

    /// The hold that a release by `requester` ends: preferably of its handle, otherwise of its
    /// owner.
    pub(crate) fn find(&self, requester: Requester) -> Option<Ticket> {
        let state = self.state();
        let held = state
            .holds
            .iter()
            .chain(state.lost.iter().map(|(hold, _)| hold));
        held.filter(|hold| hold.requester.owner == requester.owner && hold.told)
            .max_by_key(|hold| (hold.requester.handle == requester.handle, hold.ticket))
            .map(|hold| hold.ticket)
    }

    /// Whether the hold `ticket` is neither released nor lost, and its server, if it has one, has
    /// said so lately.
    pub(crate) fn holds(&self, ticket: Ticket) -> bool {
        let state = self.state();
        state.hold(ticket).is_ok() && state.certainty() == State::Held
    }

    /// Whether `owner` holds the lock, or why it lost it.
    pub(crate) fn standing(&self, owner: OwnerId) -> State {
        let state = self.state();
        match state.standing(owner) {
            Ok(true) => state.certainty(),
            Ok(false) => State::Unlocked,
            Err(reason) => State::Lost(reason),
        }
    }

    /// When the hold `ticket` expires, if it does: by its limit, or with what its server granted
    /// until then.
    pub(crate) fn expires(&self, ticket: Ticket) -> Option<Instant> {
        let state = self.state();
        let index = state.hold(ticket).ok()?;
        let expiry = state.holds[index].expiry.as_ref().map(TimerEntry::at);
        #[cfg(feature = "remote")]
        let expiry = expiry.into_iter().chain(state.lease_end()).min();
        expiry
    }

    /// The fencing token of the hold `ticket`, even if it has been lost since.
    pub(crate) fn token(&self, ticket: Ticket) -> Option<u64> {
        let state = self.state();
        let lost = state.lost.iter().map(|(hold, _)| hold);
        let mut holds = state.holds.iter().chain(lost);
        holds.find(|hold| hold.ticket == ticket)?.token
    }

    /// A holder of the lock, in this engine or elsewhere; preferably `asking`.
    pub(crate) fn holder(
        self: &Arc<Self>,
        asking: OwnerId,
        protocol: Protocol,
    ) -> io::Result<Option<Holder>> {
        let mut state = self.state();
        if let Some(hold) = state
            .holds
            .iter()
            .max_by_key(|hold| hold.requester.owner == asking)
        {
            let found = ForeignHolder {
                pid: Some(std::process::id()),
                ..ForeignHolder::new(hold.mode)
            };
            let owner = Some(hold.requester.owner);
            return Ok(Some(Holder { owner, found }));
        }
        if let Some(held) = state.held.filter(|held| held.releasing) {
            let found = ForeignHolder {
                pid: Some(std::process::id()),
                ..ForeignHolder::new(held.request.mode)
            };
            return Ok(Some(Holder { owner: None, found }));
        }
        let backend = protocol.backend();
        let contends = !matches!(state.contender, Contender::None | Contender::Yielding(_));
        let object = Arc::clone(&state.object);
        let found = if self.existence || self.remote {
            // It can be inspected without a try.
            drop(state);
            backend.holder(&object)?
        } else if contends {
            // A thread contends for the lock, so it is held. A try to find the holder would get in
            // that thread's way.
            drop(state);
            let record = sys::holder(&object.file).ok().flatten();
            let (mode, pid) = record.unwrap_or((Mode::Exclusive, None));
            Some(ForeignHolder {
                pid,
                ..ForeignHolder::new(mode)
            })
        } else if self.local {
            backend.holder(&object)?
        } else {
            state.contender = Contender::Trying;
            drop(state);
            let found = backend.holder(&object);
            self.change(|state| state.contender = Contender::None);
            found?
        };
        Ok(found.map(|found| Holder { owner: None, found }))
    }

    /// Whether this engine is giving the lock back at this moment.
    pub(crate) fn is_releasing(&self) -> bool {
        self.state().held.is_some_and(|held| held.releasing)
    }

    /// Whether nothing is held, awaited, tried or given back here.
    #[cfg(all(test, feature = "remote"))]
    pub(crate) fn is_at_rest(&self) -> bool {
        self.state().is_left_alone()
    }

    /// The place of a waiter, if it still waits.
    pub(crate) fn place(&self, ticket: Ticket) -> Option<Place> {
        let state = self.state();
        let waits = state.waiting.get(ticket).is_some();
        waits.then(|| state.waiting.place(ticket))
    }

    /// The owners that the wait of `ticket` depends on; `None` if it does not wait any more.
    pub(crate) fn blockers(&self, ticket: Ticket) -> Option<Vec<OwnerId>> {
        let state = self.state();
        let request = state.waiting.get(ticket)?.request;
        let place = state.waiting.place(ticket);
        let ahead = || state.waiting.before(place);
        let alike = |other: Request| other == request && request.mode == Mode::Shared;
        let joins = state.held.is_none_or(|held| held.joins(request));
        if joins && request.mode == Mode::Shared && ahead().all(|waiter| alike(waiter.request)) {
            return Some(Vec::new());
        }
        let holders = state.holds.iter().map(|hold| hold.requester.owner);
        let ahead = ahead().map(|waiter| waiter.requester.owner);
        let blockers: Vec<_> = holders.chain(ahead).collect();
        // Not under the mutex: it may close a file.
        drop(state);
        let blockers = [blockers, self.range_holders(request)].concat();
        Some(blockers)
    }

    /// The owners in this engine that hold ranges of the file which exclude `request`.
    fn range_holders(&self, request: Request) -> Vec<OwnerId> {
        if self.existence || !request.protocol.covers(Protocol::Fcntl) {
            return Vec::new();
        }
        let ranged = self.services.ranged.find(&(self.identity, None));
        let whole = Span::reported(0, 0);
        ranged.map_or_else(Vec::new, |ranged| ranged.holders(whole, request.mode))
    }

    /// The owners in this engine that hold the file in a way that excludes record locks in `mode`.
    pub(crate) fn record_lock_holders(&self, mode: Mode) -> Vec<OwnerId> {
        let state = self.state();
        let excludes = state.held.is_some_and(|held| {
            let exclusive = mode == Mode::Exclusive || held.request.mode == Mode::Exclusive;
            exclusive && held.request.protocol.covers(Protocol::Fcntl)
        });
        let holds = state.holds.iter().filter(|_| excludes);
        holds.map(|hold| hold.requester.owner).collect()
    }

    /// The numbers of holders and of waiters in this engine.
    pub(crate) fn len(&self) -> (usize, usize) {
        let state = self.state();
        (state.holds.len(), state.waiting.len())
    }

    /// Whether this system alone decides when a call for the lock returns.
    #[cfg(feature = "sandbox")]
    pub(crate) fn answers_at_once(&self) -> bool {
        self.local
    }

    /// Makes this queue unusable, since the file could not be unlocked.
    pub(crate) fn poison(&self) {
        self.poisoned.store(true, Ordering::Release);
    }

    /// Whether the file could not be unlocked, which makes this queue unusable.
    pub(crate) fn is_poisoned(&self) -> bool {
        self.poisoned.load(Ordering::Acquire)
    }
}

impl super::state::State {
    /// What its server says of the lock that is held; a lock without a server is held.
    fn certainty(&self) -> State {
        #[cfg(feature = "remote")]
        if let Some(claim) = self.object.as_claim() {
            return match claim.seat.standing() {
                Standing::Held(_) => State::Held,
                Standing::Uncertain(left) => State::Uncertain(left),
                Standing::Lost(reason) => State::Lost(reason),
                Standing::Free => State::Unlocked,
            };
        }
        State::Held
    }

    /// Whether it is held for certain. Nothing is granted of a lock that is not.
    pub(super) fn is_certain(&self) -> bool {
        !self.object.is_on_server() || self.certainty() == State::Held
    }

    /// Until when the server granted it.
    #[cfg(feature = "remote")]
    fn lease_end(&self) -> Option<Instant> {
        let left = match self.object.as_claim()?.seat.standing() {
            Standing::Held(grant) => grant.valid_for?,
            Standing::Uncertain(left) => left,
            Standing::Lost(_) | Standing::Free => Duration::ZERO,
        };
        Instant::now().checked_add(left)
    }
}
