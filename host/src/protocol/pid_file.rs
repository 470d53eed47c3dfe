//! pylockfile's `PIDLockFile`: the file itself, made by whoever holds the lock, with the number of
//! that process in it.
//!
//! It does not say on which host or in which namespace that is the number, nor when it started. So
//! only on a file system of this host, and where every process of the host is seen, can a holder
//! be proven dead; and never one whose number is in use again.

use std::ffi::OsStr;
use std::fs::File;
use std::io;

use super::dirent::{EntryStat, make_file, read_file};
use super::existence::MarkerFormat;
use super::owner_record::{Host, OwnerRecord, parse_pid};
use crate::object::Created;

#[derive(Debug)]
pub(crate) struct PidFile;

impl MarkerFormat for PidFile {
    fn suffix(&self) -> &'static str {
        ""
    }

    fn has_content(&self) -> bool {
        true
    }

    fn make(&self, dir: &File, name: &OsStr, claim: &OwnerRecord) -> io::Result<Created> {
        let content = format!("{}\n", claim.pid);
        make_file(dir, name, content.as_bytes(), 0o644)
    }

    // A file with a number in it may be anything.
    fn is_certain(&self) -> bool {
        false
    }

    fn claim(&self, dir: &File, name: &OsStr, seen: &EntryStat) -> io::Result<Option<OwnerRecord>> {
        let Some(content) = read_file(dir, name, seen)? else {
            return Ok(None);
        };
        // Without its end it may be half-written.
        let pid = content
            .strip_suffix(b"\n")
            .and_then(|line| std::str::from_utf8(line).ok())
            .and_then(parse_pid);
        Ok(pid.map(|pid| OwnerRecord {
            pid,
            host: Host::Local,
            start: None,
        }))
    }
}
