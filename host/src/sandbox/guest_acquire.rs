//! An acquire of a guest: whether it is admitted, and what comes of it.

use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use super::guest_guard::GuestGuard;
use super::limits::Limits;
use super::open::Open;
use super::quota::HeldGrant;
use super::rights::Rights;
use crate::acquire::{Acquire, Suspends};
use crate::error::{ErrorKind, Result};
use crate::guard::Guard;
use crate::types::Mode;

/// The terms on which an acquire was admitted. It counts as a wait until it is dropped.
#[derive(Debug)]
pub(super) struct Admission {
    open: Arc<Open>,
    pub(super) timeout: Option<Duration>,
    /// The error if the time is up sooner than the guest asked for.
    cut_short: Option<ErrorKind>,
    waits: bool,
}

impl Drop for Admission {
    fn drop(&mut self) {
        if self.waits && !self.open.guest.is_forked() {
            self.open.guest.usage().waiters -= 1;
        }
    }
}

impl Admission {
    pub(super) fn new(open: &Arc<Open>, mode: Mode, timeout: Option<Duration>) -> Result<Self> {
        open.refuse_forked()?;
        if !open.rights.contains(Rights::to_hold(mode)) {
            return Err(open.refuse(ErrorKind::Denied));
        }
        let Limits {
            longest_wait,
            waiters,
            ..
        } = open.guest.limits;
        let longest = longest_wait.filter(|longest| timeout.is_none_or(|time| *longest < time));
        let mut admission = Self {
            open: Arc::clone(open),
            timeout: longest.or(timeout),
            cut_short: longest.and(Some(ErrorKind::Canceled)),
            waits: false,
        };
        let mut usage = open.guest.usage();
        if !open.guest.may_hold_another(&usage) {
            drop(usage);
            return Err(open.refuse(ErrorKind::LimitExceeded));
        }
        if admission.timeout != Some(Duration::ZERO) {
            admission.waits = usage.waiters < waiters;
            usage.waiters += usize::from(admission.waits);
            // A free lock may be acquired all the same.
            if !admission.waits {
                admission.timeout = Some(Duration::ZERO);
                admission.cut_short = Some(ErrorKind::LimitExceeded);
            }
        }
        Ok(admission)
    }

    /// What waiting suspends if the guest stops until the acquire is over.
    pub(super) fn suspended(&self) -> Suspends {
        let usage = self.open.guest.usage();
        let others = usage.waiters - usize::from(self.waits);
        Suspends::Owner {
            may_block_others: others > 0 || !usage.holds.is_empty(),
        }
    }

    /// Accounts for the result of the acquire.
    pub(super) fn settle(mut self, result: Result<Guard>) -> Result<GuestGuard> {
        self.open.refuse_forked()?;
        let guard = match (result, self.cut_short) {
            (Err(e), Some(kind)) if e.is_would_block() || e.is_timeout() => {
                return Err(self.open.refuse(kind));
            }
            (result, _) => result?,
        };
        let guest = &self.open.guest;
        let mut usage = guest.usage();
        usage.waiters -= usize::from(mem::take(&mut self.waits));
        // Several acquires that began within the limit may end beyond it.
        if !guest.may_hold_another(&usage) {
            drop(usage);
            return Err(self.open.refuse(ErrorKind::LimitExceeded));
        }
        let id = usage.number();
        usage.holds.push(HeldGrant {
            id,
            lock: self.open.id,
            kept: false,
            guard,
        });
        drop(usage);
        Ok(GuestGuard::new(&self.open, id))
    }
}

/// An acquire of a guest in progress: the future of
/// [`GuestLock::acquire_async`](crate::sandbox::GuestLock::acquire_async).
///
/// # Cancel safety
///
/// Dropping it abandons the wait, and releases the lock if it was granted in the meantime.
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct GuestAcquire {
    // In this order: the wait counts until it has ended.
    acquire: Acquire,
    admission: Option<Admission>,
}

impl GuestAcquire {
    pub(super) fn start(mode: Mode, admission: Admission, meanwhile: Suspends) -> Self {
        let file = &admission.open.file;
        Self {
            acquire: file.start(mode, admission.timeout, meanwhile),
            admission: Some(admission),
        }
    }
}

impl Future for GuestAcquire {
    type Output = Result<GuestGuard>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let result = ready!(Pin::new(&mut self.acquire).poll(cx));
        let admission = self
            .admission
            .take()
            .expect("the future is not polled after completion");
        Poll::Ready(admission.settle(result))
    }
}
