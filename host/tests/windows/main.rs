//! What is of its own on Windows: processes that share a lock and are killed, entries that other
//! programs make or have open, and ranges that the system converts in several steps.
#![cfg(all(windows, not(any(loom, shuttle))))]

#[path = "../common/mod.rs"]
mod common;
mod entries;
mod processes;
mod ranges;

use std::fs;
use std::path::Path;
use std::time::Duration;

use common::*;
use locket::{Engine, LockFile, Options, Protocol};

fn open(dir: &Path, protocol: Protocol) -> LockFile {
    let options = Options::new().protocol(protocol);
    let options = options.database(dir.join("locks.db"));
    Engine::new().open_with(dir.join("lock"), &options).unwrap()
}

/// The protocols of this build, without those that this process may not use.
fn all() -> impl Iterator<Item = Protocol> {
    let all = Protocol::ALL.iter().copied();
    all.filter(|protocol| is_available(*protocol))
        .inspect(|protocol| println!("protocol {protocol}"))
}
