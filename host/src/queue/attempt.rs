//! Tries to take the lock, and the objects that they need.
//!
//! A try of a kernel lock of a local file takes a microsecond, and is made under the mutex. Any
//! other may take long: it reads a directory or a database, or asks a server. It is made outside of
//! the mutex, by one thread at a time, and meanwhile that thread contends for the lock.

use std::io;
use std::mem;
use std::sync::Arc;
use std::time::Instant;

use super::state::{Contender, Head, HeldLock, State, Waiter};
use super::{Enqueued, Failure, LockQueue};
use crate::backend::{Request, is_out_of_reach};
use crate::fencing;
use crate::lock_path::reopen;
use crate::object::LockObject;
use crate::waiter::{LockWait, Source};

impl LockQueue {
    /// Whether a try may take long.
    pub(super) fn is_slow(&self) -> bool {
        self.existence || !self.local
    }

    /// Like [`enter`](Self::enter), but makes the try outside of the mutex. `None` if another holder,
    /// waiter or try is in the way.
    pub(super) fn enter_slowly(
        self: &Arc<Self>,
        waiter: &Waiter,
        wait: bool,
    ) -> Option<Result<Enqueued, Failure>> {
        let request = waiter.request;
        let (ticket, object) = {
            let mut state = self.state();
            if self.is_poisoned() {
                return Some(Err(Failure::Replaced));
            }
            let pauses = wait && state.streak.pause().is_some();
            if !state.is_left_alone() || pauses {
                return None;
            }
            (state.ticket(), state.begin_try(request))
        };
        let tried = self.try_with(object, request);
        let expiry = match &tried {
            Ok((_, true)) => self.expiry(ticket, waiter.max_hold).map_err(Failure::Io),
            _ => Ok(None),
        };
        let entered = self.change(|state| {
            if state.end_try(tried)? {
                let held = state.taken(self, request);
                (held.handed, held.renewed) = (1, false);
                // Without a hold, the lock is given back.
                let (expiry, token) = (expiry?, state.token(request).map_err(Failure::Io)?);
                state.add(waiter.hold(ticket, token, true, expiry));
                return Ok(Enqueued::Granted(ticket));
            }
            if !wait {
                return Err(Failure::WouldBlock);
            }
            // It came before those that entered during its try.
            state.wait(self, ticket, waiter.clone());
            Ok(Enqueued::Queued(ticket))
        });
        if self.remote {
            // What was told of it before it counted as held.
            self.check_loss(false);
        }
        Some(entered)
    }

    /// Makes a try for the head of the queue outside of the mutex.
    pub(super) fn poll_slowly(self: &Arc<Self>) {
        let (head, object) = {
            let mut state = self.state();
            let polls = matches!(state.contender, Contender::Polling(Some(_)));
            let (true, Some(head), None) = (polls, state.head(), state.held) else {
                return;
            };
            (head, state.begin_try(head.request))
        };
        self.try_for(head, object);
    }

    /// Makes a try for the head of the queue, which has [begun](State::begin_try).
    fn try_for(self: &Arc<Self>, head: Head, object: Result<Arc<LockObject>, Arc<LockObject>>) {
        let tried = self.try_with(object, head.request);
        self.change(|state| match state.end_try(tried) {
            Ok(true) => _ = state.taken(self, head.request),
            Ok(false) if head.tries => state.fail(Some(head.ticket), Failure::WouldBlock),
            Ok(false) => {}
            Err(failure) => state.fail(Some(head.ticket), failure),
        });
        if head.tries {
            // If it has the lock, it waits no more. Else another waiter came before it meanwhile.
            self.change(|state| state.fail(Some(head.ticket), Failure::WouldBlock));
        }
        if self.remote {
            // What was told of it before it counted as held.
            self.check_loss(false);
        }
    }

    /// A lock that is out of reach for the moment counts as held.
    fn try_with(
        self: &Arc<Self>,
        object: Result<Arc<LockObject>, Arc<LockObject>>,
        request: Request,
    ) -> io::Result<(Arc<LockObject>, bool)> {
        let object = match object {
            Ok(object) => object,
            Err(other) => Arc::new(LockObject::file(reopen(&other.file, true)?, true)),
        };
        if self.existence {
            self.watch(request.protocol);
        }
        match request.protocol.backend().try_lock(&object, request) {
            Err(e) if is_out_of_reach(&e) => Ok((object, false)),
            tried => Ok((object, tried?)),
        }
    }
}

impl State {
    /// Takes the lock, or joins its sharers, if no other holder or waiter is in the way.
    #[inline]
    pub(super) fn try_take(
        &mut self,
        queue: &LockQueue,
        request: Request,
        wait: bool,
    ) -> Result<bool, Failure> {
        if queue.is_poisoned() {
            return Err(Failure::Replaced);
        }
        // During a fairness pause, a caller that can wait does.
        if !self.waiting.is_empty() || wait && self.streak.pause().is_some() {
            return Ok(false);
        }
        if let Some(held) = self.held {
            let joins = held.joins(request) && self.is_certain();
            return Ok(joins && !(wait && self.held_back(queue).is_some()));
        }
        if queue.is_slow() {
            return Ok(false);
        }
        let taken = self.try_lock(request).map_err(Failure::Io)?;
        if taken {
            self.taken(queue, request).handed = 1;
        }
        Ok(taken)
    }

