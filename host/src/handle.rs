//! What a handle is open on: its path, and the queue of the file to which the path leads.

use std::fmt;
use std::future::{self, Future};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Poll, Waker};

use crate::backend::Request;
use crate::error::{Error, ErrorKind, Result};
use crate::lock_path::LockPath;
use crate::object::OpenLock;
use crate::options::Options;
use crate::owner::{Client, OwnerId, Requester, Ticket};
use crate::queue::{LockQueue, Losses, Name};
use crate::registry::Registry;
#[cfg(feature = "remote")]
use crate::remote::Remote;
use crate::services::Services;
use crate::sync::{Mutex, lock};
use crate::sys;
use crate::types::{LostReason, Mode, OnRelease, Owner};

/// What the handles of an engine share.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) registry: Registry,
    pub(crate) services: Arc<Services>,
    /// The process that built the engine.
    pub(crate) process: sys::Process,
}

impl Context {
    /// Whether this is a fork of the process that built the engine: its locks are the parent's,
    /// and so are the threads that its queues rely on.
    pub(crate) fn forked(&self) -> bool {
        self.process.is_parent()
    }

    pub(crate) fn refuse_forked(&self, path: &Path) -> Result<()> {
        if self.forked() {
            let why = "this process was forked from the one that built the engine; build another";
            let error = std::io::Error::new(std::io::ErrorKind::Unsupported, why);
            return Err(Error::os(error, path));
        }
        Ok(())
    }

    /// Cancels every wait, and with `for_good` each that begins later.
    pub(crate) fn cancel_all(&self, for_good: bool) {
        self.registry.cancel_all(for_good);
        for file in self.services.ranged.all() {
            for owned in file.owners() {
                owned.interrupt_waits();
            }
        }
    }

    pub(crate) fn queue(&self, open_lock: OpenLock, lock_path: &LockPath) -> Arc<LockQueue> {
        self.registry.queue(open_lock, lock_path, &self.services)
    }
}

pub(crate) struct Handle {
    pub(crate) context: Arc<Context>,
    /// On whose behalf it acquires, unless each thread is an owner.
    pub(crate) client: Client,
    pub(crate) number: u64,
    lock_path: LockPath,
    pub(crate) options: Options,
    queue: Mutex<Arc<LockQueue>>,
    /// The queues of the files to which the path led before, as long as they are in use.
    previous_queues: Mutex<Vec<Weak<LockQueue>>>,
    /// How often waits were canceled.
    cancel_generation: AtomicU64,
}

impl Drop for Handle {
    fn drop(&mut self) {
        if !self.context.forked() {
            self.queue().forget(self.number);
        }
    }
}

impl Handle {
    pub(crate) fn new(
        context: &Arc<Context>,
        client: Client,
        lock_path: LockPath,
        options: Options,
        queue: Arc<LockQueue>,
    ) -> Self {
        Self {
            context: Arc::clone(context),
            client,
            number: context.registry.number(),
            lock_path,
            options,
            queue: Mutex::new(queue),
            previous_queues: Mutex::default(),
            cancel_generation: AtomicU64::new(0),
        }
    }

    /// The path of the lock, as it was opened.
    pub(crate) fn path(&self) -> &Path {
        self.lock_path.name()
    }

    /// The server that keeps the lock, if one does.
    #[cfg(feature = "remote")]
    pub(crate) fn remote(&self) -> Option<&Remote> {
        self.lock_path.remote()
    }

    /// How the calling thread appears to this lock.
    pub(crate) fn requester(&self) -> Requester {
        let owner = if self.options.owner == Owner::Thread {
            OwnerId::thread()
        } else {
            self.client.owner
        };
        Requester {
            owner,
            handle: self.number,
            share: self.client.share,
        }
    }

    /// What an acquire of this lock asks for.
    pub(crate) fn request(&self, mode: Mode) -> Request {
        Request {
            mode,
            protocol: self.options.protocol,
            stale_after: self.options.stale_after,
            fencing: self.options.fencing,
        }
    }

