use crate::bindings::{api, ranges};
use crate::{LockFile, Options, RangeFile, Result};

/// Locks of files that are open in WASI: the right to the file is the right to its
/// lock.
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
    pub fn of(file: &impl Descriptor, options: &Options) -> Result<Self> {
        Self::opened("", file.open_lock(*options))
    }
}

impl RangeFile {
    /// The ranges of an open file, with an empty [`path`](Self::path).
    ///
    /// # Errors
    ///
    /// Those of [`LockFile::of`].
    pub fn of(file: &impl Descriptor) -> Result<Self> {
        Self::opened("", file.open_ranges())
    }
}

/// An open file: the descriptor of WASI 0.2 in the crate `wasip2`, with the feature
/// `descriptors`, and that of WASI 0.3 in `wasip3`, with `descriptors-p3`.
pub trait Descriptor: Sealed {}

impl<T: Sealed> Descriptor for T {}

/// The interface of one version of WASI.
pub trait Sealed {
    fn open_lock(&self, options: Options) -> core::result::Result<api::LockFile, api::Error>;
    fn open_ranges(&self) -> core::result::Result<ranges::RangeFile, api::Error>;
}

macro_rules! descriptor {
    ($descriptor:ty, $interface:path) => {
        const _: () = {
            use $interface as interface;

            impl Sealed for $descriptor {
                fn open_lock(
                    &self,
                    options: Options,
                ) -> core::result::Result<api::LockFile, api::Error> {
                    interface::open_lock(self, options)
                }

                fn open_ranges(&self) -> core::result::Result<ranges::RangeFile, api::Error> {
                    interface::open_ranges(self)
                }
            }
        };
    };
}

#[cfg(feature = "descriptors")]
descriptor!(
    wasip2::filesystem::types::Descriptor,
    crate::bindings::descriptors
);
#[cfg(feature = "descriptors-p3")]
descriptor!(
    wasip3::filesystem::types::Descriptor,
    crate::bindings::descriptors_p3
);
