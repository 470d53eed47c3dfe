//! pylockfile's `SymlinkLockFile`: a symbolic link that leads nowhere, and names its holder.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStringExt;

use rustix::fs::{FileType, readlinkat, symlinkat};
use rustix::io::Errno;

use super::MarkerFormat;
use super::dirent::EntryStat;
use super::owner_record::OwnerRecord;
use super::promise::Claim;
use crate::object::Created;

#[derive(Debug)]
pub(in crate::backend) struct Symlink;

impl MarkerFormat for Symlink {
    fn make(&self, dir: &File, name: &OsStr, claim: &OwnerRecord) -> io::Result<Created> {
        let token = claim.unique_name();
        symlinkat(&token, dir, name)?;
        Ok(Created {
            token,
            pin: None,
            life: None,
        })
    }

    fn is_one(&self, kind: FileType) -> bool {
        kind == FileType::Symlink
    }

    fn claim(&self, dir: &File, name: &OsStr, _: &EntryStat) -> io::Result<Option<Claim>> {
        let record = target(dir, name)?.and_then(|target| OwnerRecord::of_name(&target));
        // A link cannot be locked.
        let claim = record.map(|record| Claim::new(record, || Ok(None)));
        claim.transpose()
    }

    // Each link has a target of its own.
    fn is(&self, dir: &File, name: &OsStr, _: &EntryStat, created: &Created) -> io::Result<bool> {
        Ok(target(dir, name)?.as_ref() == Some(&created.token))
    }
}

/// The target of a link. `None` if it is gone, or not a link.
fn target(dir: &File, name: &OsStr) -> io::Result<Option<OsString>> {
    match readlinkat(dir, name, Vec::new()) {
        Ok(target) => Ok(Some(OsString::from_vec(target.into_bytes()))),
        Err(Errno::NOENT | Errno::INVAL) => Ok(None),
        Err(e) => Err(e.into()),
    }
}
