use crate::bindings::api;
use crate::{IoKind, LostReason};
use alloc::sync::Arc;
use core::fmt;

pub use api::Error as ErrorKind;

/// A result whose error is an [`Error`].
pub type Result<T, E = Error> = core::result::Result<T, E>;

/// Why a call on a lock did not succeed.
///
/// Displays as one sentence that names the lock by the path it was opened with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    path: Arc<str>,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, path: impl Into<Arc<str>>) -> Self {
        let path = path.into();
        Self { kind, path }
    }

    /// The kind of error.
    pub fn kind(&self) -> &ErrorKind {
        &self.kind
    }

    /// The path with which the lock was opened.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whether another owner holds the lock and the timeout was zero.
    pub fn is_would_block(&self) -> bool {
        matches!(self.kind, ErrorKind::WouldBlock)
    }

    /// Whether a nonzero timeout ran out.
    pub fn is_timeout(&self) -> bool {
        matches!(self.kind, ErrorKind::Timeout)
    }

    /// Whether the call tried to release a lock that has no holder.
    pub fn is_not_locked(&self) -> bool {
        matches!(self.kind, ErrorKind::NotLocked)
    }

    /// Whether the call tried to release a lock that another owner holds.
    pub fn is_not_owner(&self) -> bool {
        matches!(self.kind, ErrorKind::NotOwner)
    }

    /// Whether waiting could never have ended.
    pub fn is_deadlock(&self) -> bool {
        matches!(self.kind, ErrorKind::Deadlock)
    }

    /// Whether the host or the file's permissions refuse access.
    pub fn is_denied(&self) -> bool {
        matches!(self.kind, ErrorKind::AccessDenied)
    }

    /// Whether the directory is missing, or the file is missing and may not be
    /// created.
    pub fn is_not_found(&self) -> bool {
        matches!(self.kind, ErrorKind::NoEntry)
    }

    /// Whether the path cannot be that of a lock.
    pub fn is_invalid_path(&self) -> bool {
        matches!(self.kind, ErrorKind::InvalidPath)
    }

    /// Whether the call exceeds a quota of this guest.
    pub fn is_limit_exceeded(&self) -> bool {
        matches!(self.kind, ErrorKind::LimitExceeded)
    }

    /// Whether the protocol, mode or file system does not support the call.
    pub fn is_unsupported(&self) -> bool {
        matches!(self.kind, ErrorKind::NotSupported)
    }

    /// Whether this guest held the lock and no longer holds it.
    pub fn is_lost(&self) -> bool {
        matches!(self.kind, ErrorKind::Lost(_))
    }

    /// Why this guest no longer holds the lock, if the error is that.
    pub fn lost_reason(&self) -> Option<LostReason> {
        match self.kind {
            ErrorKind::Lost(reason) => Some(reason),
            _ => None,
        }
    }

    /// Whether the host canceled the wait.
    pub fn is_canceled(&self) -> bool {
        matches!(self.kind, ErrorKind::Canceled)
    }

    /// Whether input or output failed.
    pub fn is_io(&self) -> bool {
        matches!(self.kind, ErrorKind::Io(_))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = &self.path;
        match &self.kind {
            ErrorKind::WouldBlock => write!(f, "lock `{path}` is held"),
            ErrorKind::Timeout => write!(f, "lock `{path}` did not become free in time"),
            ErrorKind::NotLocked => write!(f, "lock `{path}` is not held"),
            ErrorKind::NotOwner => write!(f, "lock `{path}` is not ours to release"),
            ErrorKind::Deadlock => write!(f, "waiting for lock `{path}` could never end"),
            ErrorKind::AccessDenied => write!(f, "access to lock `{path}` is denied"),
            ErrorKind::NoEntry => write!(f, "lock `{path}` does not exist"),
            ErrorKind::InvalidPath => write!(f, "`{path}` cannot be the path of a lock"),
            ErrorKind::LimitExceeded => write!(f, "lock `{path}` exceeds a quota of this guest"),
            ErrorKind::NotSupported => {
                write!(f, "the protocol or mode is not supported for lock `{path}`")
            }
            ErrorKind::Unavailable => write!(f, "the server of lock `{path}` cannot be reached"),
            ErrorKind::Lost(reason) => write!(f, "lock `{path}` was lost: {}", lost(*reason)),
            ErrorKind::Canceled => write!(f, "the host canceled the wait for lock `{path}`"),
            ErrorKind::Io(kind) => write!(f, "lock `{path}` failed: {}", io(*kind)),
            ErrorKind::Other(Some(why)) => write!(f, "lock `{path}` failed: {why}"),
            ErrorKind::Other(None) => write!(f, "lock `{path}` failed"),
        }
    }
}

impl core::error::Error for Error {}

fn lost(reason: LostReason) -> &'static str {
    match reason {
        LostReason::Expired => "its time ran out",
        LostReason::Broken => "it was taken away",
        LostReason::Disconnected => "its server cannot be reached",
        LostReason::Io => "its file system failed",
    }
}

fn io(kind: IoKind) -> &'static str {
    match kind {
        IoKind::NoSpace => "the file system is full",
        IoKind::Quota => "the disk quota is used up",
        IoKind::ReadOnly => "the file system is read-only",
        IoKind::Stale => "the file vanished on its server",
        IoKind::TooManyFiles => "the host is out of file descriptors",
        IoKind::TooManyLocks => "the host is out of locks",
        IoKind::Other => "I/O failed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::{String, ToString};

    fn shown(kind: ErrorKind) -> String {
        Error::new(kind, "/jobs/a").to_string()
    }

    #[test]
    fn errors_display_as_one_sentence_that_names_the_lock() {
        assert_eq!(
            shown(ErrorKind::Timeout),
            "lock `/jobs/a` did not become free in time"
        );
        assert_eq!(
            shown(ErrorKind::Lost(LostReason::Broken)),
            "lock `/jobs/a` was lost: it was taken away"
        );
        assert_eq!(
            shown(ErrorKind::Io(IoKind::NoSpace)),
            "lock `/jobs/a` failed: the file system is full"
        );
        assert_eq!(
            shown(ErrorKind::Other(Some("no quorum".into()))),
            "lock `/jobs/a` failed: no quorum"
        );
        assert_eq!(shown(ErrorKind::Other(None)), "lock `/jobs/a` failed");
    }

    #[test]
    fn a_predicate_is_true_for_its_own_kind_only() {
        let contended = Error::new(ErrorKind::WouldBlock, "/jobs/a");
        assert!(contended.is_would_block() && !contended.is_timeout());
        let lost = Error::new(ErrorKind::Lost(LostReason::Expired), "/jobs/a");
        assert!(lost.is_lost() && !lost.is_canceled());
        assert_eq!(lost.lost_reason(), Some(LostReason::Expired));
    }
}
