//! pylockfile's `SymlinkLockFile`: a symbolic link that leads nowhere, and names its holder.

use std::ffi::OsStr;
use std::fs::File;
use std::io;

use super::MarkerFormat;
use super::dirent::EntryStat;
use super::owner_record::OwnerRecord;
use super::promise::Claim;
use crate::object::Created;
use crate::sys::{self, EntryKind};

#[derive(Debug)]
pub(in crate::backend) struct Symlink;

impl MarkerFormat for Symlink {
    fn make(&self, dir: &File, name: &OsStr, claim: &OwnerRecord) -> io::Result<Created> {
        let token = claim.unique_name();
        sys::symlink(&token, dir, name)?;
        Ok(Created {
            token,
            pin: None,
            life: None,
        })
    }

    fn is_one(&self, kind: EntryKind) -> bool {
        kind == EntryKind::Symlink
    }

    fn claim(&self, dir: &File, name: &OsStr, _: &EntryStat) -> io::Result<Option<Claim>> {
        let record = sys::read_link(dir, name)?.and_then(|target| OwnerRecord::of_name(&target));
        // A link cannot be locked.
        let claim = record.map(|record| Claim::new(record, || Ok(None)));
        claim.transpose()
    }

    // Each link has a target of its own.
    fn is(&self, dir: &File, name: &OsStr, _: &EntryStat, created: &Created) -> io::Result<bool> {
        Ok(sys::read_link(dir, name)?.as_ref() == Some(&created.token))
    }
}
