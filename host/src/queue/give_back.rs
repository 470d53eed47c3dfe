//! Giving the lock back to the system.
//!
//! That can take long: a database has other users, a directory may be locked by another program, and
//! a file system may not answer. So unless it is known to be quick, it takes two steps. Under the
//! mutex the lock becomes *releasing*, and counts as held. The calls are made after the mutex is
//! released, and then the result is recorded. Others see the lock free in between, so a waiter may
//! have it by the time the result is recorded.
//!
//! A caller that asks for the result carries the release out itself, and waits for other users of a
//! database. Any other makes one attempt at most, and leaves what is in its way to a helper.

use std::io;
use std::mem;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::LockQueue;
use super::state::{Contender, HeldLock, State};
use crate::backend::{Backend, Request, is_out_of_reach};
use crate::lock_path::{LockPath, reopen};
use crate::object::LockObject;
use crate::owner::Ticket;
use crate::protocol::{ALL_ONE, Protocol};
use crate::sync::{Mutex, lock};
use crate::sys;
use crate::types::Mode;

/// Which thread carries releases out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Finish {
    /// The calling one, which waits for others' transactions.
    Patiently,
    /// The calling one makes one attempt.
    Promptly,
    /// The calling one makes one attempt, if the file system is a local one.
    IfLocal,
    /// A helper.
    Elsewhere,
}

/// How long a release waits for others' transactions, and how it pauses before it looks again: a
/// database reports some kinds of busy at once.
const PATIENCE: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Purpose {
    GiveBack,
    /// The next one here gets it. Its token must be larger than the last one.
    HandOn,
}

/// What has to be given back; or confirmed by its server, to be handed on.
#[derive(Debug)]
pub(super) struct Release {
    purpose: Purpose,
    /// What was held, by its identifier.
    id: Ticket,
    object: Arc<LockObject>,
    request: Request,
    /// The lock file to remove before.
    remove: Option<Arc<LockPath>>,
}

impl Release {
    pub(super) fn new(id: Ticket, object: Arc<LockObject>, request: Request) -> Self {
        Self {
            purpose: Purpose::GiveBack,
            id,
            object,
            request,
            remove: None,
        }
    }

    /// Removes the file, if that was requested, and gives the lock back. Fails with an error that
    /// [`is_out_of_reach`] if it is worth another attempt.
    fn run(&self, queue: &LockQueue) -> io::Result<()> {
        let backend = self.request.protocol.backend();
        if self.purpose == Purpose::HandOn {
            return backend.renew(&self.object);
        }
        let Some(lock_path) = &self.remove else {
            return queue.unlock(backend, &self.object);
        };
        if let Some(other) = self.writable_twin(queue) {
            queue.unlock(backend, &self.object)?;
            return Self::remove_by(&other, queue, lock_path);
        }
        let (backend, removed) = self.remove_file(queue, lock_path);
        queue.unlock(backend, &self.object).and(removed)
    }

    /// That its server has let go of it, as the one that released it is told.
    fn loss(&self) -> Option<io::Error> {
        #[cfg(feature = "remote")]
        {
            let backend = self.request.protocol.backend();
            let lost = !backend.is_held(&self.object);
            lost.then(|| crate::error::lost(backend.loss(&self.object)))
        }
        #[cfg(not(feature = "remote"))]
        None
    }

    /// The same, in as many attempts as it takes.
    #[expect(clippy::disallowed_methods, reason = "a database cannot be waited for")]
    fn run_patiently(&self, queue: &LockQueue) -> io::Result<()> {
        let end = Instant::now() + PATIENCE;
        let mut pause = FIRST_PAUSE;
        loop {
            match self.run(queue) {
                Err(e) if is_out_of_reach(&e) && Instant::now() < end => thread::sleep(pause),
                result => return result,
            }
            pause = LONGEST_PAUSE.min(pause * 2);
        }
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

    /// Another description of the file, to lock both families with, if the one that carries the lock
    /// is open for reading and cannot.
    fn writable_twin(&self, queue: &LockQueue) -> Option<LockObject> {
        let one = ALL_ONE || queue.network;
        let file = (!one && !self.object.writable).then(|| reopen(&self.object.file, true));
        Some(LockObject::file(file?.ok()?, true))
    }

    /// Removes the lock file, as [`remove_file`](Self::remove_file) does, after the lock was given
    /// back, unless others have taken it since.
    fn remove_by(other: &LockObject, queue: &LockQueue, lock_path: &LockPath) -> io::Result<()> {
        let request = Request {
            mode: Mode::Exclusive,
            protocol: Protocol::Native,
            stale_after: None,
            fencing: false,
        };
        let backend = request.protocol.backend();
        if !backend.try_lock(other, request).unwrap_or(false) {
            return Ok(());
        }
        let removed = lock_path.remove(queue.identity);
        backend.unlock(other).and(removed)
    }
}

impl State {
    /// Gives the lock back, at once if that is quick. Otherwise it is releasing from now on, and the
    /// caller carries the release out. The file is removed only if no waiter is queued here.
    #[inline]
    pub(super) fn give_back(&mut self, queue: &Arc<LockQueue>) -> io::Result<()> {
        let Some(HeldLock { request, id, .. }) = self.held else {
            return Ok(());
        };
        let vacant = self.waiting.is_empty();
        let remove = self.remove.take_if(|_| vacant);
        if !queue.is_slow() && remove.is_none() {
            self.held = None;
            let given_back = queue.unlock(request.protocol.backend(), &self.object);
            self.pause(queue);
            return given_back;
        }
        let release = Release {
            remove,
            ..Release::new(id, Arc::clone(&self.object), request)
        };
        if let Some(held) = &mut self.held {
            held.releasing = true;
        }
        self.releases.push(release);
        Ok(())
    }

