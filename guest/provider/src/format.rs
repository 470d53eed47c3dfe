//! What each protocol creates to lock a file.

use wasip2::filesystem::types::DescriptorType;

use crate::bindings::api::{Error, OnRelease, Options, Protocol};

/// The kind of directory entry that is created to acquire a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MarkerFormat {
    /// The file itself, which contains a record.
    Soft,
    /// A hard link beside the file, to another file that names the holder.
    Link,
    /// A symbolic link beside the file, whose target names the holder.
    Symlink,
    /// A directory beside the file, which contains a file that names the holder.
    Mkdir,
}

impl MarkerFormat {
    /// The format of a protocol. `on_release` has no effect: a release always removes the entry,
    /// because otherwise the lock would still be held.
    pub(crate) fn from_options(options: &Options) -> Result<Self, Error> {
        let (OnRelease::Keep | OnRelease::Remove) = options.on_release;
        match options.protocol {
            None | Some(Protocol::Link) => Ok(Self::Link),
            Some(Protocol::Soft) => Ok(Self::Soft),
            Some(Protocol::Symlink) => Ok(Self::Symlink),
            Some(Protocol::Mkdir) => Ok(Self::Mkdir),
            // A guest has no process identifier, and a program that reads one from the file may
            // kill that process.
            Some(Protocol::PidFile) => Err(Error::NotSupported),
            Some(Protocol::Native | Protocol::Flock | Protocol::Fcntl | Protocol::Sqlite) => {
                Err(Error::NotSupported)
            }
        }
    }

    /// Whether an entry of type `kind` is a lock of this format, or of another format that uses
    /// the same name.
    pub(crate) fn accepts(self, kind: DescriptorType) -> bool {
        match kind {
            DescriptorType::RegularFile | DescriptorType::SymbolicLink => true,
            DescriptorType::Directory => self != Self::Soft,
            _ => false,
        }
    }
}
