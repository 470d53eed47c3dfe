//! The queue of one file: the holders in this engine, and the waiters.
//!
//! ```text
//!            enter                     grant
//!  handle ----------> waiting (FIFO) ----------> holds ----> release
//!                         |                        ^            |
//!                         | the head is sent       | hand-off   | no waiter, or the head
//!                         v                        | <----------+ waits in the kernel
//!                  wait by a thread -------> the system's lock -> given back
//! ```
//!
//! All [state] is behind one mutex. No thread makes a call under it that may take long: it waits,
//! [tries](attempt) and [gives back](give_back) outside of it. Every change of the state ends by
//! [deciding](decide) what happens next. Wakers, interruptions and slow releases are collected, and
//! carried out after the mutex is released.
//!
//! Other processes see one holder and at most one [waiter](crate::waiter) of this engine, however
//! many there are. The head of the queue waits: a blocking caller on its own thread, a task through a
//! helper thread. The helper's wait serves any head that makes the same request, so it outlives the
//! waiter it was started for.
//!
//! When the last holder releases, the lock is handed to the next waiter without a system call, but
//! only for so many times and so long in a row. After that, the head is sent into the kernel's
//! queue while the lock is still held here. So it has its place among the waiters of other
//! processes before the lock goes back, and the release wakes the process that came first.

use std::io;
use std::mem;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::task::Waker;
use std::time::Duration;

use crate::backend::Request;
use crate::fairness::Pause;
use crate::lock_path::{Identity, LockPath};
use crate::object::{LockObject, OpenLock};
use crate::owner::{Requester, Ticket};
use crate::services::Services;
use crate::sync::{Mutex, MutexGuard, WakeList, lock};
use crate::sys::Backing;
use crate::table::Entry;
use crate::types::LostReason;
use crate::waiter::{LockWait, Outcome};
use crate::watch::Watch;

mod advance;
mod answers;
mod attempt;
mod decide;
mod events;
mod fast;
mod give_back;
mod inspect;
mod invariants;
mod line;
mod losses;
mod settle;
mod state;
#[cfg(all(test, target_os = "linux", not(any(loom, shuttle))))]
mod tests;

pub(crate) use answers::{Enqueued, Failure, Name, WaitStatus};
pub(crate) use events::Event;
use events::Inbox;
use give_back::{Finish, Release};
pub(crate) use inspect::Party;
pub(crate) use line::Place;
pub(crate) use losses::Losses;
use state::{Contender, State, Waiter};

/// How much longer a lock of a server is handed on: about what its requests take longer than a system
/// call with a process that wakes up.
const SERVER_TIMES: u32 = 20;

#[derive(Debug)]
pub(crate) struct LockQueue {
    pub(crate) identity: Identity,
    /// A path that led to it.
    pub(crate) name: PathBuf,
    /// Whether the file lies on a network file system, where `flock` and record locks are one.
    pub(crate) network: bool,
    services: Arc<Services>,
    _entry: Entry<LockQueue>,
    /// Whether a writable description exists or can be opened. An exclusive record lock needs one.
    writable: AtomicBool,
    /// The file could not be unlocked, so its open file description was closed.
    poisoned: AtomicBool,
    /// Whether this system alone decides when a call for the lock returns, and not a file server or
    /// a program.
    local: bool,
    existence: bool,
    /// Whether a server keeps the lock.
    remote: bool,
    /// How it leaves the lock alone for others. A server keeps its own order.
    pause: Option<Pause>,
    /// For how long it may be handed on in this engine before others get their turn.
    hand_off_time: Duration,
    inbox: Mutex<Inbox>,
    /// Reports changes of an existence lock that is held.
    watch: Mutex<Option<Watch>>,
    state: Mutex<State>,
}

impl Drop for LockQueue {
    fn drop(&mut self) {
        let state = self.state.get_mut();
        let totals = state.unwrap_or_else(PoisonError::into_inner).totals;
        self.services.past.add(&totals);
    }
}

