//! What a history consists of: calls, with numbers for operands that are taken modulo what there is.

#[cfg(fuzzing)]
use arbitrary::Arbitrary as Fuzzed;
use proptest_derive::Arbitrary;

/// Four lock files, and what is done with them.
#[derive(Clone, Debug, Arbitrary)]
#[cfg_attr(fuzzing, derive(Fuzzed))]
pub(crate) struct History {
    /// Chooses the protocol of the file that has one which is a name.
    pub(crate) name: u8,
    #[proptest(strategy = "proptest::collection::vec(proptest::prelude::any::<Call>(), 1..48)")]
    pub(crate) calls: Vec<Call>,
}

/// How an acquire waits.
#[derive(Clone, Copy, Debug, Arbitrary)]
#[cfg_attr(fuzzing, derive(Fuzzed))]
pub(crate) enum Patience {
    /// It does not.
    Try,
    /// The thread does, for a time.
    Thread,
    /// A task does, for a time.
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
    /// Begins an acquire that waits for as long as it takes.
    #[proptest(weight = 4)]
    Start { handle: u8, shared: bool },
    /// Asks a wait how it stands.
    Poll { wait: u8 },
    /// Drops a wait.
    #[proptest(weight = 2)]
    Abandon { wait: u8 },
    /// Withdraws the waits of a handle.
    Cancel { handle: u8 },
    /// Releases by the guard.
    #[proptest(weight = 4)]
    Release { hold: u8 },
    /// Drops the guard.
    #[proptest(weight = 2)]
    Drop { hold: u8 },
    /// Releases, and drops a wait that may have been granted by that.
    #[proptest(weight = 2)]
    ReleaseAndAbandon { hold: u8, wait: u8 },
    /// Releases through a handle, perhaps another one.
    #[proptest(weight = 2)]
    ReleaseThrough { handle: u8 },
    /// Drops a handle.
    Close { handle: u8 },
    /// Takes the lock away from whoever holds it.
    Break { handle: u8 },
    /// Who holds it, and how one stands oneself.
    #[proptest(weight = 4)]
    Ask { handle: u8 },
    /// Removes what has the name of the lock.
    Delete { file: u8 },
    /// Puts another file in its place.
    Replace { file: u8 },
}
