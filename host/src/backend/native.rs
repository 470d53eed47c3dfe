//! Both lock families of Linux at once, on one descriptor.
//!
//! `flock` and record locks do not see each other, so a program that uses one never excludes a
//! program that uses the other. A holder of both excludes the users of either.
//!
//! The order is always `flock` first. If another program holds the second lock, this thread gives
//! the first back before it waits. Otherwise it could deadlock with a program that takes the two in
//! the opposite order, and it would keep the users of `flock` out for nothing. After the wait for
//! the second lock, it tries the first, and so on: each round ends with both locks, or holds
//! nothing and waits for the one that is held.
//!
//! They are released in reverse order, so that the next process in the queue of `flock`, in which
//! all users of this protocol wait, finds the record lock free.

use std::io;

use super::fcntl::Fcntl;
use super::flock::Flock;
use super::{Backend, ForeignHolder, Request};
use crate::object::LockObject;
use crate::sys::TimedWait;

#[derive(Debug)]
pub(crate) struct Native;

impl Backend for Native {
    fn needs_write(&self) -> bool {
        true
    }

    fn try_lock(&self, object: &LockObject, request: Request) -> io::Result<bool> {
        if !Flock.try_lock(object, request)? {
            return Ok(false);
        }
        or_undo(Fcntl.try_lock(object, request), || Flock.unlock(object))
    }

    fn wait(
        &self,
        object: &LockObject,
        request: Request,
        timed_wait: &TimedWait,
    ) -> io::Result<()> {
        loop {
            Flock.wait(object, request, timed_wait)?;
            if or_undo(Fcntl.try_lock(object, request), || Flock.unlock(object))? {
                return Ok(());
            }
            Fcntl.wait(object, request, timed_wait)?;
            if or_undo(Flock.try_lock(object, request), || Fcntl.unlock(object))? {
                return Ok(());
            }
        }
    }

    fn unlock(&self, object: &LockObject) -> io::Result<()> {
        let record = Fcntl.unlock(object);
        Flock.unlock(object)?;
        record
    }

    fn holder(&self, object: &LockObject) -> io::Result<Option<ForeignHolder>> {
        match Fcntl.holder(object)? {
            Some(found) => Ok(Some(found)),
            None => Flock.holder(object),
        }
    }
}

/// Passes on the result of the second lock. Unless it was acquired, gives the first back.
fn or_undo(second: io::Result<bool>, undo: impl FnOnce() -> io::Result<()>) -> io::Result<bool> {
    if !matches!(second, Ok(true)) {
        undo()?;
    }
    second
}
