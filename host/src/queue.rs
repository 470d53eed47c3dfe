//! The queue of one file: who holds it in this engine, and who waits.
//!
//! ```text
//!            enter                     grant
//!  handle ----------> waiting (FIFO) ----------> holds ----> release
//!                         |                        ^            |
//!                         | head                   | hand-off   | bound reached,
//!                         v                        | <----------+ or nobody there
//!                   kernel: Free -> Waiting -> Held ------------+---> Free
//! ```
//!
//! All state sits behind one mutex, under which no thread ever blocks. [`State::advance`] is
//! the one place that decides what happens next; every change ends by calling it. Wakers are
//! collected and called after the mutex is released.
//!
//! The kernel sees one holder and at most one waiter of this engine, whatever the number of
//! either in here. The head of the queue waits in the kernel: a blocking caller on its own
//! thread, a task by way of a helper thread, which then waits for whoever is the head when it
//! is done, as long as that one wants the same.
//!
//! When the last holder releases, the lock is handed to the next in line without a system call,
//! but only so often and so long in a row. After that it goes back to the kernel and the head
//! queues there like everybody else, so that other processes get their turn.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::mem;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Poll, Wake, Waker};
use std::time::{Duration, Instant};

use crate::deadline::{Alarm, Clock};
use crate::protocol::Want;
use crate::target::{Identity, Opened, Target};
use crate::waiter::{Helpers, KernelWait, Outcome};
use crate::{LostReason, Mode, Protocol, sys};

/// The place of a waiter in the order of arrival, and the name of its hold once it is granted.
pub(crate) type Ticket = u64;

/// An owner of locks: this process, or a guest.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) struct OwnerId(pub(crate) u64);

impl OwnerId {
    /// The process itself.
    pub(crate) const PROCESS: Self = Self(0);
}

/// Who asks: an owner, through one of its handles.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Party {
    pub(crate) owner: OwnerId,
    pub(crate) handle: u64,
}

/// What the queues of one engine share.
#[derive(Debug)]
pub(crate) struct Means {
    pub(crate) clock: Arc<Clock>,
    pub(crate) helpers: Arc<Helpers>,
    pub(crate) hand_off_limit: u32,
    pub(crate) hand_off_time: Duration,
}

/// How often an acquire that found no helper thread tries again.
const SWEEP: Duration = Duration::from_millis(10);

#[derive(Debug)]
pub(crate) struct LockQueue {
    file: File,
    /// Without write permission there is no exclusive record lock.
    pub(crate) writable: bool,
    pub(crate) identity: Identity,
    means: Arc<Means>,
    /// The file could not be unlocked, so its descriptor was given up.
    dead: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next: Ticket,
    waiting: BTreeMap<Ticket, Waiter>,
    /// Ordered by ticket, since grants are.
    holds: Vec<Hold>,
    /// Waits that ended without a grant and have not been told yet.
    failed: Vec<(Ticket, Failure)>,
    /// Holds that were taken away and not released yet.
    lost: Vec<(Hold, LostReason)>,
    /// Woken when something is lost.
    loss_watchers: BTreeMap<u64, Waker>,
    /// To be woken as soon as the mutex is released.
    wake: Vec<Waker>,
    kernel: Kernel,
    /// The lock file to remove when the lock is free.
    remove: Option<Arc<Target>>,
}

#[derive(Debug)]
struct Waiter {
    want: Want,
    party: Party,
    max_hold: Option<Duration>,
    wake: Waker,
    /// Waits in the kernel on its own thread when its turn comes.
    blocking: bool,
}

#[derive(Debug)]
struct Hold {
    ticket: Ticket,
    party: Party,
    mode: Mode,
    /// Whether the one to whom it was granted knows. Nobody else releases it before.
    told: bool,
    /// Takes it away. Counts from the grant, so that it does so with one that nobody looks at too.
    expiry: Option<Alarm>,
}

/// Takes a hold away when its time is up.
struct Expiry {
    queue: Weak<LockQueue>,
    ticket: Ticket,
}

