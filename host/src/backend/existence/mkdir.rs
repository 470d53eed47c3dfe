//! pylockfile's `MkdirLockFile`: a directory, and in it an empty file that names the holder.
//!
//! The directory is created complete under another name, and then renamed in one step. An empty one
//! is a lock too: of proper-lockfile, of SQLite, or of a process that died half-way.

use std::ffi::OsStr;
use std::fs::File;
use std::io;

use super::MarkerFormat;
use super::dirent::{EntryStat, names, remove_bare};
use super::owner_record::OwnerRecord;
use super::promise::{self, Claim};
use crate::object::Created;
use crate::sys::{self, EntryKind};

#[derive(Debug)]
pub(in crate::backend) struct Mkdir;

impl MarkerFormat for Mkdir {
    fn make(&self, dir: &File, name: &OsStr, claim: &OwnerRecord) -> io::Result<Created> {
        let aside = claim.unique_name();
        let created = build(dir, &aside, claim, true)?;
        match sys::rename_new(dir, &aside, name) {
            Ok(()) => Ok(created),
            Err(e) => {
                let _ = remove_bare(dir, &aside);
                match e.kind() {
                    io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound => Err(e),
                    // Not possible there: create it in its place, as the peers do.
                    _ => build(dir, name, claim, false),
                }
            }
        }
    }

    fn is_one(&self, kind: EntryKind) -> bool {
        kind == EntryKind::Directory
    }

    fn claim(&self, dir: &File, name: &OsStr, seen: &EntryStat) -> io::Result<Option<Claim>> {
        let Some(lock) = sys::open_subdir(dir, name)? else {
            return Ok(None);
        };
        if !sys::entry_of(&lock).is_ok_and(|facts| seen.is(facts.identity)) {
            return Ok(None);
        }
        // A directory with more than one file belongs to no known program.
        match names(&lock)?.as_deref() {
            Some([file]) => {
                let claim = OwnerRecord::of_name(file);
                let claim = claim.or_else(|| OwnerRecord::of_plain_name(file));
                let claim = claim.map(|claim| Claim::new(claim, || sys::open_file(&lock, file)));
                claim.transpose()
            }
            _ => Ok(None),
        }
    }

    fn clear(
        &self,
        dir: &File,
        name: &OsStr,
        seen: &EntryStat,
        created: Option<&Created>,
    ) -> io::Result<()> {
        let Some(Created { token, pin, .. }) = created else {
            return remove_bare(dir, name);
        };
        // In one step: dying between two would leave an empty directory that does not name its
        // holder.
        sys::rename(dir, name, Some(seen.identity()), token)?;
        if let Some(lock) = pin {
            let _ = sys::unlink(lock, token, None);
        }
        // It stays if another process has put more into it.
        let _ = sys::remove_dir(dir, token);
        Ok(())
    }
}

/// Creates the directory with the file in it. The file makes a promise if `aside`: if the directory
/// does not have the name of the lock yet.
fn build(dir: &File, name: &OsStr, claim: &OwnerRecord, aside: bool) -> io::Result<Created> {
    let mut token = claim.unique_name();
    sys::create_dir(dir, name)?;
    let mut fill = || -> io::Result<(File, File)> {
        // The umask can deny access to the owner.
        let lock = sys::open_subdir(dir, name)?.ok_or(io::ErrorKind::PermissionDenied)?;
        let own = sys::create_file(&lock, &token, 0o666)?;
        if aside && let Some(promising) = promise::give(&own, claim) {
            let promising = promising.unique_name();
            sys::rename(&lock, &token, None, &promising)?;
            token = promising;
        }
        Ok((lock, own))
    };
    match fill() {
        Ok((lock, own)) => Ok(Created {
            token,
            pin: Some(lock),
            // Windows renames no directory in which a file is open.
            life: cfg!(unix).then_some(own),
        }),
        Err(e) => {
            let _ = remove_bare(dir, name);
            Err(e)
        }
    }
}
