//! The record of a hold: a unique name of its holder.
//!
//! A guest has no process identifier and does not know the name of its host. So it calls itself
//! process 1 of a host whose name no real host has. That name contains the time of the hold. The
//! guest writes this in the format of the programs with which it shares its locks. Those programs
//! cannot prove such a holder dead, because to them it is a process on another host.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;

/// The prefix of such host names. No real host name contains a plus sign.
const HOST: &str = "wasm+";

/// The suffix that identifies a process on a host, in pylockfile's format `HOST.PID-NUMBER`.
const PROCESS: &str = ".1-1";

/// The longest content of a lock file that any program writes.
pub(crate) const LONGEST_RECORD: u64 = 1024;

/// Names the holder of one hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OwnerRecord(String);

impl OwnerRecord {
    /// Creates a record. The two clocks distinguish instances, and the number distinguishes the holds
    /// of one instance.
    pub(crate) fn new(wall_nanos: u64, monotonic_nanos: u64, number: u64) -> Self {
        Self(format!(
            "{HOST}{wall_nanos:016x}{monotonic_nanos:016x}{number:x}"
        ))
    }

    /// The file name or link target that identifies the holder.
    pub(crate) fn name(&self) -> String {
        format!("{}{PROCESS}", self.0)
    }

    /// Parses the result of [`name`](Self::name).
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::from_host(name.strip_suffix(PROCESS)?)
    }

    /// The content of a lock file: the record of Python's `SoftFileLock`, which treats a record
    /// that it cannot read as garbage.
    pub(crate) fn content(&self) -> String {
        format!("1\n{}\n", self.0)
    }

    /// Parses the result of [`content`](Self::content).
    pub(crate) fn from_content(content: &[u8]) -> Option<Self> {
        let content = core::str::from_utf8(content).ok()?;
        Self::from_host(content.strip_prefix("1\n")?.strip_suffix('\n')?)
    }

    fn from_host(host: &str) -> Option<Self> {
        let digits = host.strip_prefix(HOST)?;
        let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit());
        plain.then(|| Self(host.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_record_can_be_read() {
        let owner = OwnerRecord::new(1_795_271_062_000_000_001, 7, 0);
        assert_eq!(OwnerRecord::from_name(&owner.name()).as_ref(), Some(&owner));
        assert_eq!(
            OwnerRecord::from_content(owner.content().as_bytes()).as_ref(),
            Some(&owner)
        );
    }

    #[test]
    fn two_holds_have_different_records() {
        let owner = OwnerRecord::new(1, 2, 3);
        for other in [
            OwnerRecord::new(0, 2, 3),
            OwnerRecord::new(1, 1, 3),
            OwnerRecord::new(1, 2, 4),
        ] {
            assert_ne!(owner, other);
        }
    }

    #[test]
    fn the_records_of_other_programs_are_not_ours() {
        for name in [
            "vm.1-1",
            "wasm+.1-1",
            "wasm+1f.2-1",
            "wasm+1g.1-1",
            "wasm+1f",
            "",
        ] {
            assert_eq!(OwnerRecord::from_name(name), None, "{name}");
        }
        let contents: [&[u8]; 6] = [
            b"",
            b"1\nwasm+1f",
            b"1\nvm\n",
            b"2\nwasm+1f\n",
            b"1\nwasm+1f\n2\n",
            b"\xff\n",
        ];
        for content in contents {
            assert_eq!(OwnerRecord::from_content(content), None, "{content:?}");
        }
    }
}
