//! A protocol that this build or this system lacks.

use std::ffi::OsStr;
use std::io;
use std::path::Path;

use super::{Backend, Request};
use crate::object::{Location, LockObject};
use crate::sys::TimedWait;

#[derive(Debug)]
pub(super) struct Missing;

impl Backend for Missing {
    fn place(&self, _: &OsStr, _: Option<&Path>) -> io::Result<Location> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn try_lock(&self, _: &LockObject, _: Request) -> io::Result<bool> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn wait(&self, _: &LockObject, _: Request, _: &TimedWait) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn unlock(&self, _: &LockObject) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
