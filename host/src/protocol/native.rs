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

use crate::protocol::fcntl::Fcntl;
use crate::protocol::flock::Flock;
use crate::protocol::{Found, Scheme, Want};
use crate::site::Site;
use crate::sys::Sleeper;

#[derive(Debug)]
pub(crate) struct Native;

impl Scheme for Native {
    fn needs_write(&self) -> bool {
        true
    }

    fn try_lock(&self, site: &Site, want: Want) -> io::Result<bool> {
        if !Flock.try_lock(site, want)? {
            return Ok(false);
        }
        or_undo(Fcntl.try_lock(site, want), || Flock.unlock(site))
    }

    fn wait(&self, site: &Site, want: Want, sleeper: &Sleeper) -> io::Result<()> {
        loop {
            Flock.wait(site, want, sleeper)?;
            if or_undo(Fcntl.try_lock(site, want), || Flock.unlock(site))? {
                return Ok(());
            }
            Fcntl.wait(site, want, sleeper)?;
            if or_undo(Flock.try_lock(site, want), || Fcntl.unlock(site))? {
                return Ok(());
            }
        }
    }

    fn unlock(&self, site: &Site) -> io::Result<()> {
        let record = Fcntl.unlock(site);
        Flock.unlock(site)?;
        record
    }

    fn holder(&self, site: &Site) -> io::Result<Option<Found>> {
        match Fcntl.holder(site)? {
            Some(found) => Ok(Some(found)),
            None => Flock.holder(site),
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
