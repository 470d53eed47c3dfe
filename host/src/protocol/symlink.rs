//! pylockfile's `SymlinkLockFile`: a symbolic link that leads nowhere, and names its holder.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStringExt;

use rustix::fs::{FileType, readlinkat, symlinkat};
use rustix::io::Errno;

use super::claim::Claim;
use super::entry::Seen;
use super::name::Form;
use crate::site::Made;

#[derive(Debug)]
pub(crate) struct Symlink;

impl Form for Symlink {
    fn make(&self, dir: &File, name: &OsStr, claim: &Claim) -> io::Result<Made> {
        let mark = claim.unique_name();
        symlinkat(&mark, dir, name)?;
        Ok(Made { mark, pin: None })
    }

    fn is_one(&self, kind: FileType) -> bool {
        kind == FileType::Symlink
    }

    fn claim(&self, dir: &File, name: &OsStr, _: &Seen) -> io::Result<Option<Claim>> {
        Ok(target(dir, name)?.and_then(|target| Claim::of_name(&target)))
    }

    // Where it leads nobody else's does.
    fn is(&self, dir: &File, name: &OsStr, _: &Seen, made: &Made) -> io::Result<bool> {
        Ok(target(dir, name)?.as_ref() == Some(&made.mark))
    }
}

/// Where a link leads; none if it is gone, or no link.
fn target(dir: &File, name: &OsStr) -> io::Result<Option<OsString>> {
    match readlinkat(dir, name, Vec::new()) {
        Ok(target) => Ok(Some(OsString::from_vec(target.into_bytes()))),
        Err(Errno::NOENT | Errno::INVAL) => Ok(None),
        Err(e) => Err(e.into()),
    }
}
