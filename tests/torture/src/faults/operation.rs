//! The operations on a lock that the fault tests go through.

use std::path::Path;

use clap::ValueEnum;
use locket::{OnRelease, Options, Protocol};

/// What can be done to a lock.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, ValueEnum)]
pub enum Operation {
    /// Opens it, where there is no file yet.
    Open,
    /// Acquires it while it is free.
    Acquire,
    /// The same in shared mode.
    AcquireShared,
    /// Acquires it from somebody who died with it.
    TakeOver,
    /// Waits for it on the thread, until it is granted.
    Wait,
    /// Waits for it in a task, until it is granted.
    WaitAsync,
    /// Waits for it on the thread, in vain.
    TimeOut,
    /// Waits for it in a task, in vain.
    TimeOutAsync,
    /// Releases it.
    Release,
    /// Releases it, and with it removes the file.
    Remove,
    /// Takes it from its living holder.
    Break,
    /// Asks who holds it.
    Holder,
}

impl Operation {
    /// Every one that there is in a protocol.
    pub fn all(protocol: Protocol) -> impl Iterator<Item = Self> {
        let there = move |operation: &Self| match operation {
            Self::AcquireShared | Self::Remove => !protocol.is_existence_lock(),
            Self::TakeOver | Self::Break => protocol.is_existence_lock(),
            _ => true,
        };
        Self::value_variants().iter().copied().filter(there)
    }

    /// Whether somebody else holds the lock when it begins, and for as long as it is not about to
    /// be granted.
    pub fn finds_it_held(self) -> bool {
        matches!(self, Self::Break | Self::Holder) || self.waits()
    }

    /// Whether it waits.
    pub fn waits(self) -> bool {
        self.is_granted() || matches!(self, Self::TimeOut | Self::TimeOutAsync)
    }

    /// Whether the lock is granted to it while it waits.
    pub fn is_granted(self) -> bool {
        matches!(self, Self::Wait | Self::WaitAsync)
    }
}

/// How a lock is opened for an operation.
pub fn options(operation: Operation, protocol: Protocol, path: &Path) -> Options {
    let on_release = match operation {
        Operation::Remove => OnRelease::Remove,
        _ => OnRelease::Keep,
    };
    let options = Options::new().protocol(protocol).on_release(on_release);
    match protocol {
        Protocol::Sqlite => options.database(path.with_file_name("database")),
        _ => options,
    }
}
