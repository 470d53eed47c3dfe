//! The origin of a request, and its place in a queue.

use std::sync::atomic::{AtomicU64, Ordering};

/// The place of a waiter in the order of arrival, and the identity of its hold once granted.
pub(crate) type Ticket = u64;

/// An owner of locks: this process, or a guest.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) struct OwnerId(pub(crate) u64);

impl OwnerId {
    /// The process itself.
    pub(crate) const PROCESS: Self = Self(0);

    /// The calling thread, for locks whose owners are threads.
    pub(crate) fn thread() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        // Engines count their owners up from zero.
        thread_local! {
            static OWNER: OwnerId = OwnerId(u64::MAX - NEXT.fetch_add(1, Ordering::Relaxed));
        }
        OWNER.with(|owner| *owner)
    }
}

/// The origin of a request: an owner, through one of its handles.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Requester {
    pub(crate) owner: OwnerId,
    pub(crate) handle: u64,
}
