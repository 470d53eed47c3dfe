//! Locks an open file that our caller passes on. The lock stays when this process ends.
//!
//! A lock belongs to the open file description, and so to every process that has a descriptor of it.
//! The engine does not do this: it waits on a description of its own, which ends with this process.

use std::fs::File;
use std::io;
use std::mem;
use std::time::{Duration, Instant};

use locket::{Mode, Protocol};
use nix::libc;
use rustix::fs::{FlockOperation, OFlags, fcntl_getfl, flock};
use rustix::io::Errno;

use super::Exec;
use crate::exit::{self, ExitError};
use crate::output::shown_path;
use crate::sys::{self, Alarm};

impl Exec {
    /// Locks or unlocks an open file of our caller's.
    pub(super) fn run_on_descriptor(&self) -> anyhow::Result<u8> {
        let number = self.path.to_str().and_then(|number| number.parse().ok());
        let Some(descriptor) = number.filter(|number| *number >= 0) else {
            let why = format!(
                "there is no COMMAND, as in `locket exec {0} -- COMMAND`, and `{0}` is not the \
                 number of an open descriptor",
                shown_path(&self.path)
            );
            return Err(ExitError::new(exit::USAGE, why).into());
        };
        let existence = self.protocol().is_some_and(Protocol::is_existence_lock);
        let several = !self.also.is_empty() || !self.also_shared.is_empty();
        #[cfg(feature = "remote")]
        let remote = self.remote.is_set();
        #[cfg(not(feature = "remote"))]
        let remote = false;
        if existence || self.remove || self.no_fork || several || remote || self.fencing {
            let why = "an open descriptor takes one kernel lock, without --remove, --no-fork, \
                       --remote and --fencing";
            return Err(ExitError::new(exit::USAGE, why).into());
        }
        let locked = if self.unlock {
            unlock(descriptor).map(|()| true)
        } else {
            lock(descriptor, self.mode(), self.protocol(), self.timeout())
        };
        match locked {
            Ok(true) => Ok(0),
            Ok(false) => {
                self.verbose(format_args!(
                    "descriptor {descriptor} is locked by another holder"
                ));
                Ok(self.conflict_exit_code)
            }
            Err(e) => {
                let code = if exit::is_shortage(&e) {
                    exit::UNAVAILABLE
                } else {
                    exit::DATA
                };
                let what = if self.unlock { "unlock" } else { "lock" };
                let error = format_args!("cannot {what} descriptor {descriptor}: {e}");
                Err(ExitError::new(code, error).into())
            }
        }
    }
}

/// A kernel lock of one family.
#[derive(Clone, Copy)]
enum Family {
    Flock,
    Record,
}

/// Locks an open file. Returns whether that was possible in time.
fn lock(
    descriptor: i32,
    mode: Mode,
    protocol: Option<Protocol>,
    timeout: Option<Duration>,
) -> io::Result<bool> {
    let file = sys::duplicate(descriptor)?;
    let only = match protocol {
        Some(Protocol::Flock) => Some(Family::Flock),
        Some(Protocol::Fcntl) => Some(Family::Record),
        // There the two exclude each other, even on one description.
        _ if cfg!(target_os = "macos") => Some(Family::Flock),
        // What cannot have a record lock has the lock of `flock(1)`.
        None if !takes_record_lock(&file, mode)? => Some(Family::Flock),
        _ => None,
    };
    let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    match only {
        Some(family) => family.lock(&file, mode, deadline),
        None => lock_both(&file, mode, deadline),
    }
}

/// Locks an open file in both families. While it waits for one, it does not hold the other: it would
/// keep out users of that one, and a process that takes the two in the other order would wait for it
/// while it waits for that process.
fn lock_both(file: &File, mode: Mode, deadline: Option<Instant>) -> io::Result<bool> {
    let (mut awaited, mut other) = (Family::Flock, Family::Record);
    while awaited.lock(file, mode, deadline)? {
        let locked = other.try_lock(file, mode);
        if matches!(locked, Ok(true)) {
            return locked;
        }
        awaited.unlock(file)?;
        locked?;
        mem::swap(&mut awaited, &mut other);
    }
    Ok(false)
}

/// Gives back whatever lock an open file has.
fn unlock(descriptor: i32) -> io::Result<()> {
    let file = sys::duplicate(descriptor)?;
    let record = Family::Record.unlock(&file);
    Family::Flock.unlock(&file)?;
    record
}

fn takes_record_lock(file: &File, mode: Mode) -> io::Result<bool> {
    let access = fcntl_getfl(file)? & OFlags::ACCMODE;
    Ok(match mode {
        Mode::Exclusive => access != OFlags::RDONLY,
        Mode::Shared => access != OFlags::WRONLY,
    })
}

impl Family {
    /// Tries, then waits until the deadline.
    fn lock(self, file: &File, mode: Mode, deadline: Option<Instant>) -> io::Result<bool> {
        if self.try_lock(file, mode)? {
            return Ok(true);
        }
        let passed = || deadline.is_some_and(|deadline| deadline <= Instant::now());
        if passed() {
            return Ok(false);
        }
        let _alarm = deadline.map(Alarm::at);
        loop {
            match self.call(file, mode, true) {
                Err(Errno::INTR) if passed() => return Ok(false),
                Err(Errno::INTR) => {}
                result => return Ok(result.map(|()| true)?),
            }
        }
    }

    fn try_lock(self, file: &File, mode: Mode) -> io::Result<bool> {
        match self.call(file, mode, false) {
            Err(Errno::WOULDBLOCK | Errno::ACCESS) => Ok(false),
            result => Ok(result.map(|()| true)?),
        }
    }

    fn call(self, file: &File, mode: Mode, wait: bool) -> Result<(), Errno> {
        match self {
            Self::Flock => {
                let operation = match (mode, wait) {
                    (Mode::Exclusive, true) => FlockOperation::LockExclusive,
                    (Mode::Exclusive, false) => FlockOperation::NonBlockingLockExclusive,
                    (Mode::Shared, true) => FlockOperation::LockShared,
                    (Mode::Shared, false) => FlockOperation::NonBlockingLockShared,
                };
                flock(file, operation)
            }
            Self::Record => {
                let lock = sys::record(Some(mode), 0, 0);
                let command = if wait {
                    libc::F_OFD_SETLKW
                } else {
                    libc::F_OFD_SETLK
                };
                sys::control(file, command, &lock).map_err(errno)
            }
        }
    }

    fn unlock(self, file: &File) -> io::Result<()> {
        Ok(match self {
            Self::Flock => flock(file, FlockOperation::Unlock),
            Self::Record => {
                let nothing = sys::record(None, 0, 0);
                sys::control(file, libc::F_OFD_SETLK, &nothing).map_err(errno)
            }
        }?)
    }
}

fn errno(error: nix::errno::Errno) -> Errno {
    Errno::from_raw_os_error(error as i32)
}