impl Wake for Expiry {
    fn wake(self: Arc<Self>) {
        if let Some(queue) = self.queue.upgrade() {
            queue.revoke(Some(LostReason::Expired), |ticket, _| ticket == self.ticket);
        }
    }
}

/// How the lock stands between this engine and the kernel.
#[derive(Debug, Default)]
enum Kernel {
    #[default]
    Free,
    /// A blocking caller was told to wait in the kernel and is on its way.
    Elected(Ticket),
    /// A thread waits in the kernel: that of the blocking caller `by`, or else a helper. Nobody
    /// else touches the kernel's lock meanwhile.
    Waiting {
        wait: Arc<KernelWait>,
        by: Option<Ticket>,
    },
    /// No thread was to be had; the clock makes another try.
    Sweeping(#[expect(dead_code, reason = "dropping it calls the try off")] Alarm),
    /// Held, or about to be handed on. `handed` counts the grants since the kernel's, `since`
    /// is the time of the second.
    Held {
        want: Want,
        handed: u32,
        since: Option<Instant>,
    },
}

/// Why a wait ended without a grant.
#[derive(Debug)]
pub(crate) enum Failure {
    WouldBlock,
    TimedOut,
    Canceled,
    /// The file behind this queue is gone: open it anew.
    Stale,
    Io(io::Error),
}

/// What came of entering the queue.
#[derive(Debug)]
pub(crate) enum Entered {
    Granted(Ticket),
    Queued(Ticket),
    Failed(Failure),
}

/// What a waiter has to do next.
#[derive(Debug)]
pub(crate) enum Turn {
    Granted,
    Failed(Failure),
    /// Nothing, until it is woken.
    Wait,
    /// Wait in the kernel on its own thread, then [`settle`](LockQueue::settle).
    WaitInKernel(Arc<KernelWait>),
}

/// Somebody who holds the lock: an owner of this engine, or none for anybody else.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Holder {
    pub(crate) owner: Option<OwnerId>,
    pub(crate) mode: Mode,
}

