//! The waits and holds of a history.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use locket::{Acquire, Error, Guard, LockFile};

use super::vocabulary::{Key, Ticket};

/// Notes that a wait was woken.
pub(crate) struct WakeFlag {
    pub(crate) woken: AtomicBool,
    pub(crate) thread: Thread,
}

impl Wake for WakeFlag {
    fn wake(self: Arc<Self>) {
        self.woken.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

impl WakeFlag {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            woken: AtomicBool::new(false),
            thread: thread::current(),
        })
    }
}

pub(crate) struct Wait {
    pub(crate) key: Key,
    pub(crate) ticket: Ticket,
    pub(crate) handle: usize,
    pub(crate) lock: LockFile,
    pub(crate) future: Acquire,
    pub(crate) flag: Arc<WakeFlag>,
}

impl Wait {
    pub(crate) fn poll(&mut self) -> Poll<Result<Guard, Error>> {
        let waker = Waker::from(Arc::clone(&self.flag));
        Pin::new(&mut self.future).poll(&mut Context::from_waker(&waker))
    }
}

pub(crate) struct Hold {
    pub(crate) key: Key,
    pub(crate) ticket: Ticket,
    pub(crate) handle: usize,
    pub(crate) guard: Guard,
    /// The handle of the guard, to ask for the state of its owner.
    pub(crate) lock: LockFile,
}
