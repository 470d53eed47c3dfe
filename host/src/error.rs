//! The error type of this crate.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::sys;
use crate::types::LostReason;

/// Why a lock could not be opened, acquired or released.
///
/// It names the path of the lock and the cause. [`kind`](Self::kind) and the predicates say what
/// happened.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    path: PathBuf,
    source: Option<io::Error>,
}

/// What happened: one case for each that a caller may want to treat differently.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The timeout was zero and the lock is held.
    WouldBlock,
    /// The timeout was positive and ran out.
    Timeout,
    /// The lock to release is not held.
    NotLocked,
    /// The lock to release is held by another process or guest.
    NotOwner,
    /// The wait could never have ended.
    Deadlock,
    /// The permissions of the file or directory, or the rights of the caller, do not allow it.
    Denied,
    /// The directory is missing, or the file is missing and may not be created.
    NotFound,
    /// The path cannot be that of a lock: empty, too long, with a NUL, out of its grant, or
    /// something other than a regular file.
    InvalidPath,
    /// A limit that the host set is reached.
    LimitExceeded,
    /// The protocol or the file system cannot do it.
    Unsupported,
    /// The caller held the lock, and has lost it.
    Lost(LostReason),
    /// The wait was canceled (see [`LockFile::cancel_waits`](crate::LockFile::cancel_waits)).
    Canceled,
    /// The server that keeps the lock cannot be reached.
    Unavailable,
    /// Input or output failed; [`Error::os_error`] has the details.
    Io,
}

