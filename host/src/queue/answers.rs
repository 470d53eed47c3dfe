//! What a queue answers to those that enter it and leave it.

use std::io;
use std::sync::Arc;

use crate::owner::Ticket;
use crate::types::LostReason;
use crate::waiter::LockWait;

/// Why a wait ended without a grant.
#[derive(Debug)]
pub(crate) enum Failure {
    WouldBlock,
    TimedOut,
    Canceled,
    /// The file behind this queue is gone: open the path again.
    Replaced,
    /// The lock was broken between the grant and its delivery. Nothing is lost: enqueue again.
    Broken,
    /// The hold was taken away, or expired, between the grant and its delivery.
    Lost(LostReason),
    Io(io::Error),
}

/// Whether the path still leads to what is locked, when it is released.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Name {
    Kept,
    Gone,
    /// An existence lock: the backend knows its entry.
    IsTheLock,
}

/// The result of entering the queue.
#[derive(Debug)]
pub(crate) enum Enqueued {
    Granted(Ticket),
    Queued(Ticket),
    Failed(Failure),
}

/// What a waiter has to do next.
#[derive(Debug)]
pub(crate) enum WaitStatus {
    Granted,
    Failed(Failure),
    /// Nothing until it is woken.
    Wait,
    /// Wait on its own thread, then call [`settle`](super::LockQueue::settle).
    WaitHere(Arc<LockWait>),
}
