//! pylockfile's `PIDLockFile`: the file itself, created by the holder, with its process number in
//! it.
//!
//! The number's host and namespace are not in the content, nor when the process started. An extended
//! attribute, which pylockfile ignores, has them, and the [`promise`]. Without it, a holder can be
//! proven dead only on a file system of this host, if all processes of the host are visible, and
//! never if its number is in use again.

use std::ffi::OsStr;
use std::fs::File;
use std::io;

use super::MarkerFormat;
use super::dirent::{EntryStat, make_file, open_file, read_file};
use super::owner_record::{Host, OwnerRecord, parse_pid};
use super::promise::{self, Claim};
use crate::object::Created;

#[derive(Debug)]
pub(in crate::backend) struct PidFile;

impl MarkerFormat for PidFile {
    fn suffix(&self) -> &'static str {
        ""
    }

    fn is_record(&self, dir: &File, name: &OsStr, seen: &EntryStat) -> io::Result<bool> {
        Ok(self.claim(dir, name, seen)?.is_some())
    }

    fn make(&self, dir: &File, name: &OsStr, claim: &OwnerRecord) -> io::Result<Created> {
        let content = format!("{}\n", claim.pid);
        make_file(dir, name, content.as_bytes(), 0o644, claim)
    }

    // A file with a number in it may be anything.
    fn is_certain(&self) -> bool {
        false
    }

    fn claim(&self, dir: &File, name: &OsStr, seen: &EntryStat) -> io::Result<Option<Claim>> {
        let Some(file) = open_file(dir, name, seen)? else {
            return Ok(None);
        };
        let content = read_file(&file)?.unwrap_or_default();
        // Without a newline at the end it may be half-written.
        let pid = content
            .strip_suffix(b"\n")
            .and_then(|line| std::str::from_utf8(line).ok())
            .and_then(parse_pid);
        let plain = pid.map(|pid| OwnerRecord {
            pid,
            host: Host::Local,
            start: None,
            promise: None,
        });
        let record = plain.map(|plain| promise::attached(&file, plain));
        record
            .map(|record| Claim::new(record, || Ok(Some(file))))
            .transpose()
    }
}
