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
//! All [state] is behind one mutex. No thread waits for the lock while it holds the mutex, but a try
//! of an existence lock does file I/O under it. [`State::advance`] alone decides what happens next;
//! every change ends by calling it. Wakers, interruptions and [slow releases](give_back) are
//! collected, and carried out after the mutex is released.
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

use std::fs::File;
use std::io;
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Waker;
use std::time::Duration;

use crate::backend::Request;
use crate::lock_path::{Identity, LockPath};
use crate::object::{LockObject, OpenLock};
use crate::owner::{Requester, Ticket};
use crate::registry::Entry;
use crate::services::Services;
use crate::sync::{Mutex, MutexGuard, WakeList, lock};
use crate::sys;
use crate::types::LostReason;
use crate::waiter::{KernelWait, Outcome};

mod advance;
mod answers;
mod attempt;
mod events;
mod fast;
mod give_back;
mod inspect;
mod invariants;
mod losses;
mod state;
#[cfg(all(test, target_os = "linux", not(any(loom, shuttle))))]
mod tests;

pub(crate) use answers::{Enqueued, Failure, Name, WaitStatus};
pub(crate) use events::Event;
use events::Inbox;
use give_back::Release;
pub(crate) use losses::Losses;
use state::{Contender, Hold, State, Waiter};

#[derive(Debug)]
pub(crate) struct LockQueue {
    pub(crate) identity: Identity,
    /// Whether the file lies on a network file system, where `flock` and record locks are one.
    pub(crate) network: bool,
    services: Arc<Services>,
    _entry: Entry,
    /// Whether a writable description exists or can be opened. An exclusive record lock needs one.
    writable: AtomicBool,
    /// The file could not be unlocked, so its open file description was closed.
    poisoned: AtomicBool,
    /// Whether this system alone decides when a wait for a lock returns, and not a file server or a
    /// program.
    local: OnceLock<bool>,
    /// Whether it is an existence lock. A try then takes more than a moment: it reads a directory
    /// or a database.
    slow: bool,
    inbox: Mutex<Inbox>,
    state: Mutex<State>,
}

impl LockQueue {
    pub(crate) fn new(open_lock: OpenLock, services: Arc<Services>, entry: Entry) -> Arc<Self> {
        let OpenLock {
            object,
            identity,
            network,
        } = open_lock;
        Arc::new(Self {
            identity,
            network,
            services,
            _entry: entry,
            writable: AtomicBool::new(object.writable),
            poisoned: AtomicBool::new(false),
            slow: object.as_marker().is_some(),
            local: OnceLock::new(),
            inbox: Mutex::default(),
            state: Mutex::new(State::new(object)),
        })
    }

    /// Whether the calls that give a lock of `file` back return at once.
    fn answers(&self, file: &File) -> bool {
        self.identity.has_device() || self.is_local(file)
    }

    fn is_local(&self, file: &File) -> bool {
        *self
            .local
            .get_or_init(|| !self.network && sys::is_known_to_be_local(file))
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
        let (result, _, woken, release) = self.change_quietly(change);
        woken.wake();
        if let Some(release) = release {
            self.finish_elsewhere(release);
        }
        result
    }

    /// Like [`change`](Self::change), but the calling thread gives the lock back. The second result
    /// is an error if that failed.
    fn change_and_finish<R>(
        self: &Arc<Self>,
        change: impl FnOnce(&mut State) -> R,
    ) -> (R, io::Result<()>) {
        let (result, given_back, woken, release) = self.change_quietly(change);
        woken.wake();
        let finished = release.map_or(Ok(()), |release| self.finish(release));
        (result, given_back.and(finished))
    }

    /// Leaves the waking, and the release, to the caller.
    fn change_quietly<R>(
        self: &Arc<Self>,
        change: impl FnOnce(&mut State) -> R,
    ) -> (R, io::Result<()>, WakeList, Option<Release>) {
        let mut state = self.state();
        let result = change(&mut state);
        let advanced = state.advance(self);
        debug_assert_eq!(state.broken_invariant(), None, "{state:?}");
        let wake = mem::take(&mut state.wake);
        let canceled = mem::take(&mut state.canceled);
        let release = state.release.take();
        drop(state);
        for (wait, by) in canceled {
            self.services.waiter_pool.cancel(&wait, by.is_none());
        }
        (result, advanced, WakeList(wake), release)
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
                        self.change(|_| ());
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
                self.change(|_| ());
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
        let turn = self.change(|state| {
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

    /// Reports how a wait in the kernel ended. The caller wakes the returned list.
    #[must_use = "waiters hang unless they are woken"]
    pub(crate) fn settle(self: &Arc<Self>, wait: &Arc<KernelWait>, outcome: Outcome) -> WakeList {
        let ((), _, woken, release) = self.change_quietly(|state| {
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
                let held = state.held.take();
                if held.is_some_and(|held| held.is_releasing()) {
                    // What was held is being given back, with a description that is still in use.
                    state.taken(self, wait.request);
                    return;
                }
                if let Some(held) = held {
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
        if let Some(release) = release {
            self.finish_elsewhere(release);
        }
        woken
    }

    /// Abandons a wait, or gives back what was granted to it in the meantime.
    pub(crate) fn abandon(self: &Arc<Self>, ticket: Ticket) {
        let waiter = self.change(|state| {
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
    /// if it was lost: earlier, or because the path does not lead to the file any more. If the
    /// release fails, the hold is released all the same. `remove` names the lock file to remove
    /// once no waiter here wants it.
    pub(crate) fn release(
        self: &Arc<Self>,
        ticket: Ticket,
        remove: Option<&Arc<LockPath>>,
        name: Name,
    ) -> io::Result<Option<Result<(), LostReason>>> {
        if remove.is_none()
            && name == Name::Kept
            && let Some(given_back) = self.release_now(ticket)
        {
            return given_back.map(|()| Some(Ok(())));
        }
        let (released, advanced) = self.change_and_finish(|state| {
            if let Ok(index) = state.hold(ticket) {
                let released = state.holds.remove(index)?;
                let named = match name {
                    Name::Kept => true,
                    Name::Gone => false,
                    Name::IsTheLock => state.is_held(),
                };
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
}