    /// Makes a try that does not take long.
    #[inline]
    fn try_lock(&mut self, request: Request) -> io::Result<bool> {
        if request.needs_write() && !self.object.writable {
            let spare = self.spare.take_if(|spare| spare.writable);
            let writable = match spare {
                Some(spare) => spare,
                None => Arc::new(LockObject::file(reopen(&self.object.file, true)?, true)),
            };
            self.spare = Some(mem::replace(&mut self.object, writable));
        }
        let backend = request.protocol.backend();
        backend.try_lock(&self.object, request)
    }

    /// The fencing token of a grant, from the lock that is held.
    pub(super) fn token(&self, request: Request) -> io::Result<Option<u64>> {
        #[cfg(feature = "remote")]
        if let Some(claim) = self.object.as_claim() {
            return Ok(claim.seat.token());
        }
        match request.fencing {
            true => fencing::token(&self.object.file, request.mode).map(Some),
            false => Ok(None),
        }
    }

    /// Whether no holder, waiter or try is in the way of a try.
    pub(super) fn is_left_alone(&self) -> bool {
        let free = matches!(self.contender, Contender::None | Contender::Yielding(_));
        free && self.held.is_none() && self.waiting.is_empty()
    }

    /// Lets a helper make a try for the head of the queue. Returns `false` if no thread is left.
    pub(super) fn try_elsewhere(&mut self, queue: &Arc<LockQueue>, head: Head) -> bool {
        let object = self.begin_try(head.request);
        let tries = Arc::clone(queue);
        let task = move || tries.try_for(head, object);
        let begun = queue.services.waiter_pool.run_task(task);
        if !begun {
            // No thread will end this try.
            self.contender = Contender::None;
        }
        begun
    }

    /// The object for a try outside of the mutex; an error if another has to be opened like it,
    /// for writing.
    fn begin_try(&mut self, request: Request) -> Result<Arc<LockObject>, Arc<LockObject>> {
        self.contender = Contender::Trying;
        if !request.needs_write() || self.object.writable {
            return Ok(Arc::clone(&self.object));
        }
        let spare = self.spare.as_ref().filter(|spare| spare.writable);
        spare.map_or_else(
            || Err(Arc::clone(&self.object)),
            |spare| Ok(Arc::clone(spare)),
        )
    }

    /// Records a try outside of the mutex. Returns whether the lock was acquired.
    fn end_try(&mut self, tried: io::Result<(Arc<LockObject>, bool)>) -> Result<bool, Failure> {
        self.contender = Contender::None;
        let (object, taken) = tried.map_err(|e| self.failure(e))?;
        if !Arc::ptr_eq(&object, &self.object) {
            self.spare = Some(mem::replace(&mut self.object, object));
        }
        Ok(taken)
    }

    /// What an error of a try means: the directory of an existence lock is gone, or the error
    /// itself.
    pub(super) fn failure(&self, error: io::Error) -> Failure {
        if self.object.as_marker().is_some() && error.kind() == io::ErrorKind::NotFound {
            Failure::Replaced
        } else {
            Failure::Io(error)
        }
    }

    /// Makes a try for the head of the queue, which no thread can wait for.
    pub(super) fn poll(&mut self, queue: &LockQueue) {
        let polls = matches!(self.contender, Contender::Polling(_));
        let (true, Some(head), None) = (polls, self.head(), self.held) else {
            return;
        };
        // Perhaps a thread can wait by now.
        self.contender = Contender::None;
        match self.try_lock(head.request) {
            Ok(true) => _ = self.taken(queue, head.request),
            Ok(false) => {}
            Err(e) => self.fail(None, Failure::Io(e)),
        }
    }

    /// Records that this engine acquired the lock from outside.
    #[inline]
    pub(super) fn taken(&mut self, queue: &LockQueue, request: Request) -> &mut HeldLock {
        if let Some(pause) = queue.pause {
            self.streak.taken(pause, Instant::now());
        }
        let id = self.ticket();
        self.held.insert(HeldLock::new(request, id))
    }

    /// A wait on an object of its own.
    pub(super) fn lock_wait(
        &mut self,
        queue: &LockQueue,
        request: Request,
    ) -> io::Result<Arc<LockWait>> {
        let write = request.needs_write() || self.object.writable;
        // Only this object knows the entry that a release failed to remove as one of ours.
        let source = if self.held.is_none() && self.object.has_created() {
            let renewed = Arc::new(self.object.renewed()?);
            Source::Open(mem::replace(&mut self.object, renewed))
        } else if let Some(spare) = self.spare.take_if(|spare| spare.writable || !write) {
            Source::Open(spare)
        } else {
            Source::Like {
                object: Arc::clone(&self.object),
                identity: queue.identity,
                write,
            }
        };
        LockWait::new(source, queue.local, request, &queue.services.means()).map(Arc::new)
    }
}
