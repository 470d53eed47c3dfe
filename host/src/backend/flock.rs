//! `flock(2)`: one lock for each open file description, on the whole file.

#![expect(clippy::disallowed_methods, reason = "the engine locks here")]

use std::io;

use super::{Backend, Request};
use crate::object::LockObject;
use crate::sys::TimedWait;
use crate::types::Mode;

#[derive(Debug)]
pub(crate) struct Flock;

impl Backend for Flock {
    fn try_lock(&self, object: &LockObject, request: Request) -> io::Result<bool> {
        let tried = match request.mode {
            Mode::Exclusive => fs4::FileExt::try_lock(&object.file),
            Mode::Shared => fs4::FileExt::try_lock_shared(&object.file),
        };
        match tried {
            Ok(()) => Ok(true),
            Err(fs4::TryLockError::WouldBlock) => Ok(false),
            Err(fs4::TryLockError::Error(e)) => Err(e),
        }
    }

    fn wait(
        &self,
        object: &LockObject,
        request: Request,
        timed_wait: &TimedWait,
    ) -> io::Result<()> {
        timed_wait.untimed(|| match request.mode {
            Mode::Exclusive => fs4::FileExt::lock(&object.file),
            Mode::Shared => fs4::FileExt::lock_shared(&object.file),
        })
    }

    fn unlock(&self, object: &LockObject) -> io::Result<()> {
        fs4::FileExt::unlock(&object.file)
    }
}