impl LockQueue {
    pub(crate) fn new(opened: Opened, means: Arc<Means>) -> Self {
        let Opened {
            file,
            writable,
            identity,
        } = opened;
        Self {
            file,
            writable,
            identity,
            means,
            dead: AtomicBool::new(false),
            state: Mutex::default(),
        }
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, lets it advance, and wakes whom that concerns. The second result tells
    /// whether the lock, where it was to be given back to the kernel, was.
    fn change<R>(self: &Arc<Self>, change: impl FnOnce(&mut State) -> R) -> (R, io::Result<()>) {
        let mut state = self.state();
        let result = change(&mut state);
        let advanced = state.advance(self);
        let wake = mem::take(&mut state.wake);
        drop(state);
        for waker in wake {
            // One that panics must not keep the rest from being woken, nor end a thread of ours.
            let _ = panic::catch_unwind(AssertUnwindSafe(|| waker.wake()));
        }
        (result, advanced)
    }

    /// Takes the lock if it is free for the taking, otherwise a place in the queue if `wait`.
    pub(crate) fn enter(
        self: &Arc<Self>,
        want: Want,
        party: Party,
        max_hold: Option<Duration>,
        wait: bool,
        blocking: bool,
    ) -> Entered {
        let mut state = self.state();
        if self.is_dead() {
            return Entered::Failed(Failure::Stale);
        }
        match state.try_take(&self.file, want) {
            Ok(true) => {
                let ticket = state.ticket();
                match self.expiry(ticket, max_hold) {
                    Ok(expiry) => {
                        state.holds.push(Hold {
                            ticket,
                            party,
                            mode: want.mode,
                            told: true,
                            expiry,
                        });
                        Entered::Granted(ticket)
                    }
                    Err(e) => {
                        let _ = state.advance(self);
                        drop(state);
                        let _ = self.change(|_| ());
                        Entered::Failed(Failure::Io(e))
                    }
                }
            }
            Ok(false) if !wait => Entered::Failed(Failure::WouldBlock),
            Ok(false) => {
                let ticket = state.ticket();
                let waiter = Waiter {
                    want,
                    party,
                    max_hold,
                    wake: Waker::noop().clone(),
                    blocking,
                };
                state.waiting.insert(ticket, waiter);
                drop(state);
                let _ = self.change(|_| ());
                Entered::Queued(ticket)
            }
            Err(failure) => Entered::Failed(failure),
        }
    }

    /// How the wait of `ticket` stands; `waker` is woken when that changes.
    pub(crate) fn turn(self: &Arc<Self>, ticket: Ticket, waker: &Waker) -> Turn {
        // Dropping a waker can drop a task, and that can come back here: not under the mutex.
        let mut old = None;
        let (turn, _) = self.change(|state| {
            if let Some(waiter) = state.waiting.get_mut(&ticket) {
                if !waiter.wake.will_wake(waker) {
                    old = Some(mem::replace(&mut waiter.wake, waker.clone()));
                }
                if !matches!(state.kernel, Kernel::Elected(elected) if elected == ticket) {
                    return Turn::Wait;
                }
                return match KernelWait::new(&self.file, waiter.want) {
                    Ok(wait) => {
                        let wait = Arc::new(wait);
                        state.kernel = Kernel::Waiting {
                            wait: Arc::clone(&wait),
                            by: Some(ticket),
                        };
                        Turn::WaitInKernel(wait)
                    }
                    Err(e) => {
                        state.waiting.remove(&ticket);
                        Turn::Failed(Failure::Io(e))
                    }
                };
            }
            if let Ok(index) = state.hold(ticket) {
                state.holds[index].told = true;
                return Turn::Granted;
            }
            // Granted, and taken away before it was told.
            state.lost.retain(|(hold, _)| hold.ticket != ticket);
            let told = state
                .failed
                .iter()
                .position(|(failed, _)| *failed == ticket);
            Turn::Failed(told.map_or(Failure::Canceled, |index| state.failed.swap_remove(index).1))
        });
        drop(old);
        turn
    }

    /// Reports how a wait in the kernel ended.
    pub(crate) fn settle(self: &Arc<Self>, wait: &KernelWait, outcome: Outcome) {
        let _ = self.change(|state| {
            let Kernel::Waiting { by, .. } = mem::take(&mut state.kernel) else {
                unreachable!("nobody else ends a wait in the kernel");
            };
            let failure = match outcome {
                Outcome::Locked => {
                    state.kernel = Kernel::Held {
                        want: wait.want,
                        handed: 0,
                        since: None,
                    };
                    return;
                }
                Outcome::Interrupted => None,
                Outcome::TimedOut => Some(Failure::TimedOut),
                Outcome::Failed(e) => Some(Failure::Io(e)),
            };
            // Whatever it got hold of in the moment it was called back.
            if wait.want.protocol.kernel().unlock(&self.file).is_err() {
                self.give_up();
            }
            // A helper fails whom it waited for: somebody who wants the same.
            let head = state.waiting.values().next();
            if let Some(failure) = failure
                && (by.is_some() || head.is_some_and(|head| head.want == wait.want))
            {
                state.fail(by, failure);
            }
        });
    }

    /// Gives up a wait, or what was granted in the meantime.
    pub(crate) fn abandon(self: &Arc<Self>, ticket: Ticket) {
        let (waiter, _) = self.change(|state| {
            state.failed.retain(|(failed, _)| *failed != ticket);
            state.lost.retain(|(hold, _)| hold.ticket != ticket);
            if let Ok(index) = state.hold(ticket) {
                state.holds.remove(index);
            }
            state.waiting.remove(&ticket)
        });
        drop(waiter);
    }

    /// Releases the hold `ticket`. Answers `None` if there is none such any more, and the reason
    /// if it was lost. On failure it is released all the same. `remove` names the lock file to
    /// remove once nobody here wants it.
    pub(crate) fn release(
        self: &Arc<Self>,
        ticket: Ticket,
        remove: Option<&Arc<Target>>,
    ) -> io::Result<Option<Result<(), LostReason>>> {
        let (released, advanced) = self.change(|state| {
            if let Ok(index) = state.hold(ticket) {
                let released = state.holds.remove(index);
                if let Some(target) = remove {
                    state.remove = Some(Arc::clone(target));
                }
                // What was lost beside it counts now.
                if state.standing(released.party.owner).is_err() {
                    state
                        .wake
                        .extend(mem::take(&mut state.loss_watchers).into_values());
                }
                return Some(Ok(()));
            }
            let lost = state
                .lost
                .iter()
                .position(|(hold, _)| hold.ticket == ticket)?;
            Some(Err(state.lost.swap_remove(lost).1))
        });
        advanced.map(|()| released)
    }

    /// The hold that a release by `party` concerns: one of its handle before one of its owner.
    pub(crate) fn find(&self, party: Party) -> Option<Ticket> {
        let state = self.state();
        let held = state
            .holds
            .iter()
            .chain(state.lost.iter().map(|(hold, _)| hold));
        held.filter(|hold| hold.party.owner == party.owner && hold.told)
            .max_by_key(|hold| (hold.party.handle == party.handle, hold.ticket))
            .map(|hold| hold.ticket)
    }

    /// Withdraws the waits that `concerns` selects, and takes their holds away if there is a
    /// reason to.
    pub(crate) fn revoke(
        self: &Arc<Self>,
        reason: Option<LostReason>,
        concerns: impl Fn(Ticket, Party) -> bool,
    ) {
        let _ = self.change(|state| {
            let State {
                waiting,
                holds,
                failed,
                lost,
                loss_watchers,
                wake,
                ..
            } = state;
            for (ticket, waiter) in waiting.extract_if(.., |ticket, w| concerns(*ticket, w.party)) {
                failed.push((ticket, Failure::Canceled));
                wake.push(waiter.wake);
            }
            let Some(reason) = reason else {
                return;
            };
            for hold in holds.extract_if(.., |hold| concerns(hold.ticket, hold.party)) {
                lost.push((hold, reason));
                wake.extend(mem::take(loss_watchers).into_values());
            }
        });
    }

    /// Ends the wait of `ticket`, if it goes on.
    pub(crate) fn time_out(self: &Arc<Self>, ticket: Ticket) {
        let _ = self.change(|state| state.fail(Some(ticket), Failure::TimedOut));
    }

    /// What takes a hold away that may not last longer than `max_hold`.
    fn expiry(
        self: &Arc<Self>,
        ticket: Ticket,
        max_hold: Option<Duration>,
    ) -> io::Result<Option<Alarm>> {
        let Some(at) = max_hold.and_then(|time| Instant::now().checked_add(time)) else {
            return Ok(None);
        };
        let expiry = Expiry {
            queue: Arc::downgrade(self),
            ticket,
        };
        self.means
            .clock
            .wake_at(at, Waker::from(Arc::new(expiry)))
            .map(Some)
    }

    /// When the hold `ticket` will be taken away, if it is to be.
    pub(crate) fn expires(&self, ticket: Ticket) -> Option<Instant> {
        let state = self.state();
        let index = state.hold(ticket).ok()?;
        state.holds[index].expiry.as_ref().map(Alarm::at)
    }

    /// Takes every hold away. Answers `false` if there was none.
    #[cfg(feature = "sandbox")]
    pub(crate) fn break_holds(self: &Arc<Self>) -> bool {
        let held: Vec<_> = self.state().holds.iter().map(|hold| hold.ticket).collect();
        self.revoke(Some(LostReason::Broken), |ticket, _| held.contains(&ticket));
        !held.is_empty()
    }

    /// Whether the hold `ticket` is neither released nor lost.
    #[cfg(feature = "sandbox")]
    pub(crate) fn holds(&self, ticket: Ticket) -> bool {
        self.state().hold(ticket).is_ok()
    }

    /// Forgets the holds of a handle that were taken away, once nobody can ask for them.
    pub(crate) fn forget(&self, handle: u64) {
        self.state()
            .lost
            .retain(|(hold, _)| hold.party.handle != handle);
    }

    /// Whether `owner` holds the lock, or else whether and why it lost it.
    pub(crate) fn standing(&self, owner: OwnerId) -> Result<bool, LostReason> {
        self.state().standing(owner)
    }

    /// Ready when `owner` has lost its hold. `watcher` names the caller, who takes the waker back
    /// with [`unwatch`](Self::unwatch).
    pub(crate) fn poll_lost(
        &self,
        owner: OwnerId,
        watcher: u64,
        waker: &Waker,
    ) -> Poll<LostReason> {
        let mut state = self.state();
        if let Err(reason) = state.standing(owner) {
            return Poll::Ready(reason);
        }
        let old = state.loss_watchers.insert(watcher, waker.clone());
        drop(state);
        drop(old);
        Poll::Pending
    }

    pub(crate) fn unwatch(&self, watcher: u64) {
        let old = self.state().loss_watchers.remove(&watcher);
        drop(old);
    }

    /// Somebody who holds the lock, in this engine or elsewhere; preferably `asking`.
    pub(crate) fn holder(&self, asking: OwnerId, protocol: Protocol) -> io::Result<Option<Holder>> {
        let state = self.state();
        if let Some(hold) = state
            .holds
            .iter()
            .max_by_key(|hold| hold.party.owner == asking)
        {
            return Ok(Some(Holder {
                owner: Some(hold.party.owner),
                mode: hold.mode,
            }));
        }
        let mode = match &state.kernel {
            Kernel::Free | Kernel::Held { .. } => protocol.kernel().holder(&self.file)?,
            // Somebody waits for it, so somebody holds it; nobody may touch it now to see who.
            Kernel::Elected(_) | Kernel::Waiting { .. } | Kernel::Sweeping(_) => {
                let record = sys::ofd_holder(&self.file).ok().flatten();
                record.or(Some(Mode::Exclusive))
            }
        };
        Ok(mode.map(|mode| Holder { owner: None, mode }))
    }

    /// The owners without whose progress the wait of `ticket` cannot end.
    pub(crate) fn blockers(&self, ticket: Ticket) -> Vec<OwnerId> {
        let state = self.state();
        let Some(waiter) = state.waiting.get(&ticket) else {
            return Vec::new();
        };
        let ahead = || state.waiting.range(..ticket).map(|(_, waiter)| waiter);
        let exclusive = |waiter: &Waiter| waiter.want.mode == Mode::Exclusive;
        let conflict = exclusive(waiter)
            || ahead().any(exclusive)
            || state.holds.iter().any(|hold| hold.mode == Mode::Exclusive);
        if !conflict {
            return Vec::new();
        }
        let holders = state.holds.iter().map(|hold| hold.party.owner);
        holders
            .chain(ahead().map(|waiter| waiter.party.owner))
            .collect()
    }

    /// How many hold the lock in this engine, and how many wait for it.
    pub(crate) fn len(&self) -> (usize, usize) {
        let state = self.state();
        (state.holds.len(), state.waiting.len())
    }

    /// Whether the file could not be unlocked, so that nobody may use this queue any more.
    pub(crate) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Acquire)
    }

    fn give_up(&self) {
        self.dead.store(true, Ordering::Release);
        let detached = sys::detach(&self.file);
        debug_assert!(detached.is_ok(), "{detached:?}");
    }

    /// Whether the file lies on a network file system, where `flock` and record locks are one.
    pub(crate) fn is_network(&self) -> bool {
        const NFS: u64 = 0x6969;
        const SMB: u64 = 0xff53_4d42;
        const SMB2: u64 = 0xfe53_4d42;
        // On a device, then: network file systems have none, and number 0 in its place.
        if rustix::fs::major(self.identity.device) != 0 {
            return false;
        }
        let kind = rustix::fs::fstatfs(&self.file).map(|fs| fs.f_type.cast_unsigned());
        matches!(kind.map(|kind| kind & 0xffff_ffff), Ok(NFS | SMB | SMB2))
    }

    /// Tries once on behalf of a head for which there was no thread.
    fn sweep(self: &Arc<Self>) {
        let _ = self.change(|state| {
            let Kernel::Sweeping(_) = state.kernel else {
                return;
            };
            state.kernel = Kernel::Free;
            let Some(want) = state.waiting.values().next().map(|waiter| waiter.want) else {
                return;
            };
            match want.protocol.kernel().lock(&self.file, want.mode, false) {
                Ok(true) => {
                    state.kernel = Kernel::Held {
                        want,
                        handed: 0,
                        since: None,
                    }
                }
                Ok(false) => {}
                Err(e) => state.fail(None, Failure::Io(e)),
            }
        });
    }
}

