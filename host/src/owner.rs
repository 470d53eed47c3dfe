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
    /// What it belongs to when turns go round among shares.
    pub(crate) share: u64,
}

impl Requester {
    pub(crate) fn is_guest(&self) -> bool {
        self.share != Client::PROCESS.share
    }
}

/// What an owner is called.
#[derive(Clone, Debug, Default)]
pub(crate) struct Profile {
    /// Shown to other owners, too.
    pub(crate) label: Option<String>,
    /// For the host alone.
    pub(crate) tag: Option<String>,
}

/// On whose behalf a handle acquires.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Client {
    pub(crate) owner: OwnerId,
    pub(crate) share: u64,
}

impl Client {
    /// The process itself.
    pub(crate) const PROCESS: Self = Self {
        owner: OwnerId::PROCESS,
        share: 0,
    };
}
