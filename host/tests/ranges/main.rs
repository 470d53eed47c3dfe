//! Locks on ranges of a file.
#![cfg(not(any(loom, shuttle)))]

#[path = "../common/mod.rs"]
mod common;

#[cfg(target_os = "linux")]
mod model;
mod owners;
#[cfg(target_os = "linux")]
mod waits;

use common::*;
use locket::{Engine, HeldRange, Mode, Range, RangeFile};

const EX: Mode = Mode::Exclusive;
const SH: Mode = Mode::Shared;

fn held(mode: Mode, range: impl Into<Range>) -> HeldRange {
    let range = range.into();
    HeldRange { mode, range }
}

/// A file with two owners in one engine.
fn two(dir: &Dir) -> (RangeFile, RangeFile) {
    let engine = Engine::new();
    let open = || engine.open_ranges(dir.path("file")).unwrap();
    (open(), open())
}
