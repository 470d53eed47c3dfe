//! The lock that a system keeps for an open file description on a range of bytes, here always the
//! whole file: record locks of POSIX systems, `LockFileEx` of Windows.
//!
//! On POSIX systems it is never the classic kind, which belongs to the process: any stray `close`
//! of the file in that process drops the lock, and it excludes no thread of that process. The two
//! kinds exclude each other.

use std::io;

use super::{Backend, Request};
use crate::object::LockObject;
use crate::sys::{self, TimedWait};
#[cfg(unix)]
use crate::types::ForeignHolder;

#[derive(Debug)]
pub(crate) struct Fcntl;

impl Backend for Fcntl {
    fn needs_write(&self) -> bool {
        true
    }

    fn try_lock(&self, object: &LockObject, request: Request) -> io::Result<bool> {
        sys::try_lock(&object.file, request.mode)
    }

    fn wait(
        &self,
        object: &LockObject,
        request: Request,
        timed_wait: &TimedWait,
    ) -> io::Result<()> {
        sys::wait(&object.file, request.mode, timed_wait)
    }

    fn unlock(&self, object: &LockObject) -> io::Result<()> {
        sys::unlock(&object.file)
    }

    #[cfg(unix)]
    fn holder(&self, object: &LockObject) -> io::Result<Option<ForeignHolder>> {
        let found = sys::holder(&object.file)?;
        Ok(found.map(|(mode, pid)| ForeignHolder {
            pid,
            ..ForeignHolder::new(mode)
        }))
    }
}