impl LockQueue {
    pub(crate) fn new(
        open_lock: OpenLock,
        name: PathBuf,
        services: Arc<Services>,
        entry: Entry<Self>,
    ) -> Arc<Self> {
        let OpenLock {
            object,
            identity,
            backing,
        } = open_lock;
        #[cfg(feature = "remote")]
        let changed = object.as_claim().map(|claim| Arc::clone(&claim.changed));
        let remote = object.is_on_server();
        let queue = Arc::new(Self {
            identity,
            name,
            network: backing == Backing::Network,
            _entry: entry,
            writable: AtomicBool::new(object.writable),
            poisoned: AtomicBool::new(false),
            local: backing == Backing::Kernel,
            existence: object.as_marker().is_some(),
            remote,
            pause: services.pause.filter(|_| !remote),
            hand_off_time: services.hand_off_time * if remote { SERVER_TIMES } else { 1 },
            inbox: Mutex::default(),
            watch: Mutex::default(),
            state: Mutex::new(State::new(object)),
            services,
        });
        #[cfg(feature = "remote")]
        if let Some(changed) = changed {
            changed.listen(queue.teller(Event::Notice));
        }
        queue
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

    /// Applies `change`, advances the state and wakes the waiters it affects. If the lock has to be
    /// given back and that may take long, a helper does it.
    fn change<R>(self: &Arc<Self>, change: impl FnOnce(&mut State) -> R) -> R {
        self.change_and(Finish::IfLocal, change).0
    }

    /// Like [`change`](Self::change), but gives the lock back on another thread. The second result
    /// is an error if that failed.
    fn change_and<R>(
        self: &Arc<Self>,
        finish: Finish,
        change: impl FnOnce(&mut State) -> R,
    ) -> (R, io::Result<()>) {
        let (result, advanced, woken, releases) = self.change_quietly(change);
        woken.wake();
        let finished = self.finish(releases, finish);
        (result, advanced.and(finished))
    }

    /// Leaves the waking, and the releases, to the caller.
    fn change_quietly<R>(
        self: &Arc<Self>,
        change: impl FnOnce(&mut State) -> R,
    ) -> (R, io::Result<()>, WakeList, Vec<Release>) {
        let mut state = self.state();
        let result = change(&mut state);
        let advanced = state.advance(self);
        debug_assert_eq!(state.broken_invariant(), None, "{state:?}");
        let woken = WakeList(mem::take(&mut state.wake));
        let canceled = mem::take(&mut state.canceled);
        let releases = mem::take(&mut state.releases);
        drop(state);
        for (wait, by) in canceled {
            self.services.waiter_pool.cancel(&wait, by.is_none());
        }
        (result, advanced, woken, releases)
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
        if request.fencing && !self.local {
            let why = "fencing tokens are for file systems that are known to be local";
            let error = io::Error::new(io::ErrorKind::Unsupported, why);
            return Enqueued::Failed(Failure::Io(error));
        }
        // A task leaves it to a helper to ask a server. A wait in the queue of a lock server is a try,
        // too, and one that ends at the deadline.
        let slow = !self.local && !self.existence;
        let tries_here = self.existence || slow && blocking && !(wait && self.remote);
        let waiter = Waiter {
            request,
            requester,
            max_hold,
            wake: Waker::noop().clone(),
            blocking,
            tries: slow && !blocking && !wait,
            since: None,
        };
        if self.remote {
            // It may have been lost since, and no helper may have recorded that yet.
            self.check_loss(false);
        }
        let entered = if tries_here {
            self.enter_slowly(&waiter, wait)
        } else {
            None
        };
        let entered = entered.unwrap_or_else(|| {
            self.change(|state| {
                let taken = state.try_take(self, request, wait)?;
                let ticket = state.ticket();
                if taken {
                    // Without a hold, the lock is given back.
                    let expiry = self.expiry(ticket, max_hold).map_err(Failure::Io)?;
                    let token = state.token(request).map_err(Failure::Io)?;
                    state.add(waiter.hold(ticket, token, true, expiry));
                    return Ok(Enqueued::Granted(ticket));
                }
                let queues = wait || waiter.tries && state.is_left_alone();
                if !queues {
                    return Err(Failure::WouldBlock);
                }
                state.wait(self, ticket, waiter);
                Ok(Enqueued::Queued(ticket))
            })
        });
        entered.unwrap_or_else(Enqueued::Failed)
    }

    /// The status of the wait of `ticket`. `waker` is woken when it changes.
    pub(crate) fn turn(self: &Arc<Self>, ticket: Ticket, waker: &Waker) -> WaitStatus {
        // Dropping a waker can drop a task, which can call back into this queue: not under the
        // mutex.
        let mut old = None;
        let turn = self.change(|state| {
            if let Some(waiter) = state.waiting.get_mut(ticket) {
                if !waiter.wake.will_wake(waker) {
                    old = Some(mem::replace(&mut waiter.wake, waker.clone()));
                }
                if !matches!(state.contender, Contender::Elected(elected) if elected == ticket) {
                    return WaitStatus::Wait;
                }
                let request = waiter.request;
                let Ok(wait) = state.lock_wait(self, request) else {
                    // The timer can try for this thread.
                    state.contender = Contender::None;
                    state.poll_later(self);
                    return WaitStatus::Wait;
                };
                state.contender = Contender::Blocked {
                    wait: Arc::clone(&wait),
                    by: Some(ticket),
                };
                return WaitStatus::WaitHere(wait);
            }
            if let Ok(index) = state.hold(ticket) {
                state.holds[index].told = true;
                return WaitStatus::Granted;
            }
            // Granted, and taken away before the waiter learned of it.
            let lost = state.loss(ticket).map(Failure::Lost);
            state.lost.retain(|(hold, _)| hold.ticket != ticket);
            let failure = state.failed.remove(&ticket).or(lost);
            debug_assert!(
                failure.is_some(),
                "each ticket is somewhere until its waiter learns"
            );
            WaitStatus::Failed(failure.unwrap_or(Failure::Canceled))
        });
        drop(old);
        turn
    }

    /// Reports how a wait ended. The caller wakes the returned list.
    #[must_use = "waiters hang unless they are woken"]
    pub(crate) fn settle(self: &Arc<Self>, wait: &Arc<LockWait>, outcome: Outcome) -> WakeList {
        let locked = matches!(outcome, Outcome::Locked);
        // What happened to the entry before is found out below, as is what a server did since.
        let unwatched =
            locked && (self.remote || self.existence && self.watch(wait.request.protocol));
        let ((), _, woken, releases) =
            self.change_quietly(|state| state.settled(self, wait, outcome));
        // No caller waits for the result.
        let _ = self.finish(releases, Finish::IfLocal);
        if unwatched {
            self.check_loss(false);
        }
        woken
    }

    /// Abandons a wait, or gives back what was granted to it in the meantime.
    pub(crate) fn abandon(self: &Arc<Self>, ticket: Ticket) {
        let named = !self.existence || self.local && self.sees(ticket);
        let waiter = self.change(|state| {
            state.failed.remove(&ticket);
            state.lost.retain(|(hold, _)| hold.ticket != ticket);
            if let Ok(index) = state.hold(ticket) {
                state.holds.remove(index);
                if !named {
                    state.distrust();
                }
            }
            state.leave(ticket)
        });
        drop(waiter);
    }

    /// Releases the hold `ticket`, and waits until the lock is given back. Returns `None` if there
    /// is no such hold any more, and the reason if it was lost: earlier, or because the path does not
    /// lead to the file any more. If the release fails, the hold is released all the same. `remove`
    /// names the lock file to remove once no waiter here wants it.
    pub(crate) fn release(
        self: &Arc<Self>,
        ticket: Ticket,
        remove: Option<&Arc<LockPath>>,
        name: Name,
    ) -> io::Result<Option<Result<(), LostReason>>> {
        if self.remote {
            // A loss that the helper which was told of it has not recorded yet.
            self.check_loss(true);
        }
        if remove.is_none()
            && name == Name::Kept
            && let Some(given_back) = self.release_now(ticket)
        {
            return given_back.map(|()| Some(Ok(())));
        }
        let named = match name {
            Name::Kept => true,
            Name::Gone => false,
            Name::IsTheLock => self.sees(ticket),
        };
        let finish = self.finish_for(ticket, Finish::Patiently);
        let (released, advanced) =
            self.change_and(finish, |state| state.release(ticket, remove, named));
        advanced.map(|()| released)
    }

    /// Releases the hold `ticket` for a caller that does not ask for the result, and that must not
    /// wait for others.
    pub(crate) fn drop_hold(self: &Arc<Self>, ticket: Ticket, remove: Option<&Arc<LockPath>>) {
        if remove.is_none() && self.release_now(ticket).is_some() {
            return;
        }
        let named = !self.existence || self.sees(ticket);
        let finish = self.finish_for(ticket, Finish::Promptly);
        let _ = self.change_and(finish, |state| state.release(ticket, remove, named));
    }
}