/// The result type of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn new(kind: ErrorKind, path: &Path) -> Self {
        Self {
            kind,
            path: path.to_owned(),
            source: None,
        }
    }

    /// An error of the operating system, sorted by what it means for a lock.
    pub(crate) fn os(source: io::Error, path: &Path) -> Self {
        use io::ErrorKind as E;
        #[cfg(feature = "remote")]
        if let Some(reason) = lost_reason(&source) {
            return Self::new(ErrorKind::Lost(reason), path);
        }
        let known = source.raw_os_error().and_then(sys::kind_of);
        let kind = match known.unwrap_or_else(|| source.kind()) {
            E::NotFound | E::NotADirectory => ErrorKind::NotFound,
            E::PermissionDenied => ErrorKind::Denied,
            E::IsADirectory | E::InvalidInput | E::InvalidFilename | E::InvalidData => {
                ErrorKind::InvalidPath
            }
            E::Unsupported => ErrorKind::Unsupported,
            E::Deadlock => ErrorKind::Deadlock,
            // Of a lock server, or the limit of a guest. The system's own have a number.
            E::NotConnected if source.raw_os_error().is_none() => ErrorKind::Unavailable,
            E::QuotaExceeded if source.raw_os_error().is_none() => ErrorKind::LimitExceeded,
            _ => ErrorKind::Io,
        };
        Self {
            kind,
            path: path.to_owned(),
            source: Some(source),
        }
    }

    /// What happened.
    ///
    /// ```
    /// use locket::{ErrorKind, LockFile};
    ///
    /// let error = LockFile::open("/no/such/directory/lock").unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::NotFound);
    /// let error: std::io::Error = error.into();
    /// assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
    /// ```
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The error of the operating system beneath, if there is one. It is part of the message, and
    /// so not also a [`source`](std::error::Error::source).
    pub fn os_error(&self) -> Option<&io::Error> {
        self.source.as_ref()
    }

    /// The path of the lock.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The timeout was zero and the lock is held.
    pub fn is_would_block(&self) -> bool {
        self.kind == ErrorKind::WouldBlock
    }

    /// The timeout was positive and ran out.
    pub fn is_timeout(&self) -> bool {
        self.kind == ErrorKind::Timeout
    }

    /// There was nothing to release: the lock is not held.
    pub fn is_not_locked(&self) -> bool {
        self.kind == ErrorKind::NotLocked
    }

    /// There was nothing to release: another holder has the lock.
    pub fn is_not_owner(&self) -> bool {
        self.kind == ErrorKind::NotOwner
    }

    /// The wait could never have ended.
    pub fn is_deadlock(&self) -> bool {
        self.kind == ErrorKind::Deadlock
    }

    /// The permissions of the file or directory, or the rights of the caller, do not allow it.
    pub fn is_denied(&self) -> bool {
        self.kind == ErrorKind::Denied
    }

    /// The directory is missing, or the file is missing and may not be created.
    pub fn is_not_found(&self) -> bool {
        self.kind == ErrorKind::NotFound
    }

    /// The path cannot be that of a lock: empty, too long, with a NUL, out of its grant, or
    /// something other than a regular file.
    pub fn is_invalid_path(&self) -> bool {
        self.kind == ErrorKind::InvalidPath
    }

    /// A limit that the host set is reached.
    pub fn is_limit_exceeded(&self) -> bool {
        self.kind == ErrorKind::LimitExceeded
    }

    /// The protocol or the file system cannot do it.
    pub fn is_unsupported(&self) -> bool {
        self.kind == ErrorKind::Unsupported
    }

    /// The caller held the lock, and has lost it; the reason is [`lost_reason`](Self::lost_reason).
    pub fn is_lost(&self) -> bool {
        matches!(self.kind, ErrorKind::Lost(_))
    }

    /// Why the lock was lost, if it was.
    pub fn lost_reason(&self) -> Option<LostReason> {
        match self.kind {
            ErrorKind::Lost(reason) => Some(reason),
            _ => None,
        }
    }

    /// The wait was canceled (see [`LockFile::cancel_waits`](crate::LockFile::cancel_waits)).
    pub fn is_canceled(&self) -> bool {
        self.kind == ErrorKind::Canceled
    }

    /// The server that keeps the lock cannot be reached.
    pub fn is_unavailable(&self) -> bool {
        self.kind == ErrorKind::Unavailable
    }

    /// Input or output failed; [`os_error`](Self::os_error) has the details.
    pub fn is_io(&self) -> bool {
        self.kind == ErrorKind::Io
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match self.kind {
            ErrorKind::WouldBlock => write!(f, "`{path}` is locked by another holder"),
            ErrorKind::Timeout => write!(f, "timed out waiting for the lock of `{path}`"),
            ErrorKind::NotLocked => write!(f, "cannot release `{path}`: the lock is not held"),
            ErrorKind::NotOwner => {
                write!(f, "cannot release `{path}`: another holder has the lock")
            }
            ErrorKind::Deadlock => write!(f, "waiting for the lock of `{path}` would never end"),
            ErrorKind::Denied => write!(f, "no permission to lock `{path}`"),
            ErrorKind::NotFound => write!(f, "cannot lock `{path}`: no such file or directory"),
            ErrorKind::InvalidPath => write!(f, "`{path}` cannot be the path of a lock"),
            ErrorKind::LimitExceeded => write!(f, "cannot lock `{path}`: a limit is reached"),
            ErrorKind::Unsupported => {
                write!(f, "this operation on the lock of `{path}` is not supported")
            }
            ErrorKind::Lost(reason) => write!(f, "the lock of `{path}` was lost: {reason}"),
            ErrorKind::Canceled => write!(f, "the wait for the lock of `{path}` was canceled"),
            ErrorKind::Unavailable => {
                write!(f, "cannot lock `{path}`: its server cannot be reached")
            }
            ErrorKind::Io => write!(f, "cannot lock `{path}`"),
        }?;
        match &self.source {
            // The sentence above says all that the system says.
            Some(source) if self.kind == ErrorKind::NotFound && source.get_ref().is_none() => {
                Ok(())
            }
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match error.kind {
            ErrorKind::WouldBlock => io::ErrorKind::WouldBlock,
            ErrorKind::Timeout => io::ErrorKind::TimedOut,
            ErrorKind::Deadlock => io::ErrorKind::Deadlock,
            ErrorKind::Denied | ErrorKind::NotOwner => io::ErrorKind::PermissionDenied,
            ErrorKind::NotFound => io::ErrorKind::NotFound,
            ErrorKind::InvalidPath => io::ErrorKind::InvalidInput,
            ErrorKind::LimitExceeded => io::ErrorKind::QuotaExceeded,
            ErrorKind::Unsupported => io::ErrorKind::Unsupported,
            ErrorKind::Canceled => io::ErrorKind::Interrupted,
            ErrorKind::Unavailable => io::ErrorKind::NotConnected,
            ErrorKind::Io => error
                .source
                .as_ref()
                .map_or(io::ErrorKind::Other, io::Error::kind),
            ErrorKind::NotLocked | ErrorKind::Lost(_) => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}

/// The error of a release that finds the lock lost.
#[cfg(feature = "remote")]
pub(crate) fn lost(reason: LostReason) -> io::Error {
    io::Error::other(Lost(reason))
}

/// Why a release found the lock lost, as the source of an [`io::Error`].
#[cfg(feature = "remote")]
#[derive(Debug)]
struct Lost(LostReason);

#[cfg(feature = "remote")]
impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(feature = "remote")]
impl std::error::Error for Lost {}

/// The reason of an error that is [`lost`].
#[cfg(feature = "remote")]
pub(crate) fn lost_reason(error: &io::Error) -> Option<LostReason> {
    let lost: &Lost = error.get_ref()?.downcast_ref()?;
    Some(lost.0)
}
