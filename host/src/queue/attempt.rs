//! Tries to take the lock, and what they need: descriptors, and notices of changes.

use std::io;
use std::mem;
use std::sync::Arc;
use std::time::Instant;

use super::state::{Contender, KernelLock, State};
use super::{Event, Failure, LockQueue};
use crate::backend::Request;
use crate::lock_path::reopen;
use crate::object::LockObject;
use crate::protocol::Protocol;
use crate::sys;
use crate::waiter::KernelWait;
use crate::watch::Interest;

impl State {
    /// Takes the lock, or joins its sharers, if no other holder or waiter is in the way.
    #[inline]
    pub(super) fn try_take(
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
        self.watch(queue, request.protocol);
        let taken = self.try_lock(request);
        let taken = taken.map_err(|e| self.failure(e))?;
        if taken {
            self.taken(queue, request).handed = 1;
        }
        Ok(taken)
    }

    /// Makes a try. A lock that is out of reach for the moment counts as held.
    #[inline]
    pub(super) fn try_lock(&mut self, request: Request) -> io::Result<bool> {
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

    /// What an error of a try means: the directory of an existence lock is gone, or the error
    /// itself.
    pub(super) fn failure(&self, error: io::Error) -> Failure {
        if self.object.as_marker().is_some() && error.kind() == io::ErrorKind::NotFound {
            Failure::Replaced
        } else {
            Failure::Io(error)
        }
    }

    /// Makes a try for the head of the queue, if the lock is not held here.
    pub(super) fn try_for_head(&mut self, queue: &LockQueue) {
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

    /// Records that this engine acquired the lock from outside.
    #[inline]
    pub(super) fn taken(&mut self, queue: &LockQueue, request: Request) -> &mut KernelLock {
        if let Some(pause) = queue.services.pause {
            self.streak.taken(pause, Instant::now());
        }
        self.held.insert(KernelLock::new(request))
    }

    /// Watches for changes, if it is an existence lock.
    pub(super) fn watch(&mut self, queue: &Arc<LockQueue>, protocol: Protocol) {
        if self.object.as_marker().is_none() {
            return;
        }
        self.watch.get_or_insert_with(|| {
            let interest = Interest {
                entries: protocol.backend().watched(&self.object),
                waker: queue.teller(Event::Notice),
            };
            queue.services.watcher.watch(&self.object.file, interest)
        });
    }

    /// Watches for the end of the process that holds an existence lock, if a waiter is queued.
    pub(super) fn watch_holder(&mut self, queue: &Arc<LockQueue>) {
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

    /// Another open description of the file.
    pub(super) fn another(&mut self, write: bool) -> io::Result<Arc<LockObject>> {
        if let Some(spare) = self.spare.take_if(|spare| spare.writable || !write) {
            return Ok(spare);
        }
        let file = reopen(&self.object.file, write)?;
        Ok(Arc::new(LockObject::file(file, write)))
    }

    /// A wait on a description of its own.
    pub(super) fn kernel_wait(
        &mut self,
        queue: &LockQueue,
        request: Request,
    ) -> io::Result<Arc<KernelWait>> {
        let signal = queue.services.signal.map_or_else(sys::Signal::any, Ok)?;
        let object = self.another(request.needs_write() || self.object.writable)?;
        let local = queue.is_local(&self.object.file);
        KernelWait::new(object, local, request, signal, &queue.services.timer).map(Arc::new)
    }
}
