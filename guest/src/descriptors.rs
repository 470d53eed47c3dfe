use crate::bindings::descriptors;
use crate::{LockFile, Options, RangeFile, Result};
use wasip2::filesystem::types::Descriptor;

/// Locks of files that are open in WASI 0.2: the right to the file is the right to
/// its lock.
impl LockFile {
    /// The lock of an open file: the same as that of every path that leads to it,
    /// with an empty [`path`](Self::path).
    ///
    /// # Errors
    ///
    /// [`InvalidPath`] if it is not a regular file; [`NotSupported`] for an
    /// existence lock and for [`OnRelease::Remove`]; [`AccessDenied`] for a protocol
    /// that is not granted; [`LimitExceeded`] or [`Io`].
    ///
    /// [`AccessDenied`]: crate::ErrorKind::AccessDenied
    /// [`InvalidPath`]: crate::ErrorKind::InvalidPath
    /// [`Io`]: crate::ErrorKind::Io
    /// [`LimitExceeded`]: crate::ErrorKind::LimitExceeded
    /// [`NotSupported`]: crate::ErrorKind::NotSupported
    /// [`OnRelease::Remove`]: crate::OnRelease::Remove
    pub fn of(file: &Descriptor, options: &Options) -> Result<Self> {
        Self::opened("", descriptors::open_lock(file, *options))
    }
}

impl RangeFile {
    /// The ranges of an open file, with an empty [`path`](Self::path).
    ///
    /// # Errors
    ///
    /// Those of [`LockFile::of`].
    pub fn of(file: &Descriptor) -> Result<Self> {
        Self::opened("", descriptors::open_ranges(file))
    }
}