impl State {
    fn ticket(&mut self) -> Ticket {
        self.next += 1;
        self.next
    }

    fn hold(&self, ticket: Ticket) -> Result<usize, usize> {
        self.holds.binary_search_by_key(&ticket, |hold| hold.ticket)
    }

    fn standing(&self, owner: OwnerId) -> Result<bool, LostReason> {
        if self.holds.iter().any(|hold| hold.party.owner == owner) {
            return Ok(true);
        }
        let lost = self.lost.iter().find(|(hold, _)| hold.party.owner == owner);
        lost.map_or(Ok(false), |(_, reason)| Err(*reason))
    }

    /// Takes the lock, or joins those who share it, if nobody is in the way.
    fn try_take(&mut self, file: &File, want: Want) -> Result<bool, Failure> {
        if !self.waiting.is_empty() {
            return Ok(false);
        }
        match self.kernel {
            Kernel::Free => {
                let kernel = want.protocol.kernel();
                let taken = kernel.lock(file, want.mode, false).map_err(Failure::Io)?;
                if taken {
                    self.kernel = Kernel::Held {
                        want,
                        handed: 1,
                        since: None,
                    };
                }
                Ok(taken)
            }
            Kernel::Held { want: held, .. } => Ok(joins(held, want)),
            Kernel::Elected(_) | Kernel::Waiting { .. } | Kernel::Sweeping(_) => Ok(false),
        }
    }

