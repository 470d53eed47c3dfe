//! `flock(2)`: one lock for each open file description, on the whole file.

use std::io;

use crate::Mode;
use crate::protocol::{Scheme, Want};
use crate::site::Site;
use crate::sys::Sleeper;

#[derive(Debug)]
pub(crate) struct Flock;

impl Scheme for Flock {
    fn try_lock(&self, site: &Site, want: Want) -> io::Result<bool> {
        let tried = match want.mode {
            Mode::Exclusive => fs4::FileExt::try_lock(&site.file),
            Mode::Shared => fs4::FileExt::try_lock_shared(&site.file),
        };
        match tried {
            Ok(()) => Ok(true),
            Err(fs4::TryLockError::WouldBlock) => Ok(false),
            Err(fs4::TryLockError::Error(e)) => Err(e),
        }
    }

    fn wait(&self, site: &Site, want: Want, sleeper: &Sleeper) -> io::Result<()> {
        sleeper.untimed(|| match want.mode {
            Mode::Exclusive => fs4::FileExt::lock(&site.file),
            Mode::Shared => fs4::FileExt::lock_shared(&site.file),
        })
    }

    fn unlock(&self, site: &Site) -> io::Result<()> {
        fs4::FileExt::unlock(&site.file)
    }
}
