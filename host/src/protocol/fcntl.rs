//! The lock that a system keeps for an open file description on a range of bytes, here always
//! all of them: record locks of POSIX systems, `LockFileEx` of Windows.
//!
//! On POSIX systems never the classic kind, which belongs to the process: any stray `close` of the
//! file in it drops that, and it excludes nobody within it. The two kinds exclude each other.

use std::io;

#[cfg(unix)]
use crate::protocol::Found;
use crate::protocol::{Scheme, Want};
use crate::site::Site;
use crate::sys::{self, Sleeper};

#[derive(Debug)]
pub(crate) struct Fcntl;

impl Scheme for Fcntl {
    fn needs_write(&self) -> bool {
        true
    }

    fn try_lock(&self, site: &Site, want: Want) -> io::Result<bool> {
        sys::try_lock(&site.file, want.mode)
    }

    fn wait(&self, site: &Site, want: Want, sleeper: &Sleeper) -> io::Result<()> {
        sys::wait(&site.file, want.mode, sleeper)
    }

    fn unlock(&self, site: &Site) -> io::Result<()> {
        sys::unlock(&site.file)
    }

    #[cfg(unix)]
    fn holder(&self, site: &Site) -> io::Result<Option<Found>> {
        let found = sys::holder(&site.file)?;
        Ok(found.map(|(mode, pid)| Found {
            pid,
            ..Found::new(mode)
        }))
    }
}
