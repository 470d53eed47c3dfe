//! How a hold ends, told to the host as soon as it does.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Instant;

use super::hooks::Story;
use crate::engine::Engine;
use crate::guard::Guard;
use crate::types::{LostReason, Mode};

type Loss = Pin<Box<dyn Future<Output = LostReason> + Send>>;

/// Reports how a hold ends. Dropped after the release.
#[derive(Debug)]
pub(super) struct HoldReport(Option<Arc<Watcher>>);

/// Looks out for the loss of a hold, once it has begun.
#[must_use = "a loss is reported only if this begins"]
pub(super) struct LossWatch(Option<Arc<Watcher>>);

struct Watcher {
    engine: Engine,
    story: Arc<Story>,
    mode: Mode,
    since: Instant,
    loss: Mutex<Option<Loss>>,
    reported: AtomicBool,
}

impl fmt::Debug for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watcher").finish_non_exhaustive()
    }
}

impl HoldReport {
    pub(super) fn new(engine: &Engine, story: &Arc<Story>, guard: &Guard, since: Instant) -> Self {
        if !story.listener.listens() {
            return Self(None);
        }
        let watcher = Watcher {
            engine: engine.clone(),
            story: Arc::clone(story),
            mode: guard.mode(),
            since,
            loss: Mutex::new(Some(Box::pin(guard.lost()))),
            reported: AtomicBool::new(false),
        };
        Self(Some(Arc::new(watcher)))
    }

    /// To begin once the host has been told that the lock was acquired.
    pub(super) fn watch(&self) -> LossWatch {
        LossWatch(self.0.clone())
    }

    /// Reports nothing, since the guest never got the hold.
    pub(super) fn forget(self) {
        if let Some(watcher) = &self.0 {
            watcher.reported.store(true, Ordering::SeqCst);
        }
    }

    /// Reports a loss that the release found out.
    pub(super) fn found_lost(&self, reason: LostReason) {
        if let Some(watcher) = &self.0 {
            watcher.report(Some(reason));
        }
    }
}

impl LossWatch {
    pub(super) fn begin(self) {
        if let Some(watcher) = self.0 {
            watcher.look();
        }
    }
}

impl Watcher {
    /// Reports the loss if there is one, and otherwise looks again when there may be.
    fn look(self: &Arc<Self>) {
        let waker = Waker::from(Arc::clone(self));
        let mut loss = self.loss.lock().unwrap_or_else(PoisonError::into_inner);
        let lost = match loss.as_mut() {
            Some(future) => future.as_mut().poll(&mut Context::from_waker(&waker)),
            None => return,
        };
        let over = lost.is_ready().then(|| loss.take());
        drop(loss);
        drop(over);
        if let Poll::Ready(reason) = lost {
            self.report(Some(reason));
        }
    }

    /// Reports the end of the hold, unless that has been done: a loss, or a release.
    fn report(&self, loss: Option<LostReason>) {
        if self.reported.swap(true, Ordering::SeqCst) {
            return;
        }
        let held = self.since.elapsed();
        match loss {
            Some(reason) => self.story.lost(self.mode, reason, held),
            None => self.story.released(self.mode, held),
        }
    }
}

impl Wake for Watcher {
    fn wake(self: Arc<Self>) {
        self.look();
    }
}

impl Drop for HoldReport {
    fn drop(&mut self) {
        let Some(watcher) = self.0.take() else {
            return;
        };
        if watcher.engine.is_forked() {
            // The hold is the parent's. A thread of the parent may have locked the mutex.
            let loss = watcher.loss.try_lock().map(|mut loss| loss.take());
            drop(loss);
            return;
        }
        let mut loss = watcher.loss.lock().unwrap_or_else(PoisonError::into_inner);
        let over = loss.take();
        drop(loss);
        drop(over);
        watcher.report(None);
    }
}
