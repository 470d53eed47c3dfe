//! A wait that a guest of WASI 0.2 has begun, and looks after by polling.

use std::fmt;
use std::future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use locket::sandbox::HandlePermit;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::Pollable;

use super::api::too_many;

/// A wait in progress. Dropping it drops the future, and so abandons the wait.
///
/// Pollables share it. When a poll ends before a pollable is ready, `wasi:io` drops the future of
/// that pollable. Therefore the wait is stored here, where it continues from one poll to the next.
pub(super) struct InProgress<F: Future> {
    progress: Shared<F>,
    pub(super) handle: HandlePermit,
}

struct Shared<F: Future>(Arc<Mutex<Progress<F>>>);

enum Progress<F: Future> {
    Waiting(Box<F>),
    /// The future is kept, since it may undo what it has done when it is dropped.
    Over(Box<F>, F::Output),
    /// The guest has taken the answer, or has dropped the resource.
    Gone,
}

impl<F: Future> fmt::Debug for InProgress<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InProgress").finish_non_exhaustive()
    }
}

impl<F: Future> Drop for InProgress<F> {
    fn drop(&mut self) {
        let progress = std::mem::replace(&mut *self.progress.lock(), Progress::Gone);
        drop(progress);
    }
}

impl<F: Future + Unpin> InProgress<F> {
    /// Begins the wait.
    pub(super) fn begin(wait: F, handle: HandlePermit) -> Self {
        let progress = Shared(Arc::new(Mutex::new(Progress::Waiting(Box::new(wait)))));
        let _ = progress.poll(&mut Context::from_waker(Waker::noop()));
        Self { progress, handle }
    }

    /// What is ready when the wait is over, or the resource gone.
    pub(super) fn answer(&self) -> wasmtime::Result<Answer<F>> {
        Ok(Answer {
            progress: Shared(Arc::clone(&self.progress.0)),
            _handle: self.handle.extra().map_err(too_many)?,
        })
    }

    /// Takes the answer, with the future that has given it. Returns them only once.
    pub(super) fn take(&self) -> Option<(Box<F>, F::Output)> {
        // A guest that never polls must get its answer too.
        let polled = self.progress.poll(&mut Context::from_waker(Waker::noop()));
        if polled.is_pending() {
            return None;
        }
        match std::mem::replace(&mut *self.progress.lock(), Progress::Gone) {
            Progress::Over(wait, answer) => Some((wait, answer)),
            Progress::Waiting(_) | Progress::Gone => None,
        }
    }
}

impl<F: Future> Shared<F> {
    fn lock(&self) -> MutexGuard<'_, Progress<F>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<F: Future + Unpin> Shared<F> {
    fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut progress = self.lock();
        *progress = match std::mem::replace(&mut *progress, Progress::Gone) {
            Progress::Waiting(mut wait) => match Pin::new(&mut wait).poll(cx) {
                Poll::Pending => {
                    *progress = Progress::Waiting(wait);
                    return Poll::Pending;
                }
                Poll::Ready(answer) => Progress::Over(wait, answer),
            },
            other => other,
        };
        Poll::Ready(())
    }
}

/// Ready when a wait has an answer or has been dropped.
pub(super) struct Answer<F: Future> {
    progress: Shared<F>,
    _handle: HandlePermit,
}

#[async_trait]
impl<F> Pollable for Answer<F>
where
    F: Future<Output: Send> + Send + Unpin + 'static,
{
    async fn ready(&mut self) {
        future::poll_fn(|cx| self.progress.poll(cx)).await;
    }
}