    /// Lets go of an existence lock whose entry is not ours any more. It does not count as held
    /// meanwhile: all that is left to do is to clean up.
    pub(super) fn let_go(&mut self) {
        let Ok(renewed) = self.object.renewed() else {
            // It is given back instead, and not handed on.
            if let Some(held) = &mut self.held {
                held.gone = true;
            }
            return;
        };
        if let Some(HeldLock { request, id, .. }) = self.held.take() {
            let object = mem::replace(&mut self.object, Arc::new(renewed));
            self.releases.push(Release::new(id, object, request));
            self.contend_again();
        }
    }

    /// Records that a release is over, unless a waiter has acquired the lock since.
    fn given_back(&mut self, queue: &Arc<LockQueue>, id: Ticket) {
        let held = self.held.take_if(|held| held.releasing && held.id == id);
        if held.is_some() {
            self.doubt = None;
            self.pause(queue);
        }
    }

    /// Lets the server confirm the lock, with a new token, before it is handed on. Returns `false` if
    /// it has.
    pub(super) fn renew(&mut self) -> bool {
        let Some(held) = &mut self.held else {
            return false;
        };
        if mem::take(&mut held.renewed) {
            return false;
        }
        held.releasing = true;
        let renewal = Release {
            purpose: Purpose::HandOn,
            ..Release::new(held.id, Arc::clone(&self.object), held.request)
        };
        self.releases.push(renewal);
        true
    }

    /// Records what the server said. What it does not confirm is given back.
    fn confirmed(&mut self, id: Ticket, confirmed: bool) {
        if let Some(held) = &mut self.held
            && held.releasing
            && held.id == id
        {
            held.releasing = false;
            held.renewed = confirmed;
            held.gone |= !confirmed;
        }
    }

    /// Begins the fairness pause that follows a long run, and lets the head try again.
    #[inline]
    fn pause(&mut self, queue: &Arc<LockQueue>) {
        if let Some(pause) = queue.pause
            && !queue.is_poisoned()
        {
            let free = matches!(self.contender, Contender::None);
            self.streak.left(pause, Instant::now(), free);
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
        if unlocked.is_err() && object.is_on_file() {
            self.poison();
            let detached = sys::detach(&object.file);
            debug_assert!(detached.is_ok(), "{detached:?}");
        }
        unlocked
    }

    /// How the hold `ticket` is released: a task does not wait for a lock server, which may be away.
    pub(super) fn finish_for(&self, ticket: Ticket, usual: Finish) -> Finish {
        let state = self.state();
        let task = |index: usize| !state.holds[index].blocking;
        match self.remote && state.hold(ticket).is_ok_and(task) {
            true => Finish::Elsewhere,
            false => usual,
        }
    }

    /// Carries releases out, and all that follow from them. Reports an error only if the calling
    /// thread does all of it.
    pub(super) fn finish(self: &Arc<Self>, releases: Vec<Release>, how: Finish) -> io::Result<()> {
        let mut result = Ok(());
        for release in releases {
            result = result.and(match how {
                Finish::Patiently => self.given_back(&release, release.run_patiently(self)),
                Finish::Promptly => self.attempt(release),
                Finish::IfLocal if self.local => self.attempt(release),
                Finish::IfLocal | Finish::Elsewhere => self.help(release),
            });
        }
        result
    }

    /// Makes one attempt. If another program is in the way, a helper makes more.
    fn attempt(self: &Arc<Self>, release: Release) -> io::Result<()> {
        match release.run(self) {
            Err(e) if is_out_of_reach(&e) => self.help(release),
            result => self.given_back(&release, result),
        }
    }

    /// Lets a helper carry a release out.
    fn help(self: &Arc<Self>, release: Release) -> io::Result<()> {
        let release = Arc::new(Mutex::new(Some(release)));
        let run = |queue: &Arc<Self>, release: &Mutex<Option<Release>>| {
            let release = lock(release).take();
            release.map_or(Ok(()), |release| {
                queue.given_back(&release, release.run_patiently(queue))
            })
        };
        let task = {
            let (queue, release) = (Arc::clone(self), Arc::clone(&release));
            move || _ = run(&queue, &release)
        };
        match self.services.waiter_pool.run_task(task) {
            true => Ok(()),
            // Without a thread, the caller has to.
            false => run(self, &release),
        }
    }

    fn given_back(self: &Arc<Self>, release: &Release, result: io::Result<()>) -> io::Result<()> {
        let id = release.id;
        if release.purpose == Purpose::HandOn {
            let confirmed = result.is_ok();
            // Looked at before it is given back, after which nothing is known of it.
            let lost = (!confirmed).then(|| release.loss()).flatten();
            let ((), advanced) =
                self.change_and(Finish::Patiently, |state| state.confirmed(id, confirmed));
            // What was told of it meanwhile.
            self.check_loss(false);
            return lost.map_or(Ok(()), Err).and(advanced);
        }
        let ((), advanced) = self.change_and(Finish::Patiently, |state| state.given_back(self, id));
        result.and(advanced)
    }
}
