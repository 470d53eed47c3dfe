//! `flock(2)`: one lock for each open file description, on the whole file.

use std::fs::File;
use std::io;

use crate::Mode;
use crate::protocol::KernelLock;

#[derive(Debug)]
pub(crate) struct Flock;

impl KernelLock for Flock {
    fn lock(&self, file: &File, mode: Mode, wait: bool) -> io::Result<bool> {
        if wait {
            match mode {
                Mode::Exclusive => fs4::FileExt::lock(file),
                Mode::Shared => fs4::FileExt::lock_shared(file),
            }?;
            return Ok(true);
        }
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

    fn unlock(&self, file: &File) -> io::Result<()> {
        fs4::FileExt::unlock(file)
    }

    /// `flock` has no way to ask without trying. A try in shared mode first, so that other
    /// readers are not disturbed by it.
    fn holder(&self, file: &File) -> io::Result<Option<Mode>> {
        if !self.lock(file, Mode::Shared, false)? {
            return Ok(Some(Mode::Exclusive));
        }
        let alone = self.lock(file, Mode::Exclusive, false);
        self.unlock(file)?;
        Ok(if alone? { None } else { Some(Mode::Shared) })
    }
}
