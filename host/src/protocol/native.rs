//! Both lock families of Linux at once, on one descriptor.
//!
//! `flock` and record locks do not see each other, so a program that uses one never excludes a
//! program that uses the other. Whoever holds both excludes everybody.
//!
//! The order is always `flock` first. Where the second lock is held by somebody else, the first
//! is given back before this thread waits: holding one lock while waiting for another is how two
//! programs that take them in opposite order never finish, and it would keep the users of `flock`
//! out on behalf of nobody. Having waited for the second, it tries the first, and so on: each
//! round ends with both, or with a wait for the one that is really held, holding nothing.
//!
//! They are released in reverse, so that the next in the queue of `flock`, where everybody who
//! uses this protocol queues, finds the record lock free.

use std::io;

use crate::object::LockObject;
use crate::protocol::fcntl::Fcntl;
use crate::protocol::flock::Flock;
use crate::protocol::{Backend, ForeignHolder, Request};
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

/// Passes on what came of the second lock; gives the first back unless the second was had.
fn or_undo(second: io::Result<bool>, undo: impl FnOnce() -> io::Result<()>) -> io::Result<bool> {
    if !matches!(second, Ok(true)) {
        undo()?;
    }
    second
}
