//! No proof but the record. Windows has no lock of a whole file that leaves its content readable, and
//! needs none here: every process of the host can ask for any other by its number, and the time at
//! which it was created tells it from those that had the number before.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write};

use super::OwnerRecord;
use crate::object::Created;
use crate::sys;

pub(in super::super) fn give(_: &File, _: &OwnerRecord) -> Option<OwnerRecord> {
    None
}

pub(in super::super) fn attached(_: &File, plain: OwnerRecord) -> OwnerRecord {
    plain
}

pub(in super::super) fn end(_: &Created) {}

pub(super) fn counts(_: &OwnerRecord, _: &File) -> bool {
    false
}

pub(super) fn try_shared(_: &File) -> bool {
    false
}

pub(super) fn unlock(_: &File) {}

/// Creates a file with content, complete from the moment it has its name: it has another one before.
pub(in super::super) fn make_file(
    dir: &File,
    name: &OsStr,
    content: &[u8],
    permissions: u32,
    claim: &OwnerRecord,
) -> io::Result<Option<File>> {
    let aside = claim.unique_name();
    let mut file = sys::create_file(dir, &aside, permissions)?;
    let made = file.write_all(content);
    let made = made.and_then(|()| sys::rename_new(dir, &aside, name));
    if let Err(e) = made {
        drop(file);
        let _ = sys::unlink(dir, &aside, None);
        return Err(e);
    }
    Ok(Some(file))
}

pub(in super::super) fn make_promising_file(
    _: &File,
    _: u32,
    _: &OwnerRecord,
) -> Option<(File, OsString)> {
    None
}
