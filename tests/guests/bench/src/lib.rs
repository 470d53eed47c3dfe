//! Locks over and over, for measurements.

#![no_std]

extern crate alloc;

use alloc::string::String;
use bench::host::empty::Thing;
use freestanding as _;
use locket_guest::LockFile;

wit_bindgen::generate!();

struct Bench;

impl Guest for Bench {
    fn pairs(path: String, n: u32) {
        let lock = LockFile::open(&path).unwrap();
        for _ in 0..n {
            lock.acquire().unwrap().release().unwrap();
        }
    }

    fn empties(n: u32) {
        let thing = Thing::new();
        for _ in 0..n {
            thing.nothing();
            thing.nothing();
        }
    }

    fn opens(path: String, n: u32) {
        for _ in 0..n {
            let lock = LockFile::open(&path).unwrap();
            lock.acquire().unwrap().release().unwrap();
        }
    }
}

export!(Bench);
