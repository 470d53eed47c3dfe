//! Acquires and releases many times, for measurements.

#![no_std]

extern crate alloc;

use alloc::string::String;
use bench::host::empty::Thing;
use freestanding as _;
use locket_guest::{LockFile, Mode, RangeFile};

wit_bindgen::generate!();

struct Bench;

impl Guest for Bench {
    fn pairs(path: String, n: u32) {
        let lock = LockFile::open(&path).unwrap();
        for _ in 0..n {
            pair(&lock);
        }
    }

    fn empties(n: u32) {
        let thing = Thing::new();
        for _ in 0..n {
            thing.nothing();
            thing.nothing();
        }
    }

    fn ranges(path: String, n: u32) {
        let file = RangeFile::open(&path).unwrap();
        for _ in 0..n {
            file.lock(Mode::Exclusive, 100..200, None).unwrap();
            file.unlock(100..200).unwrap();
        }
    }

    fn opens(path: String, n: u32) {
        for _ in 0..n {
            let lock = LockFile::open(&path).unwrap();
            pair(&lock);
        }
    }
}

/// Acquires and releases a lock that is free.
fn pair(lock: &LockFile) {
    let guard = lock.acquire(Mode::Exclusive, None).unwrap();
    guard.release().unwrap();
}

export!(Bench);
