//! The queue of one file: the holders in this engine, and the waiters.
//!
//! ```text
//!            enter                     grant
//!  handle ----------> waiting (FIFO) ----------> holds ----> release
//!                         |                        ^            |
//!                         | the head is sent       | hand-off   | no waiter, or the head
//!                         v                        | <----------+ waits in the kernel
//!                  wait in the kernel -----> kernel's lock ---> given back
//! ```
//!
//! All state is behind one mutex. No thread waits for the lock while it holds the mutex, but a try
//! of an existence lock does file I/O under it. [`State::advance`] alone decides what happens next;
//! every change ends by calling it. Wakers are collected, and called after the mutex is released.
//!
//! The kernel sees one holder and at most one waiter of this engine, however many there are. The
//! head of the queue waits in the kernel: a blocking caller on its own thread, a task through a
//! helper thread. The helper's wait serves any head that makes the same request, so it outlives the
//! waiter it was started for.
//!
//! An existence lock has no queue in the kernel. The engine tries for its head whenever the entry
//! changes, and from time to time besides.
//!
//! When the last holder releases, the lock is handed to the next waiter without a system call, but
//! only for so many times and so long in a row. After that, the head is sent into the kernel's
//! queue while the lock is still held here. So it has its place among the waiters of other
//! processes before the lock goes back, and the release wakes the process that came first.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::mem;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Poll, Wake, Waker};
use std::time::{Duration, Instant};

use hashlink::{DefaultHashBuilder, LinkedHashMap};

use crate::deadline::{Timer, TimerEntry};
use crate::fairness::{self, Pause};
use crate::lock_path::{Identity, LockPath, reopen};
use crate::object::{LockObject, OpenLock};
use crate::protocol::{ALL_ONE, Backend, ForeignHolder, Request};
use crate::sync::{Mutex, MutexGuard, WakeList, lock};
use crate::waiter::{KernelWait, Outcome, WaiterPool};
use crate::watch::{Interest, Watch, Watcher};
use crate::{LostReason, Mode, Protocol, sys};

/// The place of a waiter in the order of arrival, and the identity of its hold once granted.
pub(crate) type Ticket = u64;

/// An owner of locks: this process, or a guest.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) struct OwnerId(pub(crate) u64);

impl OwnerId {
    /// The process itself.
    pub(crate) const PROCESS: Self = Self(0);

    /// The calling thread, for locks whose owners are threads.
    pub(crate) fn thread() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        // Engines count their owners up from zero.
        thread_local! {
            static OWNER: OwnerId = OwnerId(u64::MAX - NEXT.fetch_add(1, Ordering::Relaxed));
        }
        OWNER.with(|owner| *owner)
    }
}

/// The origin of a request: an owner, through one of its handles.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Requester {
    pub(crate) owner: OwnerId,
    pub(crate) handle: u64,
}

/// What the queues of one engine share.
#[derive(Debug)]
pub(crate) struct Services {
    pub(crate) timer: Arc<Timer>,
    pub(crate) waiter_pool: Arc<WaiterPool>,
    pub(crate) watcher: Arc<Watcher>,
    pub(crate) hand_off_limit: u32,
    pub(crate) hand_off_time: Duration,
    pub(crate) pause: Option<Pause>,
    pub(crate) signal: Option<sys::Signal>,
    /// How many files are polled because no thread can wait for them.
    pub(crate) polled: AtomicUsize,
    /// The start of the first tick of [`POLL_INTERVAL`].
    pub(crate) epoch: Instant,
}

impl Services {
    /// When to poll a file next. All files share the same ticks, since waking the timer thread
    /// costs more than a try.
    fn next_poll(&self) -> Instant {
        let polled = self.polled.load(Ordering::Relaxed);
        let pause = POLL_INTERVAL + POLL_INTERVAL_EACH * u32::try_from(polled).unwrap_or(u32::MAX);
        let ticks = (self.epoch.elapsed() + pause)
            .div_duration_f64(POLL_INTERVAL)
            .floor();
        self.epoch + POLL_INTERVAL.mul_f64(ticks)
    }
}

/// How often an acquire polls if no thread can wait in the kernel for it, and how much that is
/// stretched for each other polled file. A try takes about a microsecond.
const POLL_INTERVAL: Duration = Duration::from_millis(10);
const POLL_INTERVAL_EACH: Duration = Duration::from_micros(100);

/// How often an acquire rechecks an existence lock. If the system reports changes, this is rare,
/// and only finds dead holders and what other hosts did. Each interval is stretched at random by up
/// to half, so that waiters do not try at the same moment. The second interval is for when changes
/// are not reported, or another program has the directory locked.
const RECHECK_INTERVAL: Duration = Duration::from_millis(200);
const RECHECK_INTERVAL_UNWATCHED: Duration = Duration::from_millis(40);

/// How long the entry may be another one before the lock counts as lost. A process that breaks a
/// lock by mistake puts it back within microseconds.
const LOSS_GRACE: Duration = Duration::from_millis(20);

