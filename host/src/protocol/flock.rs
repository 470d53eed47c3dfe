//! `flock(2)`: one lock for each open file description, on the whole file.

use std::fs::File;
use std::io;

use crate::Mode;
use crate::protocol::KernelLock;
use crate::sys::Sleeper;

#[derive(Debug)]
pub(crate) struct Flock;

impl KernelLock for Flock {
    fn try_lock(&self, file: &File, mode: Mode) -> io::Result<bool> {
        let tried = match mode {
            Mode::Exclusive => fs4::FileExt::try_lock(file),
            Mode::Shared => fs4::FileExt::try_lock_shared(file),
        };
        match tried {
            Ok(()) => Ok(true),
            Err(fs4::TryLockError::WouldBlock) => Ok(false),
            Err(fs4::TryLockError::Error(e)) => Err(e),
        }
    }

    fn wait(&self, file: &File, mode: Mode, sleeper: &Sleeper) -> io::Result<()> {
        sleeper.untimed(|| match mode {
            Mode::Exclusive => fs4::FileExt::lock(file),
            Mode::Shared => fs4::FileExt::lock_shared(file),
        })
    }

    fn unlock(&self, file: &File) -> io::Result<()> {
        fs4::FileExt::unlock(file)
    }
}