    /// Whether the path leads to what `queue` locks.
    fn leads_to(&self, queue: &LockQueue) -> Result<bool> {
        self.lock_path.is(queue.identity).map_err(|e| self.os(e))
    }

    /// Whether the path leads to what `queue` locks, or it is promised that it does.
    pub(crate) fn is_current(&self, queue: &LockQueue) -> Result<bool> {
        Ok(self.options.skip_identity_check || self.leads_to(queue)?)
    }

    pub(crate) fn queue(&self) -> Arc<LockQueue> {
        Arc::clone(&lock(&self.queue))
    }

    /// How often waits through this handle were canceled.
    pub(crate) fn cancellations(&self) -> u64 {
        let registry = &self.context.registry.cancel_generation;
        self.cancel_generation.load(Ordering::SeqCst) + registry.load(Ordering::SeqCst)
    }

    /// Opens the path again: because it leads to another file now, or to open it in another way.
    pub(crate) fn reopen(
        &self,
        open: impl Fn(&LockPath) -> std::io::Result<OpenLock>,
    ) -> Result<()> {
        let open_lock = open(&self.lock_path).map_err(|e| self.os(e))?;
        let queue = self.context.queue(open_lock, &self.lock_path);
        if Arc::ptr_eq(&queue, &self.queue()) {
            return Ok(());
        }
        // At every moment, each queue with a waiter is in one place or the other.
        let mut previous_queues = lock(&self.previous_queues);
        previous_queues.retain(|queue| queue.strong_count() > 0);
        previous_queues.push(Arc::downgrade(&self.queue()));
        let old = std::mem::replace(&mut *lock(&self.queue), queue);
        drop(previous_queues);
        // Those that wait for a loss have to look here now.
        old.wake_loss_watchers();
        Ok(())
    }

    /// Cancels the waits that `concerns` selects, whichever file they are for. With a `reason`,
    /// also takes the selected holds away.
    pub(crate) fn revoke(&self, reason: Option<LostReason>, concerns: impl Fn(Requester) -> bool) {
        if self.context.forked() {
            return;
        }
        // An acquire that is between two queues at this moment sees it.
        self.cancel_generation.fetch_add(1, Ordering::SeqCst);
        let previous_queues = lock(&self.previous_queues);
        let mut queues: Vec<_> = previous_queues.iter().filter_map(Weak::upgrade).collect();
        queues.push(self.queue());
        drop(previous_queues);
        for queue in queues {
            queue.revoke(reason, |_, requester| concerns(requester));
        }
    }