#[derive(Debug)]
pub(crate) struct LockQueue {
    pub(crate) identity: Identity,
    /// Whether the file lies on a network file system, where `flock` and record locks are one.
    pub(crate) network: bool,
    services: Arc<Services>,
    /// Whether a writable description exists or can be opened. An exclusive record lock needs one.
    writable: AtomicBool,
    /// The file could not be unlocked, so its open file description was closed.
    poisoned: AtomicBool,
    /// Whether it is an existence lock. A try then takes more than a moment: it reads a directory
    /// or a database.
    slow: bool,
    inbox: Mutex<Inbox>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    next: Ticket,
    waiting: LinkedHashMap<Ticket, Waiter>,
    /// Ordered by ticket, since grants are.
    holds: VecDeque<Hold>,
    /// Waits that ended without a grant, and whose waiters have not been told yet.
    failed: HashMap<Ticket, Failure, DefaultHashBuilder>,
    /// Holds that were taken away and have not been released yet.
    lost: Vec<(Hold, LostReason)>,
    /// Woken when something is lost.
    loss_watchers: BTreeMap<u64, Waker>,
    /// To be woken as soon as the mutex is released.
    wake: Vec<Waker>,
    /// The open file description that holds the lock, and that tries for it. No wait uses it.
    object: Arc<LockObject>,
    /// Another description, for the next wait.
    spare: Option<Arc<LockObject>>,
    /// The lock that `object` holds.
    held: Option<KernelLock>,
    /// Reports changes of an existence lock. `None` before the first acquire; an error if the
    /// system cannot report them.
    watch: Option<io::Result<Watch>>,
    /// The process that holds an existence lock, and the watch that reports its end.
    holder_pid: Option<(u32, Option<Watch>)>,
    /// The last try failed for a reason that passes soon, without a notification.
    out_of_reach: bool,
    /// Checks once more whether the lock is lost.
    doubt: Option<TimerEntry>,
    contender: Contender,
    streak: fairness::Streak,
    /// The lock file to remove when the lock is free.
    remove: Option<Arc<LockPath>>,
}

#[derive(Debug)]
struct Waiter {
    request: Request,
    requester: Requester,
    max_hold: Option<Duration>,
    wake: Waker,
    /// Waits in the kernel on its own thread when it becomes the head.
    blocking: bool,
}

#[derive(Debug)]
struct Hold {
    ticket: Ticket,
    requester: Requester,
    mode: Mode,
    /// Whether the waiter has learned of its grant. Until then, only the waiter can release it.
    told: bool,
    /// Revokes the hold. Counts from the grant, so that a hold whose waiter never looks expires
    /// too.
    expiry: Option<TimerEntry>,
}

/// What the timer or the watcher reports to a queue.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Event {
    /// It is time for another try.
    Poll,
    /// The entry of the existence lock changed.
    Notice,
    /// The entry has been another one for [`LOSS_GRACE`].
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
struct Inbox {
    events: Vec<Event>,
    /// Whether a thread is dealing with them.
    attended: bool,
}

/// The lock that this engine has: held, or about to be handed on.
#[derive(Clone, Copy, Debug)]
struct KernelLock {
    request: Request,
    /// How many grants this engine made of it.
    handed: u32,
    /// When this engine first saw one of its own waiters wait for it.
    contended: Option<Instant>,
}

impl KernelLock {
    fn new(request: Request) -> Self {
        Self {
            request,
            handed: 0,
            contended: None,
        }
    }

    /// Whether `request` is compatible with the current holders.
    fn joins(&self, request: Request) -> bool {
        self.request.mode == Mode::Shared && self.fits(request)
    }

    /// Whether this lock satisfies `request`.
    fn fits(&self, request: Request) -> bool {
        self.request.mode == request.mode && self.request.protocol.covers(request.protocol)
    }

    /// Whether the bound on hand-offs is reached. Call this only if a waiter is queued.
    fn over(&mut self, services: &Services) -> bool {
        // The first grant is the kernel's.
        if self.handed > services.hand_off_limit {
            return true;
        }
        let now = Instant::now();
        now - *self.contended.get_or_insert(now) >= services.hand_off_time
    }
}

