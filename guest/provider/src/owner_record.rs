//! The mark of a hold: a unique name of its holder.
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

/// The mark of one hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mark(String);

impl Mark {
    /// Creates a mark. The two clocks distinguish instances, and the number distinguishes the holds
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
    pub(crate) fn of_name(name: &str) -> Option<Self> {
        Self::of_host(name.strip_suffix(PROCESS)?)
    }

    /// The content of a lock file: the record of Python's `SoftFileLock`, which treats a record
    /// that it cannot read as garbage.
    pub(crate) fn record(&self) -> String {
        format!("1\n{}\n", self.0)
    }

    /// Parses the result of [`record`](Self::record).
    pub(crate) fn of_record(record: &[u8]) -> Option<Self> {
        let record = core::str::from_utf8(record).ok()?;
        Self::of_host(record.strip_prefix("1\n")?.strip_suffix('\n')?)
    }

    fn of_host(host: &str) -> Option<Self> {
        let digits = host.strip_prefix(HOST)?;
        let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit());
        plain.then(|| Self(host.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mark = Mark::new(1_795_271_062_000_000_001, 7, 0);
        assert_eq!(Mark::of_name(&mark.name()).as_ref(), Some(&mark));
        assert_eq!(
            Mark::of_record(mark.record().as_bytes()).as_ref(),
            Some(&mark)
        );
    }

    #[test]
    fn no_two_are_the_same() {
        let mark = Mark::new(1, 2, 3);
        for other in [Mark::new(0, 2, 3), Mark::new(1, 1, 3), Mark::new(1, 2, 4)] {
            assert_ne!(mark, other);
        }
    }

    #[test]
    fn the_marks_of_others_are_none() {
        for name in [
            "vm.1-1",
            "wasm+.1-1",
            "wasm+1f.2-1",
            "wasm+1g.1-1",
            "wasm+1f",
            "",
        ] {
            assert_eq!(Mark::of_name(name), None, "{name}");
        }
        let records: [&[u8]; 6] = [
            b"",
            b"1\nwasm+1f",
            b"1\nvm\n",
            b"2\nwasm+1f\n",
            b"1\nwasm+1f\n2\n",
            b"\xff\n",
        ];
        for record in records {
            assert_eq!(Mark::of_record(record), None, "{record:?}");
        }
    }
}
