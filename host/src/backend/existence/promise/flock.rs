//! The proof by `flock`.

#![expect(
    clippy::disallowed_methods,
    reason = "it proves a lock, and is not one of a user"
)]

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;

use fs4::{FileExt, TryLockError};

use super::OwnerRecord;
use crate::object::Created;
use crate::sys;

/// Takes the lock on a file of a new marker, which has no name yet. Returns the record that promises
/// it; `None` if that is not possible there.
pub(in super::super) fn give(file: &File, mine: &OwnerRecord) -> Option<OwnerRecord> {
    let promise = sys::flock_domain(file).ok();
    FileExt::try_lock(file)
        .ok()
        .filter(|()| promise.is_some())?;
    Some(OwnerRecord {
        promise,
        ..mine.clone()
    })
}

/// The attribute that has the promising record, where the content is that of another program's
/// format.
const ATTRIBUTE: &str = "user.locket.live";

/// Takes the lock on a file that has no name yet, and says so in its attribute, if that is possible.
/// The content is complete.
fn attach(file: &File, mine: &OwnerRecord) {
    if let Some(promising) = give(file, mine)
        && let Ok(written) = written(file)
    {
        let mut attribute = promising.unique_name();
        attribute.push(format!("@{written}"));
        let _ = sys::set_attribute(file, ATTRIBUTE, attribute.as_bytes());
    }
}

/// The record in the attribute of a file whose content is that of `plain`, and otherwise `plain`.
pub(in super::super) fn attached(file: &File, plain: OwnerRecord) -> OwnerRecord {
    let mut room = [0; 512];
    let mut promising = || {
        let attribute = sys::attribute(file, ATTRIBUTE, &mut room)?;
        let at = attribute.iter().rposition(|byte| *byte == b'@')?;
        // Another program may have written the content since. In another container it may have the
        // number of the first.
        let same = attribute[at + 1..] == *written(file).ok()?.as_bytes();
        let record = OwnerRecord::of_own_name(OsStr::from_bytes(&attribute[..at]))?;
        (same && record.pid == plain.pid).then_some(record)
    };
    promising().unwrap_or(plain)
}

/// When the content was written, as the attribute says it.
fn written(file: &File) -> io::Result<String> {
    let (seconds, nanos) = sys::entry_of(file)?.modified;
    Ok(format!("{seconds}.{nanos}"))
}

/// Gives the lock up, once the marker has lost its name. A forked child may have the description
/// open, too, and would keep the lock.
pub(in super::super) fn end(created: &Created) {
    if let Some(carrier) = created.carrier() {
        let _ = FileExt::unlock(carrier);
    }
}

/// Whether the promised lock can be tried through `file`.
pub(super) fn counts(record: &OwnerRecord, file: &File) -> bool {
    sys::flock_domain(file).is_ok_and(|here| counts_in(record, here, sys::boot_id()))
}

/// The same through a file of the domain `here`.
fn counts_in(record: &OwnerRecord, here: u64, boot: u128) -> bool {
    // In others than the kernel's own file systems, another host may keep locks of its own.
    let everywhere = here & sys::OF_THIS_BOOT == 0;
    let then = record.start.map_or(0, |start| start.boot);
    record.promise == Some(here) && (everywhere || boot != 0 && then == boot)
}

/// Takes the promised lock in shared mode, if its holder has let it go.
pub(super) fn try_shared(file: &File) -> bool {
    loop {
        match FileExt::try_lock_shared(file) {
            Ok(()) => return true,
            Err(TryLockError::Error(e)) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return false,
        }
    }
}

pub(super) fn unlock(file: &File) {
    let _ = FileExt::unlock(file);
}

/// Creates a file with content and, if possible, a promise, complete from the moment it has its name.
/// `None` if that is not possible there.
pub(in super::super) fn make_file(
    dir: &File,
    name: &OsStr,
    content: &[u8],
    permissions: u32,
    claim: &OwnerRecord,
) -> io::Result<Option<File>> {
    let Ok(mut file) = sys::nameless_file(dir, permissions) else {
        return Ok(None);
    };
    file.write_all(content)?;
    attach(&file, claim);
    match sys::give_name(&file, dir, name) {
        Ok(()) => Ok(Some(file)),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Err(e),
        Err(_) => Ok(None),
    }
}

/// Creates an empty file with a name that promises what holds already. `None` if that is not possible
/// there.
pub(in super::super) fn make_promising_file(
    dir: &File,
    permissions: u32,
    claim: &OwnerRecord,
) -> Option<(File, OsString)> {
    let own = sys::nameless_file(dir, permissions).ok()?;
    let token = give(&own, claim)?.unique_name();
    sys::give_name(&own, dir, &token).ok()?;
    Some((own, token))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::existence::owner_record::Start;

    /// A program's or a server's file system may keep the locks of each host apart.
    #[test]
    fn a_promise_counts_where_the_lock_can_be_tried() {
        let record = |promise, boot| OwnerRecord {
            promise: Some(promise),
            start: Some(Start { boot, ticks: 7 }),
            ..OwnerRecord::mine()
        };
        let (ext4, overlay, server) = (0xef53, 0x794c_7630, sys::OF_THIS_BOOT | 42);
        assert!(counts_in(&record(ext4, 1), ext4, 1));
        assert!(counts_in(&record(ext4, 1), ext4, 2));
        assert!(!counts_in(&record(overlay, 1), ext4, 1));
        assert!(!counts_in(&record(ext4, 1), overlay, 1));
        assert!(counts_in(&record(server, 1), server, 1));
        assert!(!counts_in(&record(server, 1), server, 2));
        assert!(!counts_in(&record(server, 0), server, 0));
        assert!(!counts_in(&record(server, 1), server + 1, 1));
    }
}
