//! A history consists of calls. Their operands are numbers, taken modulo the number of things to choose
//! from.

#[cfg(fuzzing)]
use arbitrary::Arbitrary as Fuzzed;
use proptest_derive::Arbitrary;

/// Four lock files, and what is done with them.
#[derive(Clone, Debug, Arbitrary)]
#[cfg_attr(fuzzing, derive(Fuzzed))]
pub(crate) struct History {
    /// Chooses the protocol of the existence lock.
    pub(crate) existence_lock: u8,
    #[proptest(strategy = "proptest::collection::vec(proptest::prelude::any::<Call>(), 1..48)")]
    pub(crate) calls: Vec<Call>,
}

/// How an acquire waits.
#[derive(Clone, Copy, Debug, Arbitrary)]
#[cfg_attr(fuzzing, derive(Fuzzed))]
pub(crate) enum Patience {
    /// It does not wait.
    Try,
    /// The thread waits, for a time.
    Thread,
    /// A task waits, for a time.
    Task,
}

/// One call.
#[derive(Clone, Debug, Arbitrary)]
#[cfg_attr(fuzzing, derive(Fuzzed))]
pub(crate) enum Call {
    /// Opens a handle in an engine.
    #[proptest(weight = 4)]
    Open {
        engine: u8,
        file: u8,
        protocol: u8,
        remove: bool,
    },
    /// Acquires at once, or gives up.
    #[proptest(weight = 6)]
    Acquire {
        handle: u8,
        shared: bool,
        patience: Patience,
    },
    /// Starts an acquire that waits indefinitely.
    #[proptest(weight = 4)]
    Start { handle: u8, shared: bool },
    /// Polls a wait.
    Poll { wait: u8 },
    /// Drops a wait.
    #[proptest(weight = 2)]
    Abandon { wait: u8 },
    /// Cancels the waits of a handle.
    Cancel { handle: u8 },
    /// Releases by the guard.
    #[proptest(weight = 4)]
    Release { hold: u8 },
    /// Drops the guard.
    #[proptest(weight = 2)]
    Drop { hold: u8 },
    /// Releases, and drops a wait that may just have been granted.
    #[proptest(weight = 2)]
    ReleaseAndAbandon { hold: u8, wait: u8 },
    /// Releases through a handle, perhaps another one.
    #[proptest(weight = 2)]
    ReleaseThrough { handle: u8 },
    /// Drops a handle.
    Close { handle: u8 },
    /// Breaks the lock.
    Break { handle: u8 },
    /// Queries the holder and the state of the handle.
    #[proptest(weight = 4)]
    Ask { handle: u8 },
    /// Removes the lock file, or the entry of the existence lock.
    Delete { file: u8 },
    /// Puts another file in its place.
    Replace { file: u8 },
}
