//! Guests of a sandbox, without a runtime: where their paths lead, what they may use, and what they
//! cannot do to their host. `tests/tests/sandbox` has the tests with components.
#![cfg(all(any(target_os = "linux", windows), feature = "sandbox"))]

mod calls;
#[path = "../common/mod.rs"]
mod common;
mod deadlock;
#[cfg(target_os = "linux")]
mod fork;
mod handles;
mod hooks;
mod lent;
mod limits;
mod listing;
#[cfg(target_os = "linux")]
mod path_tree;
#[cfg(target_os = "linux")]
mod paths;
mod pending_ranges;
mod ranges;
mod rights;
mod shares;
#[cfg(target_os = "linux")]
mod slow_tries;
mod tenants;
#[cfg(windows)]
mod windows_paths;

use std::fs;
use std::path::Path;
use std::task::Poll;
use std::thread;
use std::time::Duration;

use common::*;
use locket::sandbox::{Call, Claim, GuestAcquire, GuestGuard, GuestLock, Limits, Rights, Sandbox};
use locket::{Engine, Mode, OnRelease, Protocol, Result};

/// A guest that knows `dir` as `/jobs`.
fn guest(engine: &Engine, dir: &Path, limits: Limits) -> Sandbox {
    let guest = Sandbox::builder(engine).label("guest").limits(limits);
    let guest = guest.grant_dir(dir, "/jobs", Rights::READ_WRITE);
    guest.unwrap().build()
}

fn open(guest: &Sandbox, path: &str) -> Result<GuestLock> {
    guest.open(path, None, OnRelease::Keep)
}

fn open_as(guest: &Sandbox, name: &str, protocol: Protocol) -> GuestLock {
    let path = format!("/jobs/{name}");
    guest.open(&path, Some(protocol), OnRelease::Keep).unwrap()
}