    /// Completes with the loss of the hold `ticket` in `queue`.
    pub(crate) fn lost_hold(
        self: &Arc<Self>,
        queue: Arc<LockQueue>,
        ticket: Ticket,
    ) -> impl Future<Output = LostReason> + Send + use<> + 'static {
        let mut watch = LossWatch::new(self);
        future::poll_fn(move |cx| watch.poll_queue(&queue, Losses::OfHold(ticket), cx.waker()))
    }

    /// Completes with the first loss after which `owner` holds nothing on the file to which the
    /// path leads by then.
    pub(crate) fn lost(
        self: &Arc<Self>,
        owner: OwnerId,
    ) -> impl Future<Output = LostReason> + Send + use<> + 'static {
        let mut watch = LossWatch::new(self);
        future::poll_fn(move |cx| watch.poll_path(Losses::OfOwner(owner), cx.waker()))
    }

    pub(crate) fn error(&self, kind: ErrorKind) -> Error {
        Error::new(kind, self.path())
    }

    pub(crate) fn os(&self, error: std::io::Error) -> Error {
        Error::os(error, self.path())
    }

    pub(crate) fn refuse_forked(&self) -> Result<()> {
        self.context.refuse_forked(self.path())
    }

    pub(crate) fn release(&self, queue: &Arc<LockQueue>, ticket: Ticket) -> Result<()> {
        self.refuse_forked()?;
        match queue
            .release(ticket, self.remove().as_ref(), self.name(queue))
            .map_err(|e| self.os(e))?
        {
            Some(Ok(())) => Ok(()),
            Some(Err(reason)) => Err(self.error(ErrorKind::Lost(reason))),
            None => Err(self.error(ErrorKind::NotLocked)),
        }
    }

    /// Whether the path still leads to what `queue` locks. Another program may have removed, moved or
    /// replaced it, and then others have been let in. If that cannot be found out, it counts as kept.
    fn name(&self, queue: &LockQueue) -> Name {
        if self.options.skip_identity_check {
            Name::Kept
        } else if self.options.protocol.is_existence_lock() {
            Name::IsTheLock
        } else if self.leads_to(queue).unwrap_or(true) {
            Name::Kept
        } else {
            Name::Gone
        }
    }

    /// What to remove on release, unless the release removes it anyway.
    pub(crate) fn remove(&self) -> Option<Arc<LockPath>> {
        let remove = self.options.on_release == OnRelease::Remove;
        let removes = remove && !self.options.protocol.is_existence_lock();
        removes.then(|| Arc::new(self.lock_path.clone()))
    }

    /// The queue of the file to which the path leads now, if there is one.
    pub(crate) fn current(&self) -> Result<Option<Arc<LockQueue>>> {
        self.refuse_forked()?;
        let queue = self.queue();
        if !queue.is_poisoned() && self.is_current(&queue)? {
            return Ok(Some(queue));
        }
        match self.lock_path.open_existing() {
            Ok(open_lock) => Ok(Some(self.context.queue(open_lock, &self.lock_path))),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(self.os(e)),
        }
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lock = f.debug_struct("LockFile");
        lock.field("path", &self.path());
        lock.field("protocol", &self.options.protocol);
        if self.context.forked() {
            return lock.finish_non_exhaustive();
        }
        let (holding, waiting) = self.queue().len();
        lock.field("holding", &holding);
        lock.field("waiting", &waiting);
        lock.finish()
    }
}

/// Waits for a loss, in each queue to which the path has led since.
struct LossWatch {
    handle: Arc<Handle>,
    number: u64,
    queues: Vec<Arc<LockQueue>>,
}

impl LossWatch {
    fn new(handle: &Arc<Handle>) -> Self {
        Self {
            handle: Arc::clone(handle),
            number: handle.context.registry.number(),
            queues: Vec::new(),
        }
    }

    fn poll_queue(
        &mut self,
        queue: &Arc<LockQueue>,
        which: Losses,
        waker: &Waker,
    ) -> Poll<LostReason> {
        if self.handle.context.forked() {
            return Poll::Pending;
        }
        if !self.queues.iter().any(|known| Arc::ptr_eq(known, queue)) {
            self.queues.push(Arc::clone(queue));
        }
        queue.poll_lost(which, self.number, waker)
    }

    fn poll_path(&mut self, which: Losses, waker: &Waker) -> Poll<LostReason> {
        if self.handle.context.forked() {
            return Poll::Pending;
        }
        for queue in &self.queues {
            if let Poll::Ready(reason) = queue.poll_lost(which, self.number, waker) {
                return Poll::Ready(reason);
            }
        }
        loop {
            let queue = self.handle.queue();
            if let Poll::Ready(reason) = self.poll_queue(&queue, which, waker) {
                return Poll::Ready(reason);
            }
            // If the path was led elsewhere before the waker was known, nothing wakes it.
            if Arc::ptr_eq(&queue, &self.handle.queue()) {
                return Poll::Pending;
            }
        }
    }
}

impl Drop for LossWatch {
    fn drop(&mut self) {
        if !self.handle.context.forked() {
            for queue in &self.queues {
                queue.unwatch(self.number);
            }
        }
    }
}
