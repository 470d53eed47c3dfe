//! What is known of the lock of one path. As JSON it is what `locket status --json` prints, so a
//! change here is one to its documented format.

use std::path::Path;

use locket::Protocol;
use serde::{Deserialize, Serialize};

use crate::paths;

/// The answer to `locket status` for one path. Every field is always there.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct Report {
    /// With U+FFFD in the place of what is not UTF-8.
    pub(crate) path: String,
    /// Its bytes, if it is not UTF-8.
    pub(crate) path_bytes: Option<Vec<u8>>,
    /// None if the file system does not answer.
    pub(crate) exists: Option<bool>,
    /// None if that cannot be known, for the reason `unknown`.
    pub(crate) held: Option<bool>,
    pub(crate) unknown: Option<Unknown>,
    /// For a free lock that a dead holder left behind: whether this user may remove it, and so take
    /// it over.
    pub(crate) removable: Option<bool>,
    /// The stronger one, if there are several holders or ranges.
    pub(crate) mode: Option<Mode>,
    pub(crate) holders: Vec<Holder>,
    pub(crate) waiters: Vec<Waiter>,
}

/// Why it is not known whether a lock is held.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Unknown {
    /// No process in this container holds it, and the kernel hides holders outside of it.
    OutsideContainer,
    /// No process on this host holds it, and the file system may have holders on others.
    OtherHosts,
    /// Something is there that is a lock only for programs that use this protocol.
    MayBeNoLock,
    /// No answer in time.
    NoAnswer,
    /// The system tells only which processes have the file open, and not which of them holds a lock;
    /// on Windows not even whether one does.
    NotTold,
}

/// How a lock is held.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mode {
    Exclusive,
    Shared,
}

/// The bytes of a file that a lock covers.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub(crate) struct Range {
    pub(crate) mode: Mode,
    pub(crate) from: u64,
    /// The last one; None for the end of the file, wherever that will be.
    pub(crate) to: Option<u64>,
}

/// A process with what it holds in one protocol.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct Holder {
    #[serde(flatten)]
    pub(crate) process: Process,
    #[serde(with = "by_name")]
    pub(crate) protocol: Protocol,
    /// None if the system does not tell.
    pub(crate) mode: Option<Mode>,
    /// Empty if it is the whole file.
    pub(crate) ranges: Vec<Range>,
    /// The process that acquired the lock, if this one has it from another.
    pub(crate) acquired_by: Option<i32>,
    /// When it acquired the lock, if the lock tells, in seconds since 1970.
    pub(crate) since: Option<u64>,
    /// The name of its host, if the lock tells.
    pub(crate) host: Option<String>,
    /// Whether it runs in another container or on another host.
    pub(crate) elsewhere: bool,
}

/// A process that waits for the lock in the kernel.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct Waiter {
    #[serde(flatten)]
    pub(crate) process: Process,
    #[serde(with = "by_name")]
    pub(crate) protocol: Protocol,
    pub(crate) mode: Mode,
}

/// What this system tells of a process.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub(crate) struct Process {
    pub(crate) pid: Option<i32>,
    pub(crate) command: Option<String>,
    /// Whether it is stopped, by a signal or a debugger.
    pub(crate) stopped: Option<bool>,
    /// When the process started, in seconds since 1970.
    pub(crate) started: Option<u64>,
}

impl Report {
    /// That of a path of which nothing is known.
    pub(crate) fn unknown(path: &Path, why: Unknown) -> Self {
        let bytes = paths::bytes(path);
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

impl Report {
    /// Whether one of the holders holds the lock, and the system does not tell which one.
    pub(crate) fn is_one_of_several(&self) -> bool {
        self.unknown == Some(Unknown::NotTold) && self.holders.len() > 1
    }
}

impl Holder {
    /// One that holds all of the file as long as it has that open.
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn of_kernel(process: Process, protocol: Protocol, mode: Option<Mode>) -> Self {
        Self {
            process,
            protocol,
            mode,
            ranges: Vec::new(),
            acquired_by: None,
            since: None,
            host: None,
            elsewhere: false,
        }
    }

    /// The bytes that it has locked.
    #[cfg(target_os = "linux")]
    pub(crate) fn bytes(&self) -> Vec<Range> {
        if self.ranges.is_empty() {
            let (from, to) = (0, None);
            let whole = |mode| Range { mode, from, to };
            self.mode.map(whole).into_iter().collect()
        } else {
            self.ranges.clone()
        }
    }
}

impl Range {
    pub(crate) fn is_whole(self) -> bool {
        (self.from, self.to) == (0, None)
    }
}

mod by_name {
    use locket::Protocol;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(crate) fn serialize<S: Serializer>(protocol: &Protocol, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(protocol.name())
    }

    pub(crate) fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<Protocol, D::Error> {
        let name = String::deserialize(from)?;
        name.parse()
            .map_err(|_| D::Error::custom(format!("no protocol `{name}`")))
    }
}