/// What contends for the lock on behalf of the head of the queue.
#[derive(Debug, Default)]
enum Contender {
    #[default]
    None,
    /// A blocking caller was told to wait in the kernel, and is on its way there.
    Elected(Ticket),
    /// A thread waits in the kernel: that of the blocking caller `by`, otherwise a helper.
    Blocked {
        wait: Arc<KernelWait>,
        by: Option<Ticket>,
    },
    /// No thread can wait in the kernel, or it is an existence lock; the timer makes a try. `None`
    /// while the lock is held here and there is nothing to try.
    Polling(Option<PollTimer>),
    /// The fairness pause: the lock is left alone for a moment.
    Yielding(#[expect(dead_code, reason = "dropping it ends the pause")] TimerEntry),
}

/// A try that the timer will make.
#[derive(Debug)]
struct PollTimer {
    _alarm: TimerEntry,
    /// The services whose counter includes it, if any.
    polled: Option<Arc<Services>>,
}

impl Drop for PollTimer {
    fn drop(&mut self) {
        if let Some(services) = &self.polled {
            services.polled.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// The head of the queue.
#[derive(Clone, Copy)]
struct Head {
    ticket: Ticket,
    request: Request,
    blocking: bool,
}

impl Contender {
    /// Whether it still serves `head`, the head of the queue.
    fn serves(&self, head: Option<Head>) -> bool {
        match self {
            Self::None | Self::Yielding(_) => true,
            Self::Elected(ticket) => head.is_some_and(|head| head.ticket == *ticket),
            Self::Blocked { wait, by } => head.is_some_and(|head| match *by {
                Some(by) => by == head.ticket,
                None => wait.request == head.request,
            }),
            Self::Polling(_) => head.is_some(),
        }
    }
}

/// Why a wait ended without a grant.
#[derive(Debug)]
pub(crate) enum Failure {
    WouldBlock,
    TimedOut,
    Canceled,
    /// The file behind this queue is gone: open the path again.
    Replaced,
    /// The lock was broken between the grant and its delivery. Nothing is lost: enqueue again.
    Broken,
    Io(io::Error),
}

/// The result of entering the queue.
#[derive(Debug)]
pub(crate) enum Enqueued {
    Granted(Ticket),
    Queued(Ticket),
    Failed(Failure),
}

/// What a waiter has to do next.
#[derive(Debug)]
pub(crate) enum WaitStatus {
    Granted,
    Failed(Failure),
    /// Nothing until it is woken.
    Wait,
    /// Wait in the kernel on its own thread, then call [`settle`](LockQueue::settle).
    WaitInKernel(Arc<KernelWait>),
}

/// A holder of the lock: an owner of this engine, or `None` for a foreign process.
#[derive(Clone, Debug)]
pub(crate) struct Holder {
    pub(crate) owner: Option<OwnerId>,
    pub(crate) found: ForeignHolder,
}

impl LockQueue {
    pub(crate) fn new(open_lock: OpenLock, services: Arc<Services>) -> Self {
        let OpenLock {
            object,
            identity,
            network,
        } = open_lock;
        Self {
            identity,
            network,
            services,
            writable: AtomicBool::new(object.writable),
            poisoned: AtomicBool::new(false),
            slow: object.as_marker().is_some(),
            inbox: Mutex::default(),
            state: Mutex::new(State {
                next: 0,
                waiting: LinkedHashMap::default(),
                holds: VecDeque::new(),
                failed: HashMap::default(),
                lost: Vec::new(),
                loss_watchers: BTreeMap::new(),
                wake: Vec::new(),
                object: Arc::new(object),
                spare: None,
                held: None,
                watch: None,
                holder_pid: None,
                out_of_reach: false,
                doubt: None,
                contender: Contender::None,
                streak: fairness::Streak::default(),
                remove: None,
            }),
        }
    }

    /// Whether the file may be written to.
    pub(crate) fn is_writable(&self) -> bool {
        self.writable.load(Ordering::Acquire)
    }

    /// Takes another description of the file, if it is the first writable one.
    pub(crate) fn offer(&self, object: LockObject) {
        if !object.writable || self.is_writable() {
            return;
        }
        let mut state = self.state();
        let spare = state.spare.replace(Arc::new(object));
        self.writable.store(true, Ordering::Release);
        drop(state);
        drop(spare);
    }

    /// The object that carries the lock while this engine holds it.
    pub(crate) fn object(&self) -> Arc<LockObject> {
        Arc::clone(&self.state().object)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Applies `change`, advances the state and wakes the waiters it affects. The second result is
    /// an error if the lock could not be given back to the kernel.
    fn change<R>(self: &Arc<Self>, change: impl FnOnce(&mut State) -> R) -> (R, io::Result<()>) {
        let (result, advanced, woken) = self.change_quietly(change);
        woken.wake();
        (result, advanced)
    }

    /// Like [`change`](Self::change), but leaves the waking to the caller.
    fn change_quietly<R>(
        self: &Arc<Self>,
        change: impl FnOnce(&mut State) -> R,
    ) -> (R, io::Result<()>, WakeList) {
        let mut state = self.state();
        let result = change(&mut state);
        let advanced = state.advance(self);
        let wake = mem::take(&mut state.wake);
        (result, advanced, WakeList(wake))
    }

    /// Takes the lock if it is free and no waiter is queued. Otherwise, if `wait`, takes a place in
    /// the queue.
    pub(crate) fn enter(
        self: &Arc<Self>,
        request: Request,
        requester: Requester,
        max_hold: Option<Duration>,
        wait: bool,
        blocking: bool,
    ) -> Enqueued {
        let mut state = self.state();
        if self.is_poisoned() {
            return Enqueued::Failed(Failure::Replaced);
        }
        match state.try_take(self, request, wait) {
            Ok(true) => {
                let ticket = state.ticket();
                match self.expiry(ticket, max_hold) {
                    Ok(expiry) => {
                        state.holds.push_back(Hold {
                            ticket,
                            requester,
                            mode: request.mode,
                            told: true,
                            expiry,
                        });
                        Enqueued::Granted(ticket)
                    }
                    Err(e) => {
                        let _ = state.advance(self);
                        drop(state);
                        let _ = self.change(|_| ());
                        Enqueued::Failed(Failure::Io(e))
                    }
                }
            }
            Ok(false) if !wait => Enqueued::Failed(Failure::WouldBlock),
            Ok(false) => {
                let ticket = state.ticket();
                let waiter = Waiter {
                    request,
                    requester,
                    max_hold,
                    wake: Waker::noop().clone(),
                    blocking,
                };
                state.waiting.insert(ticket, waiter);
                drop(state);
                let _ = self.change(|_| ());
                Enqueued::Queued(ticket)
            }
            Err(failure) => Enqueued::Failed(failure),
        }
    }

    /// The status of the wait of `ticket`. `waker` is woken when it changes.
    pub(crate) fn turn(self: &Arc<Self>, ticket: Ticket, waker: &Waker) -> WaitStatus {
        // Dropping a waker can drop a task, which can call back into this queue: not under the
        // mutex.
        let mut old = None;
        let (turn, _) = self.change(|state| {
            if let Some(waiter) = state.waiting.get_mut(&ticket) {
                if !waiter.wake.will_wake(waker) {
                    old = Some(mem::replace(&mut waiter.wake, waker.clone()));
                }
                if !matches!(state.contender, Contender::Elected(elected) if elected == ticket) {
                    return WaitStatus::Wait;
                }
                let request = waiter.request;
                let Ok(wait) = state.kernel_wait(self, request) else {
                    // The timer can try for this thread.
                    state.contender = Contender::None;
                    state.poll_later(self);
                    return WaitStatus::Wait;
                };
                state.contender = Contender::Blocked {
                    wait: Arc::clone(&wait),
                    by: Some(ticket),
                };
                return WaitStatus::WaitInKernel(wait);
            }
            if let Ok(index) = state.hold(ticket) {
                state.holds[index].told = true;
                return WaitStatus::Granted;
            }
            // Granted, and revoked before the waiter was told.
            state.lost.retain(|(hold, _)| hold.ticket != ticket);
            let told = state.failed.remove(&ticket);
            WaitStatus::Failed(told.unwrap_or(Failure::Canceled))
        });
        drop(old);
        turn
    }

    /// Reports how a wait in the kernel ended. The caller wakes the returned list.
    #[must_use = "waiters hang unless they are woken"]
    pub(crate) fn settle(self: &Arc<Self>, wait: &Arc<KernelWait>, outcome: Outcome) -> WakeList {
        let ((), _, woken) = self.change_quietly(|state| {
            let by = match &state.contender {
                Contender::Blocked {
                    wait: contender,
                    by,
                } if Arc::ptr_eq(contender, wait) => *by,
                // It was canceled, and no waiter relies on it any more.
                _ => {
                    if let Outcome::Locked = outcome {
                        let _ = wait.request.protocol.backend().unlock(&wait.object);
                    }
                    return;
                }
            };
            state.contender = Contender::None;
            let object = Arc::clone(&wait.object);
            if let Outcome::Locked = outcome {
                let before = mem::replace(&mut state.object, object);
                if let Some(held) = state.held.take() {
                    // The kernel granted it although this engine holds the lock. So it does not
                    // hold it any more: a program with a copy of the descriptor unlocked it.
                    let _ = held.request.protocol.backend().unlock(&before);
                    let holds = mem::take(&mut state.holds);
                    state.lose(holds, LostReason::Broken);
                }
                state.spare = Some(before);
                state.taken(self, wait.request);
                return;
            }
            if !matches!(outcome, Outcome::Failed(_)) {
                state.spare = Some(object);
            }
            let failure = match outcome {
                Outcome::NotBegun => return state.poll_later(self),
                Outcome::TimedOut => Failure::TimedOut,
                Outcome::Failed(e) => Failure::Io(e),
                Outcome::Locked | Outcome::Interrupted => {
                    unreachable!("a canceled wait is forgotten")
                }
            };
            // A helper's error goes to the waiter it stood in for.
            let head = state.head();
            if by.is_some() || head.is_some_and(|head| head.request == wait.request) {
                state.fail(by, failure);
            }
        });
        woken
    }

    /// Abandons a wait, or gives back what was granted to it in the meantime.
    pub(crate) fn abandon(self: &Arc<Self>, ticket: Ticket) {
        let (waiter, _) = self.change(|state| {
            state.failed.remove(&ticket);
            state.lost.retain(|(hold, _)| hold.ticket != ticket);
            if let Ok(index) = state.hold(ticket) {
                state.holds.remove(index);
            }
            state.waiting.remove(&ticket)
        });
        drop(waiter);
    }

    /// Releases the hold `ticket`. Returns `None` if there is no such hold any more, and the reason
    /// if it was lost: earlier, or, if `check`, because the file no longer has its name. If the
    /// release fails, the hold is released all the same. `remove` names the lock file to remove
    /// once no waiter here wants it.
    pub(crate) fn release(
        self: &Arc<Self>,
        ticket: Ticket,
        remove: Option<&Arc<LockPath>>,
        check: bool,
    ) -> io::Result<Option<Result<(), LostReason>>> {
        let (released, advanced) = self.change(|state| {
            if let Ok(index) = state.hold(ticket) {
                let released = state.holds.remove(index)?;
                let named = !check || state.is_held();
                if let Some(lock_path) = remove {
                    state.remove = Some(Arc::clone(lock_path));
                }
                // Another hold of the owner that was lost earlier counts now.
                if state.standing(released.requester.owner).is_err() {
                    state
                        .wake
                        .extend(mem::take(&mut state.loss_watchers).into_values());
                }
                return Some(if named {
                    Ok(())
                } else {
                    Err(LostReason::Broken)
                });
            }
            let lost = state
                .lost
                .iter()
                .position(|(hold, _)| hold.ticket == ticket)?;
            Some(Err(state.lost.swap_remove(lost).1))
        });
        advanced.map(|()| released)
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

    /// Cancels the waits that `concerns` selects. With a `reason`, also takes the selected holds
    /// away.
    pub(crate) fn revoke(
        self: &Arc<Self>,
        reason: Option<LostReason>,
        concerns: impl Fn(Ticket, Requester) -> bool,
    ) {
        let _ = self.change(|state| {
            let concerned = |(ticket, waiter): (&Ticket, &Waiter)| {
                concerns(*ticket, waiter.requester).then_some(*ticket)
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
    fn expiry(
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

    /// When the hold `ticket` expires, if it does.
    pub(crate) fn expires(&self, ticket: Ticket) -> Option<Instant> {
        let state = self.state();
        let index = state.hold(ticket).ok()?;
        state.holds[index].expiry.as_ref().map(TimerEntry::at)
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
            let _ = self.change(|state| {
                let (broken, kept): (VecDeque<_>, _) = mem::take(&mut state.holds)
                    .into_iter()
                    .partition(|hold| held.contains(&hold.ticket));
                state.holds = kept;
                let untold = broken.iter().filter(|hold| !hold.told);
                let untold = untold.map(|hold| (hold.ticket, Failure::Broken));
                state.failed.extend(untold);
                state.lose(broken, LostReason::Broken);
            });
            return Ok(true);
        }
        if !protocol.is_existence_lock() {
            let foreign = self.holder(OwnerId::PROCESS, protocol)?;
            return foreign.map_or(Ok(false), |_| Err(io::ErrorKind::Unsupported.into()));
        }
        let (broken, _) = self.change(|state| match state.held {
            // Acquired by now, or about to be handed on.
            Some(_) => Ok(false),
            None => protocol.backend().break_lock(&state.object, require_owner),
        });
        broken
    }

    /// Whether the hold `ticket` is neither released nor lost.
    pub(crate) fn holds(&self, ticket: Ticket) -> bool {
        self.state().hold(ticket).is_ok()
    }

    /// Forgets the lost holds of a handle, once no caller can ask for them.
    pub(crate) fn forget(&self, handle: u64) {
        self.state()
            .lost
            .retain(|(hold, _)| hold.requester.handle != handle);
    }

    /// Whether `owner` holds the lock, or why it lost it.
    pub(crate) fn standing(&self, owner: OwnerId) -> Result<bool, LostReason> {
        self.state().standing(owner)
    }

    /// Ready when `owner` has lost its hold. `watcher` identifies the caller, which removes the
    /// waker with [`unwatch`](Self::unwatch).
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

    /// A holder of the lock, in this engine or elsewhere; preferably `asking`.
    pub(crate) fn holder(&self, asking: OwnerId, protocol: Protocol) -> io::Result<Option<Holder>> {
        let state = self.state();
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
        let found = match state.contender {
            // An existence lock can be inspected without a try.
            _ if protocol.is_existence_lock() => protocol.backend().holder(&state.object)?,
            // A waiter contends for the lock, so it is held. A try to find the holder would get in
            // the waiter's way.
            Contender::Elected(_) | Contender::Blocked { .. } | Contender::Polling(_) => {
                let record = sys::holder(&state.object.file).ok().flatten();
                let (mode, pid) = record.unwrap_or((Mode::Exclusive, None));
                Some(ForeignHolder {
                    pid,
                    ..ForeignHolder::new(mode)
                })
            }
            Contender::None | Contender::Yielding(_) => protocol.backend().holder(&state.object)?,
        };
        Ok(found.map(|found| Holder { owner: None, found }))
    }

    /// The owners that the wait of `ticket` depends on; `None` if it does not wait any more.
    pub(crate) fn blockers(&self, ticket: Ticket) -> Option<Vec<OwnerId>> {
        let state = self.state();
        let request = state.waiting.get(&ticket)?.request;
        let ahead = || {
            let ahead = state.waiting.iter().take_while(|(t, _)| **t != ticket);
            ahead.map(|(_, waiter)| waiter)
        };
        let alike = |other: Request| other == request && request.mode == Mode::Shared;
        let joins = state.held.is_none_or(|held| held.joins(request));
        if joins && request.mode == Mode::Shared && ahead().all(|waiter| alike(waiter.request)) {
            return Some(Vec::new());
        }
        let holders = state.holds.iter().map(|hold| hold.requester.owner);
        Some(
            holders
                .chain(ahead().map(|waiter| waiter.requester.owner))
                .collect(),
        )
    }

    /// The numbers of holders and of waiters in this engine.
    pub(crate) fn len(&self) -> (usize, usize) {
        let state = self.state();
        (state.holds.len(), state.waiting.len())
    }

    /// Whether the file could not be unlocked, which makes this queue unusable.
    pub(crate) fn is_poisoned(&self) -> bool {
        self.poisoned.load(Ordering::Acquire)
    }

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
        let (doubt, _) = self.change(|state| match event {
            Event::Poll => {
                if let Contender::Polling(_) = state.contender {
                    state.try_for_head(self);
                }
                None
            }
            Event::Notice => state.notice(self),
            Event::Doubt => {
                if state.held.is_some() && !state.is_held() {
                    let holds = mem::take(&mut state.holds);
                    state.lose(holds, LostReason::Broken);
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
        });
        drop(doubt);
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
        if self.holds.iter().any(|hold| hold.requester.owner == owner) {
            return Ok(true);
        }
        let lost = self
            .lost
            .iter()
            .find(|(hold, _)| hold.requester.owner == owner);
        lost.map_or(Ok(false), |(_, reason)| Err(*reason))
    }

    fn head(&self) -> Option<Head> {
        self.waiting.front().map(|(ticket, waiter)| Head {
            ticket: *ticket,
            request: waiter.request,
            blocking: waiter.blocking,
        })
    }

    /// Checks the entry after a change. The caller drops the returned timer, which is not needed
    /// any more.
    fn notice(&mut self, queue: &Arc<LockQueue>) -> Option<TimerEntry> {
        let mut needless = None;
        if self.held.is_none() || self.is_held() {
            needless = self.doubt.take();
        } else if self.doubt.is_none() {
            // Later changes of the entry do not postpone it.
            let again = queue.teller(Event::Doubt);
            let at = Instant::now() + LOSS_GRACE;
            self.doubt = queue.services.timer.wake_at(at, again).ok();
        }
        // `None` if a waiter has just entered the queue, after a try of its own.
        if let Contender::Polling(_) | Contender::None = self.contender {
            self.try_for_head(queue);
        }
        needless
    }

    /// Whether the lock held here is still the one that other processes see.
    fn is_held(&self) -> bool {
        self.held
            .is_none_or(|held| held.request.protocol.backend().is_held(&self.object))
    }

    /// Takes the lock, or joins its sharers, if no other holder or waiter is in the way.
    fn try_take(
        &mut self,
        queue: &Arc<LockQueue>,
        request: Request,
        wait: bool,
    ) -> Result<bool, Failure> {
        // During a fairness pause, a caller that can wait does.
        if !self.waiting.is_empty() || wait && matches!(self.contender, Contender::Yielding(_)) {
            return Ok(false);
        }
        if let Some(held) = self.held {
            return Ok(held.joins(request) && !(wait && self.is_due(queue)));
        }
        // Before the try, so that no change after it is missed.
        self.watch(queue);
        let taken = self.try_lock(request);
        let taken = taken.map_err(|e| self.failure(e))?;
        if taken {
            self.taken(queue, request).handed = 1;
        }
        Ok(taken)
    }

    /// Makes a try. A lock that is out of reach for the moment counts as held.
    fn try_lock(&mut self, request: Request) -> io::Result<bool> {
        if request.needs_write() && !self.object.writable {
            let writable = self.another(true)?;
            self.spare = Some(mem::replace(&mut self.object, writable));
        }
        let tried = request.protocol.backend().try_lock(&self.object, request);
        self.out_of_reach = tried
            .as_ref()
            .is_err_and(|e| e.kind() == io::ErrorKind::ResourceBusy && e.get_ref().is_some());
        if self.out_of_reach { Ok(false) } else { tried }
    }

    /// Watches for changes, if it is an existence lock.
    fn watch(&mut self, queue: &Arc<LockQueue>) {
        let Some(name) = self.object.as_marker() else {
            return;
        };
        self.watch.get_or_insert_with(|| {
            let database = name.database.as_ref().and_then(|path| path.file_name());
            let interest = Interest {
                name: database.unwrap_or(name.name()).to_owned(),
                content: database.is_some(),
                waker: queue.teller(Event::Notice),
            };
            queue.services.watcher.watch(&self.object.file, interest)
        });
    }

    /// Watches for the end of the process that holds an existence lock, if a waiter is queued.
    fn watch_holder(&mut self, queue: &Arc<LockQueue>) {
        let Some(head) = self.head() else { return };
        let holder_pid = head.request.protocol.backend().holder_pid(&self.object);
        if self.holder_pid.as_ref().map(|(pid, _)| *pid) == holder_pid {
            return;
        }
        self.holder_pid = holder_pid.map(|pid| {
            let watcher = &queue.services.watcher;
            let watch = watcher.watch_process(pid, queue.teller(Event::Notice));
            // It may have ended since the try.
            self.out_of_reach |= watch.is_err();
            (pid, watch.ok())
        });
    }

    /// Makes a try for the head of the queue, if the lock is not held here.
    fn try_for_head(&mut self, queue: &LockQueue) {
        self.contender = Contender::None;
        let (Some(head), None) = (self.head(), self.held) else {
            self.holder_pid = None;
            return;
        };
        match self.try_lock(head.request) {
            Ok(true) => {
                self.holder_pid = None;
                self.taken(queue, head.request);
            }
            // Perhaps a thread can wait in the kernel by now.
            Ok(false) => {}
            Err(e) => self.fail(None, self.failure(e)),
        }
    }

    /// What an error of a try means: the directory of an existence lock is gone, or the error
    /// itself.
    fn failure(&self, error: io::Error) -> Failure {
        if self.object.as_marker().is_some() && error.kind() == io::ErrorKind::NotFound {
            Failure::Replaced
        } else {
            Failure::Io(error)
        }
    }

    /// Whether this engine has had the lock for so long that a fairness pause is due.
    fn is_due(&self, queue: &LockQueue) -> bool {
        let pause = queue.services.pause;
        pause.is_some_and(|pause| self.streak.is_due(pause, Instant::now()))
    }

    /// Records that this engine acquired the lock from outside.
    fn taken(&mut self, queue: &LockQueue, request: Request) -> &mut KernelLock {
        if let Some(pause) = queue.services.pause {
            self.streak.taken(pause, Instant::now());
        }
        self.held.insert(KernelLock::new(request))
    }

    /// Does whatever the state allows next. Fails if the lock could not be given back.
    fn advance(&mut self, queue: &Arc<LockQueue>) -> io::Result<()> {
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
                match by {
                    Some(_) => _ = wait.interrupt(),
                    None => queue.services.waiter_pool.cancel(&wait),
                }
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

    /// Moves the head of the queue to the holders.
    fn grant(&mut self, queue: &Arc<LockQueue>) {
        if let Some((ticket, waiter)) = self.waiting.pop_front() {
            match queue.expiry(ticket, waiter.max_hold) {
                Ok(expiry) => {
                    let Waiter {
                        requester, request, ..
                    } = waiter;
                    self.holds.push_back(Hold {
                        ticket,
                        requester,
                        mode: request.mode,
                        told: false,
                        expiry,
                    });
                }
                Err(e) => drop(self.failed.insert(ticket, Failure::Io(e))),
            }
            self.wake.push(waiter.wake);
        }
    }

    /// Ends the wait of `ticket`, or of the head of the queue if there is none.
    fn fail(&mut self, ticket: Option<Ticket>, failure: Failure) {
        let ticket = ticket.or(self.head().map(|head| head.ticket));
        if let Some(ticket) = ticket
            && let Some(waiter) = self.waiting.remove(&ticket)
        {
            self.failed.insert(ticket, failure);
            self.wake.push(waiter.wake);
        }
    }

    /// Records that holds were lost.
    fn lose(&mut self, holds: VecDeque<Hold>, reason: LostReason) {
        if holds.is_empty() {
            return;
        }
        self.lost
            .extend(holds.into_iter().map(|hold| (hold, reason)));
        let watchers = mem::take(&mut self.loss_watchers);
        self.wake.extend(watchers.into_values());
    }

    /// Sends the head of the queue into the kernel, or a helper on its behalf.
    fn send(&mut self, queue: &Arc<LockQueue>, head: Head) {
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

    /// Another open description of the file.
    fn another(&mut self, write: bool) -> io::Result<Arc<LockObject>> {
        if let Some(spare) = self.spare.take_if(|spare| spare.writable || !write) {
            return Ok(spare);
        }
        let file = reopen(&self.object.file, write)?;
        Ok(Arc::new(LockObject::file(file, write)))
    }

    /// A wait on a description of its own.
    fn kernel_wait(&mut self, queue: &LockQueue, request: Request) -> io::Result<Arc<KernelWait>> {
        let signal = queue.services.signal.map_or_else(sys::Signal::any, Ok)?;
        let object = self.another(request.needs_write() || self.object.writable)?;
        let local = !queue.network;
        KernelWait::new(object, local, request, signal, &queue.services.timer).map(Arc::new)
    }

    /// Sets the timer to try for the head of the queue, since no thread can wait for it.
    fn poll_later(&mut self, queue: &Arc<LockQueue>) {
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

    /// Gives the lock back to the kernel. Removes the file first, if that was requested and no
    /// waiter is queued here. A lock that cannot be given back goes with its descriptor.
    fn give_back(&mut self, queue: &Arc<LockQueue>) -> io::Result<()> {
        let Some(KernelLock { request, .. }) = self.held.take() else {
            return Ok(());
        };
        let vacant = self.waiting.is_empty();
        let lock_path = self.remove.take_if(|_| vacant);
        let (backend, removed) = match lock_path {
            Some(lock_path) => self.remove_file(queue, request, &lock_path),
            None => (request.protocol.backend(), Ok(())),
        };
        let unlocked = backend.unlock(&self.object);
        if unlocked.is_err() && self.object.as_marker().is_none() {
            queue.poisoned.store(true, Ordering::Release);
            let detached = sys::detach(&self.object.file);
            debug_assert!(detached.is_ok(), "{detached:?}");
        } else if let Some(pause) = queue.services.pause {
            let now = Instant::now();
            let until = self
                .streak
                .left(pause, now, matches!(self.contender, Contender::None));
            // Without a timer there is no pause.
            if let Some(until) = until
                && let Ok(alarm) = queue
                    .services
                    .timer
                    .wake_at(until, queue.teller(Event::Resume))
            {
                self.contender = Contender::Yielding(alarm);
            }
        }
        if let Contender::Polling(None) = self.contender {
            self.contender = Contender::None;
        }
        unlocked.and(removed)
    }

    /// Removes the lock file if no other process relies on it. A sharer elsewhere does, so the last
    /// sharer removes it. So does a holder in the other lock family, which a lock of one family
    /// does not exclude. The first result is the backend that gives back what is held afterwards.
    fn remove_file(
        &self,
        queue: &LockQueue,
        request: Request,
        lock_path: &LockPath,
    ) -> (&'static dyn Backend, io::Result<()>) {
        let exclusive = request.exclusive();
        let everybody = Request {
            protocol: Protocol::Native,
            ..exclusive
        };
        // On a network file system the families are one.
        let one = ALL_ONE || queue.network;
        let by = if one || !self.object.writable && !lock_path.is_guests() {
            exclusive
        } else {
            everybody
        };
        let backend = by.protocol.backend();
        let alone = by == request || backend.try_lock(&self.object, by).unwrap_or(false);
        let removed = match alone {
            true => lock_path.remove(queue.identity),
            false => Ok(()),
        };
        (backend, removed)
    }
}

/// A random moment from `pause` to one and a half times `pause` from now.
fn later(pause: Duration) -> Instant {
    let part = RandomState::new().hash_one(()) % 512;
    Instant::now() + pause + pause * u32::try_from(part).unwrap_or(0) / 1024
}

#[cfg(all(test, target_os = "linux", not(any(loom, shuttle))))]
mod tests {
    use super::*;

    /// A queue for a file, in an engine of its own with `limit` helper threads.
    fn queue(path: &std::path::Path, limit: usize) -> Arc<LockQueue> {
        let services = Services {
            timer: Arc::new(Timer::new(sys::keep_signals_away)),
            waiter_pool: Arc::new(WaiterPool::new(limit)),
            watcher: Arc::new(Watcher::default()),
            hand_off_limit: 0,
            hand_off_time: Duration::ZERO,
            pause: None,
            signal: None,
            polled: AtomicUsize::new(0),
            epoch: Instant::now(),
        };
        let lock_path = LockPath::ambient(path, true, true).expect("the file can be created");
        let open_lock = lock_path.open().expect("the file can be opened");
        Arc::new(LockQueue::new(open_lock, Arc::new(services)))
    }

    #[test]
    fn the_error_of_a_helper_is_told_to_whom_it_waits_for() {
        let dir = tempfile::tempdir().expect("a directory can be created");
        let path = dir.path().join("lock");
        let request = Request {
            mode: Mode::Exclusive,
            protocol: Protocol::Flock,
            stale_after: None,
        };
        let requester = Requester {
            owner: OwnerId::PROCESS,
            handle: 1,
        };
        let (holder, waiter) = (queue(&path, 0), queue(&path, 1));
        let held = holder.enter(request, requester, None, false, true);
        let Enqueued::Granted(held) = held else {
            panic!("{held:?}");
        };
        let entered = waiter.enter(request, requester, None, true, false);
        let Enqueued::Queued(ticket) = entered else {
            panic!("{entered:?}");
        };
        let wait = match &waiter.state().contender {
            Contender::Blocked { wait, by: None } => Arc::clone(wait),
            contender => panic!("{contender:?}"),
        };
        let error = io::Error::from_raw_os_error(libc::ENOLCK);
        waiter.settle(&wait, Outcome::Failed(error)).wake();
        let turn = waiter.turn(ticket, Waker::noop());
        let WaitStatus::Failed(Failure::Io(error)) = turn else {
            panic!("{turn:?}");
        };
        assert_eq!(error.raw_os_error(), Some(libc::ENOLCK));
        // The real helper keeps waiting, on behalf of no waiter, and gives back the lock it gets.
        let released = holder.release(held, None, false);
        assert!(matches!(released, Ok(Some(Ok(())))));
    }
}
