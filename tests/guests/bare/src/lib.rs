//! Locks in a component that does not import WASI.

#![no_std]

extern crate alloc;

use alloc::string::{String, ToString};
use core::mem;
use core::time::Duration;
use freestanding as _;
use locket_guest::{Error, LockFile, Mode};

wit_bindgen::generate!();

struct Bare;

impl Guest for Bare {
    fn run(path: String, timeout: Option<u32>) -> String {
        let timeout = timeout.map(|millis| Duration::from_millis(millis.into()));
        answer(LockFile::open(&path).and_then(|mut lock| {
            lock.lock(Mode::Exclusive, timeout)?;
            lock.release()
        }))
    }

    fn hold(path: String) -> String {
        answer(LockFile::open(&path).and_then(|mut lock| {
            lock.lock(Mode::Exclusive, Duration::ZERO)?;
            mem::forget(lock);
            Ok(())
        }))
    }
}

fn answer(result: Result<(), Error>) -> String {
    match result {
        Ok(()) => "ok".to_string(),
        Err(error) => support::kind(error.kind()),
    }
}

export!(Bare);
