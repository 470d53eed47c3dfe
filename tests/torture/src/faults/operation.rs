//! The operations on a lock that the fault tests go through.

use std::path::Path;

use clap::ValueEnum;
use locket::{OnRelease, Options, Protocol};

/// What can be done to a lock.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, ValueEnum)]
pub enum Operation {
    /// Opens it before there is a file.
    Open,
    /// Acquires it while it is free.
    Acquire,
    /// The same in shared mode.
    AcquireShared,
    /// Takes it over from a dead holder.
    TakeOver,
    /// Waits for it on the thread, until it is granted.
    Wait,
    /// Waits for it in a task, until it is granted.
    WaitAsync,
    /// Waits for it on the thread until a timeout.
    TimeOut,
    /// Waits for it in a task until a timeout.
    TimeOutAsync,
    /// Releases it.
    Release,
    /// Releases it and removes the file.
    Remove,
    /// Breaks it while its holder is alive.
    Break,
    /// Asks for its holder.
    Holder,
}

impl Operation {
    /// All that exist in a protocol.
    pub fn all(protocol: Protocol) -> impl Iterator<Item = Self> {
        let there = move |operation: &Self| match operation {
            Self::AcquireShared | Self::Remove => !protocol.is_existence_lock(),
            Self::TakeOver | Self::Break => protocol.is_existence_lock(),
            _ => true,
        };
        Self::value_variants().iter().copied().filter(there)
    }

    /// Whether another owner holds the lock when it begins, and until it is granted, if it is.
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
