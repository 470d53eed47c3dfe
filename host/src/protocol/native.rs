//! Both lock families of Linux at once, on one descriptor.
//!
//! `flock` and record locks do not see each other, so a program that uses one never excludes a
//! program that uses the other. Whoever holds both excludes everybody. The record lock is one of
//! the open file description: the classic kind belongs to the process, is dropped by any stray
//! `close` of the file in it, and excludes nobody within it.
//!
//! The order is always `flock` first. Where the second lock is held by somebody else, the first
//! is given back before this thread waits: holding one lock while waiting for another is how two
//! programs that take them in opposite order never finish, and it would keep the users of `flock`
//! out on behalf of nobody. Having waited for the second, it tries the first, and so on: each
//! round ends with both, or with a wait for the one that is really held, holding nothing.
//!
//! They are released in reverse, so that the next in the queue of `flock`, where everybody who
//! uses this protocol queues, finds the record lock free.

use std::fs::File;
use std::io;

use crate::Mode;
use crate::protocol::KernelLock;
use crate::protocol::flock::Flock;
use crate::protocol::record::Record;
use crate::sys::Sleeper;

#[derive(Debug)]
pub(crate) struct Native;

impl KernelLock for Native {
    fn try_lock(&self, file: &File, mode: Mode) -> io::Result<bool> {
        if !Flock.try_lock(file, mode)? {
            return Ok(false);
        }
        or_undo(Record.try_lock(file, mode), || Flock.unlock(file))
    }

    fn wait(&self, file: &File, mode: Mode, sleeper: &Sleeper) -> io::Result<()> {
        loop {
            Flock.wait(file, mode, sleeper)?;
            if or_undo(Record.try_lock(file, mode), || Flock.unlock(file))? {
                return Ok(());
            }
            Record.wait(file, mode, sleeper)?;
            if or_undo(Flock.try_lock(file, mode), || Record.unlock(file))? {
                return Ok(());
            }
        }
    }

    fn unlock(&self, file: &File) -> io::Result<()> {
        let record = Record.unlock(file);
        Flock.unlock(file)?;
        record
    }

    fn holder(&self, file: &File) -> io::Result<Option<Mode>> {
        match Record.holder(file)? {
            Some(mode) => Ok(Some(mode)),
            None => Flock.holder(file),
        }
    }
}

/// Passes on what came of the second lock; gives the first back unless the second was had.
fn or_undo(second: io::Result<bool>, undo: impl FnOnce() -> io::Result<()>) -> io::Result<bool> {
    if !matches!(second, Ok(true)) {
        undo()?;
    }
    second
}
