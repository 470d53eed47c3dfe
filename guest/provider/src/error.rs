//! Converts WASI errors to lock errors.

use wasip2::filesystem::types::ErrorCode;

use crate::bindings::api::{Error, IoKind};

impl From<ErrorCode> for Error {
    fn from(code: ErrorCode) -> Self {
        match code {
            ErrorCode::Access | ErrorCode::NotPermitted => Self::AccessDenied,
            ErrorCode::NoEntry | ErrorCode::NotDirectory => Self::NoEntry,
            ErrorCode::IllegalByteSequence
            | ErrorCode::Invalid
            | ErrorCode::IsDirectory
            | ErrorCode::Loop
            | ErrorCode::NameTooLong => Self::InvalidPath,
            ErrorCode::Unsupported => Self::NotSupported,
            ErrorCode::InsufficientSpace => Self::Io(IoKind::NoSpace),
            ErrorCode::Quota => Self::Io(IoKind::Quota),
            ErrorCode::ReadOnly => Self::Io(IoKind::ReadOnly),
            ErrorCode::NoLock => Self::Io(IoKind::TooManyLocks),
            _ => Self::Io(IoKind::Other),
        }
    }
}

/// Converts an error from opening a directory. WASI uses one code both for missing permissions and
/// for a path that leaves the preopened directory. Opening a directory requires no permissions.
pub(crate) fn of_directory(code: ErrorCode) -> Error {
    match code {
        ErrorCode::NotPermitted => Error::InvalidPath,
        code => code.into(),
    }
}
