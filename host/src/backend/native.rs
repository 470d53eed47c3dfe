//! Both lock families of Linux at once, on one descriptor.
//!
//! `flock` and record locks do not see each other, so a program that uses one never excludes a
//! program that uses the other. A holder of both excludes the users of either.
//!
//! The order is `flock` first. If another program holds the second lock, this thread waits for it
//! with the first in its hand, but only for so long ([`PATIENCE`]). Then it gives the first back and
//! waits for the second with empty hands, so that it does not keep the users of one family out for
//! nothing while a user of the other is at work. Once it has the second, it waits for the first in
//! the same way, and so on. Without the patience, two busy programs would starve it: whichever lock
//! it had waited for, the other would be taken again by the time it tried.
//!
//! No deadlock: a thread holds one lock while it waits for the other for a bounded time only. So
//! every circle of waits has an end as soon as it leads through one user of this protocol, and users
//! of a single family wait for nothing while they hold their lock.
//!
//! No endless dance of two users of this protocol either, one of which has `flock` and the other the
//! record lock: with the record lock in hand the patience is shorter. If both begin at one moment,
//! the one with the record lock gives it up first, and the other still waits for it. The same goes
//! for a program that takes the two in the opposite order and waits.
//!
//! They are released in reverse order, so that the next process in the queue of `flock`, in which
//! most users of this protocol wait, finds the record lock free.

use std::io;
use std::time::Duration;

use super::fcntl::Fcntl;
use super::flock::Flock;
use super::{Backend, Request};
use crate::object::LockObject;
use crate::sys::TimedWait;
use crate::types::ForeignHolder;

/// How long one of the two locks is held during a wait for the other: `flock`, and the record lock.
const PATIENCE: [Duration; 2] = [Duration::from_millis(5), Duration::from_millis(2)];

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
        let [with_flock, with_record] = PATIENCE;
        loop {
            Flock.wait(object, request, timed_wait)?;
            let record = wait_for(&Fcntl, object, request, timed_wait, with_flock);
            if or_undo(record, || Flock.unlock(object))? {
                return Ok(());
            }
            Fcntl.wait(object, request, timed_wait)?;
            let flock = wait_for(&Flock, object, request, timed_wait, with_record);
            if or_undo(flock, || Fcntl.unlock(object))? {
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

/// Waits for the second lock for as long as `patience`. Without a timer, only tries.
fn wait_for(
    second: &dyn Backend,
    object: &LockObject,
    request: Request,
    timed_wait: &TimedWait,
    patience: Duration,
) -> io::Result<bool> {
    let wait = || second.wait(object, request, timed_wait);
    Ok(second.try_lock(object, request)? || timed_wait.at_most(patience, wait)?)
}

/// Passes on the result of the second lock. Unless it was acquired, gives the first back.
fn or_undo(second: io::Result<bool>, undo: impl FnOnce() -> io::Result<()>) -> io::Result<bool> {
    if !matches!(second, Ok(true)) {
        undo()?;
    }
    second
}