    /// Does whatever the state allows next. Fails where the lock could not be given back.
    fn advance(&mut self, queue: &Arc<LockQueue>) -> io::Result<()> {
        let mut given_back = Ok(());
        loop {
            let head = self.waiting.first_key_value();
            let head = head.map(|(ticket, waiter)| (*ticket, waiter.want, waiter.blocking));
            match &mut self.kernel {
                Kernel::Elected(ticket) => {
                    if head.is_some_and(|(head, ..)| head == *ticket) {
                        return given_back;
                    }
                    self.kernel = Kernel::Free;
                }
                Kernel::Waiting { wait, by } => {
                    let wanted = head.is_some_and(|(ticket, want, _)| match *by {
                        Some(by) => by == ticket,
                        None => wait.want == want,
                    });
                    if !wanted {
                        wait.interrupt();
                    }
                    return given_back;
                }
                Kernel::Sweeping(_) => {
                    if head.is_some() {
                        return given_back;
                    }
                    self.kernel = Kernel::Free;
                }
                Kernel::Held { want: held, .. } if !self.holds.is_empty() => {
                    if !head.is_some_and(|(_, want, _)| joins(*held, want)) {
                        return given_back;
                    }
                    self.grant(queue);
                }
                Kernel::Held {
                    want: held,
                    handed,
                    since,
                } => {
                    let held = *held;
                    let fits = head.is_some_and(|(_, want, _)| {
                        want.mode == held.mode && held.protocol.covers(want.protocol)
                    });
                    // The first grant is the one that the kernel made.
                    let in_time = *handed == 0 || {
                        let now = Instant::now();
                        *handed <= queue.means.hand_off_limit
                            && now - *since.get_or_insert(now) < queue.means.hand_off_time
                    };
                    if fits && in_time {
                        *handed += 1;
                        self.grant(queue);
                    } else {
                        self.kernel = Kernel::Free;
                        given_back = given_back.and(self.unlock(queue, held));
                    }
                }
                Kernel::Free => {
                    let Some((ticket, want, blocking)) = head else {
                        // Nobody holds it to remove the file safely.
                        self.remove = None;
                        return given_back;
                    };
                    if queue.is_dead() {
                        self.fail(None, Failure::Stale);
                    } else if blocking {
                        self.kernel = Kernel::Elected(ticket);
                        self.wake
                            .extend(self.waiting.get(&ticket).map(|waiter| waiter.wake.clone()));
                    } else if let Err(e) = self.send_helper(queue, want) {
                        self.fail(None, Failure::Io(e));
                    }
                }
            }
        }
    }

