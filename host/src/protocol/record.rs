//! The lock that a system keeps for an open file description on a range of bytes, here always
//! all of them: record locks of POSIX systems, `LockFileEx` of Windows.

use std::fs::File;
use std::io;

use crate::Mode;
use crate::protocol::KernelLock;
use crate::sys::{self, Sleeper};

#[derive(Debug)]
pub(crate) struct Record;

impl KernelLock for Record {
    fn try_lock(&self, file: &File, mode: Mode) -> io::Result<bool> {
        sys::try_lock(file, mode)
    }

    fn wait(&self, file: &File, mode: Mode, sleeper: &Sleeper) -> io::Result<()> {
        sys::wait(file, mode, sleeper)
    }

    fn unlock(&self, file: &File) -> io::Result<()> {
        sys::unlock(file)
    }

    #[cfg(unix)]
    fn holder(&self, file: &File) -> io::Result<Option<Mode>> {
        sys::holder(file)
    }
}
