//! Giving the lock back to the system.
//!
//! That can take long: a database has other users, a directory may be locked by another program, and
//! a file system may not answer. So unless it is known to be quick, it takes two steps. Under the
//! mutex the lock becomes *releasing*, and counts as held. The calls are made after the mutex is
//! released, and then the result is recorded. Others see the lock free in between, so a waiter in
//! the kernel may have it by the time the result is recorded.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use super::state::{Contender, KernelLock, State};
use super::{Event, LockQueue};
use crate::backend::{Backend, Request};
use crate::lock_path::LockPath;
use crate::object::LockObject;
use crate::owner::Ticket;
use crate::protocol::{ALL_ONE, Protocol};
use crate::sync::{Mutex, lock};
use crate::sys;

/// What has to be given back.
#[derive(Debug)]
pub(super) struct Release {
    /// Identifies it; comes from the tickets.
    id: Ticket,
    object: Arc<LockObject>,
    request: Request,
    /// The lock file to remove before.
    remove: Option<Arc<LockPath>>,
}

impl Release {
    /// Removes the file, if that was requested, and gives the lock back.
    fn run(&self, queue: &LockQueue) -> io::Result<()> {
        let (backend, removed) = match &self.remove {
            Some(lock_path) => self.remove_file(queue, lock_path),
            None => (self.request.protocol.backend(), Ok(())),
        };
        queue.unlock(backend, &self.object).and(removed)
    }

    /// Removes the lock file if no other process relies on it. A sharer elsewhere does, so the last
    /// sharer removes it. So does a holder in the other lock family, which a lock of one family
    /// does not exclude. The first result is the backend that gives back what is held afterwards.
    fn remove_file(
        &self,
        queue: &LockQueue,
        lock_path: &LockPath,
    ) -> (&'static dyn Backend, io::Result<()>) {
        let exclusive = self.request.exclusive();
        let both_families = Request {
            protocol: Protocol::Native,
            ..exclusive
        };
        // On a network file system the families are one.
        let one = ALL_ONE || queue.network;
        let by = if one || !self.object.writable && !lock_path.is_guests() {
            exclusive
        } else {
            both_families
        };
        let backend = by.protocol.backend();
        let alone = by == self.request || backend.try_lock(&self.object, by).unwrap_or(false);
        let removed = match alone {
            true => lock_path.remove(queue.identity),
            false => Ok(()),
        };
        (backend, removed)
    }
}

impl State {
    /// Gives the lock back, at once if that is quick. Otherwise it is releasing from now on, and the
    /// caller carries the release out. The file is removed only if no waiter is queued here.
    #[inline]
    pub(super) fn give_back(&mut self, queue: &Arc<LockQueue>) -> io::Result<()> {
        let Some(KernelLock { request, .. }) = self.held else {
            return Ok(());
        };
        let vacant = self.waiting.is_empty();
        let remove = self.remove.take_if(|_| vacant);
        let quick = !queue.slow && remove.is_none();
        if quick && queue.answers(&self.object.file) {
            self.held = None;
            let given_back = queue.unlock(request.protocol.backend(), &self.object);
            self.pause(queue);
            return given_back;
        }
        let release = Release {
            id: self.ticket(),
            object: Arc::clone(&self.object),
            request,
            remove,
        };
        if let Some(held) = &mut self.held {
            held.releasing = Some(release.id);
        }
        self.release = Some(release);
        Ok(())
    }

    /// Lets go of an existence lock whose entry is not ours any more. It does not count as held
    /// meanwhile: all that is left to do is to clean up.
    pub(super) fn let_go(&mut self) {
        let Some(renewed) = self.object.renewed() else {
            return;
        };
        if let Some(KernelLock { request, .. }) = self.held.take() {
            self.release = Some(Release {
                id: self.ticket(),
                object: std::mem::replace(&mut self.object, Arc::new(renewed)),
                request,
                remove: None,
            });
            self.contend_again();
        }
    }

    /// Records that a release is over, unless a waiter in the kernel has acquired the lock since.
    fn given_back(&mut self, queue: &Arc<LockQueue>, id: Ticket) {
        let held = self.held.take_if(|held| held.releasing == Some(id));
        if held.is_some() {
            self.pause(queue);
            // Changes of the entry before were reported when there was nothing to try for.
            if queue.slow && !matches!(self.contender, Contender::Yielding(_)) {
                self.try_for_head(queue);
            }
        }
    }

    /// Begins the fairness pause that follows a long run, and lets the head try again.
    #[inline]
    fn pause(&mut self, queue: &Arc<LockQueue>) {
        if let Some(pause) = queue.services.pause
            && !queue.is_poisoned()
        {
            let now = Instant::now();
            let free = matches!(self.contender, Contender::None);
            let until = self.streak.left(pause, now, free);
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
        self.contend_again();
    }

    /// Polling has nothing to do during a hold. After it, there is.
    fn contend_again(&mut self) {
        if let Contender::Polling(None) = self.contender {
            self.contender = Contender::None;
        }
    }
}

impl LockQueue {
    /// Unlocks `object`. A kernel lock that cannot be given back goes with its descriptor.
    #[inline]
    fn unlock(&self, backend: &dyn Backend, object: &LockObject) -> io::Result<()> {
        let unlocked = backend.unlock(object);
        if unlocked.is_err() && object.as_marker().is_none() {
            self.poison();
            let detached = sys::detach(&object.file);
            debug_assert!(detached.is_ok(), "{detached:?}");
        }
        unlocked
    }

    /// Carries a release out, and all that follow from it.
    pub(super) fn finish(self: &Arc<Self>, release: Release) -> io::Result<()> {
        let given_back = release.run(self);
        let id = release.id;
        drop(release);
        let ((), advanced) = self.change_and_finish(|state| state.given_back(self, id));
        given_back.and(advanced)
    }

    /// The same for a caller that must not wait for a file system: on a helper thread, unless the
    /// file system answers at once. Nothing reports an error.
    pub(super) fn finish_elsewhere(self: &Arc<Self>, release: Release) {
        if self.answers(&release.object.file) {
            let _ = self.finish(release);
            return;
        }
        let queue = Arc::clone(self);
        let release = Arc::new(Mutex::new(Some(release)));
        let task = {
            let release = Arc::clone(&release);
            move || {
                let release = lock(&release).take();
                release.map(|release| queue.finish(release));
            }
        };
        if !self.services.waiter_pool.run_task(task) {
            // Without a thread, the caller has to.
            let release = lock(&release).take();
            release.map(|release| self.finish(release));
        }
    }
}