    /// Moves the head of the queue to the holders.
    fn grant(&mut self, queue: &Arc<LockQueue>) {
        if let Some((ticket, waiter)) = self.waiting.pop_first() {
            match queue.expiry(ticket, waiter.max_hold) {
                Ok(expiry) => {
                    let Waiter { party, want, .. } = waiter;
                    self.holds.push(Hold {
                        ticket,
                        party,
                        mode: want.mode,
                        told: false,
                        expiry,
                    });
                }
                Err(e) => self.failed.push((ticket, Failure::Io(e))),
            }
            self.wake.push(waiter.wake);
        }
    }

    /// Ends the wait of `ticket`, or else of the head of the queue.
    fn fail(&mut self, ticket: Option<Ticket>, failure: Failure) {
        let head = || self.waiting.keys().next().copied();
        if let Some(ticket) = ticket.or_else(head)
            && let Some(waiter) = self.waiting.remove(&ticket)
        {
            self.failed.push((ticket, failure));
            self.wake.push(waiter.wake);
        }
    }

    /// Has somebody wait in the kernel for tasks.
    fn send_helper(&mut self, queue: &Arc<LockQueue>, want: Want) -> io::Result<()> {
        let wait = Arc::new(KernelWait::new(&queue.file, want)?);
        let (done, waited) = (Arc::clone(queue), Arc::clone(&wait));
        let done = move |outcome| done.settle(&waited, outcome);
        let sent = queue.means.helpers.run(Arc::clone(&wait), done);
        self.kernel = if sent {
            Kernel::Waiting { wait, by: None }
        } else {
            let sweep = Waker::from(Arc::new(Sweep(Arc::clone(queue))));
            Kernel::Sweeping(queue.means.clock.wake_at(Instant::now() + SWEEP, sweep)?)
        };
        Ok(())
    }

