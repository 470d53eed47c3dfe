//! What is known of the lock of one path. As JSON it is what `locket status --json` prints, so a
//! change here is one to its documented format.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use locket::Protocol;
use serde::{Deserialize, Serialize};

/// The answer to `locket status` for one path. Every field is always there.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(super) struct Report {
    /// With U+FFFD in the place of what is not UTF-8.
    pub(super) path: String,
    /// Its bytes, if it is not UTF-8.
    pub(super) path_bytes: Option<Vec<u8>>,
    /// None if the file system does not answer.
    pub(super) exists: Option<bool>,
    /// None if that cannot be known, for the reason `unknown`.
    pub(super) held: Option<bool>,
    pub(super) unknown: Option<Unknown>,
    /// For a free lock that a dead holder left behind: whether this user may remove it, and so take
    /// it over.
    pub(super) removable: Option<bool>,
    /// The stronger one, if there are several holders or ranges.
    pub(super) mode: Option<Mode>,
    pub(super) holders: Vec<Holder>,
    pub(super) waiters: Vec<Waiter>,
}

/// Why it is not known whether a lock is held.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Unknown {
    /// No process in this container holds it, and the kernel hides holders outside of it.
    OutsideContainer,
    /// No process on this host holds it, and the file system may have holders on others.
    OtherHosts,
    /// Something is there that is a lock only for programs that use this protocol.
    MayBeNoLock,
    /// No answer in time.
    NoAnswer,
}

/// How a lock is held.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Mode {
    Exclusive,
    Shared,
}

/// The bytes of a file that a lock covers.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub(super) struct Range {
    pub(super) mode: Mode,
    pub(super) from: u64,
    /// The last one; None for the end of the file, wherever that will be.
    pub(super) to: Option<u64>,
}

/// A process with what it holds in one protocol.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(super) struct Holder {
    #[serde(flatten)]
    pub(super) process: Process,
    #[serde(with = "by_name")]
    pub(super) protocol: Protocol,
    pub(super) mode: Mode,
    /// Empty if it is the whole file, or unknown in a holder without a number.
    pub(super) ranges: Vec<Range>,
    /// The process that acquired the lock, if this one has it from another.
    pub(super) acquired_by: Option<i32>,
    /// When it acquired the lock, if the lock tells, in seconds since 1970.
    pub(super) since: Option<u64>,
    /// The name of its host, if the lock tells.
    pub(super) host: Option<String>,
    /// Whether it runs in another container or on another host.
    pub(super) elsewhere: bool,
}

/// A process that waits for the lock in the kernel.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(super) struct Waiter {
    #[serde(flatten)]
    pub(super) process: Process,
    #[serde(with = "by_name")]
    pub(super) protocol: Protocol,
    pub(super) mode: Mode,
}

/// What this system tells of a process.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub(super) struct Process {
    pub(super) pid: Option<i32>,
    pub(super) command: Option<String>,
    /// Whether it is stopped, by a signal or a debugger.
    pub(super) stopped: Option<bool>,
    /// When the process started, in seconds since 1970.
    pub(super) started: Option<u64>,
}

impl Report {
    /// That of a path of which nothing is known.
    pub(super) fn unknown(path: &Path, why: Unknown) -> Self {
        let bytes = path.as_os_str().as_bytes();
        Self {
            path: path.to_string_lossy().into_owned(),
            path_bytes: path.to_str().is_none().then(|| bytes.to_owned()),
            exists: None,
            held: None,
            unknown: Some(why),
            removable: None,
            mode: None,
            holders: Vec::new(),
            waiters: Vec::new(),
        }
    }
}

impl Range {
    pub(super) fn whole(mode: Mode) -> Self {
        let (from, to) = (0, None);
        Self { mode, from, to }
    }

    pub(super) fn is_whole(self) -> bool {
        (self.from, self.to) == (0, None)
    }
}

mod by_name {
    use locket::Protocol;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(protocol: &Protocol, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(protocol.name())
    }

    pub(super) fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<Protocol, D::Error> {
        let name = String::deserialize(from)?;
        name.parse()
            .map_err(|_| D::Error::custom(format!("no protocol `{name}`")))
    }
}
