//! A plugin of the example plugin host: it adds to a number of the host's that a lock protects.

#![no_std]

extern crate alloc;

use alloc::string::String;
use example::plugins::ledger;
use freestanding as _;
use locket_guest::bindings::api::{LockFile, Mode};

wit_bindgen::generate!({
    path: ["../../../wit", "wit"],
    world: "example:plugins/plugin",
    with: { "locket:lock/api@0.1.0": locket_guest::bindings::api },
});

struct Plugin;

impl Guest for Plugin {
    fn add(path: String, milliseconds: u32) -> Result<u64, Error> {
        let lock = LockFile::open(&path)?;
        lock.acquire(Mode::Exclusive, None)?;
        let sum = ledger::read(&lock, milliseconds).and_then(|number| {
            let sum = number + 1;
            ledger::write(&lock, sum).map(|()| sum)
        });
        // If the ledger refused, the lock was lost, and this says why.
        lock.release()?;
        sum.map_err(|()| Error::Other(None))
    }
}

export!(Plugin);