    /// Gives the lock back to the kernel; removes the file first, if that was asked for and
    /// nobody here waits for it. A lock that cannot be given back goes with its descriptor.
    fn unlock(&mut self, queue: &LockQueue, held: Want) -> io::Result<()> {
        let kernel = held.protocol.kernel();
        let vacant = self.waiting.is_empty();
        let removed = match self.remove.take_if(|_| vacant) {
            // Sharers elsewhere still rely on the file: the last of all removes it.
            Some(target)
                if held.mode == Mode::Exclusive
                    || kernel
                        .lock(&queue.file, Mode::Exclusive, false)
                        .unwrap_or(false) =>
            {
                target.remove(queue.identity)
            }
            _ => Ok(()),
        };
        let unlocked = kernel.unlock(&queue.file);
        if unlocked.is_err() {
            queue.give_up();
        }
        unlocked.and(removed)
    }
}

/// Whether somebody who wants `want` may hold the lock beside those for whom `held` is held.
fn joins(held: Want, want: Want) -> bool {
    held.mode == Mode::Shared && want.mode == Mode::Shared && held.protocol.covers(want.protocol)
}

struct Sweep(Arc<LockQueue>);

impl Wake for Sweep {
    fn wake(self: Arc<Self>) {
        self.0.sweep();
    }
}
