//! Opening the file of a lock, by the rules of [`lock_path`](super).

use std::fs::{File, OpenOptions};
use std::io;

use super::{Base, LockPath, TRIES, not_a_file, not_by_path};
#[cfg(feature = "sandbox")]
use super::{Granted, escape};
use crate::object::{LockObject, OpenLock};
use crate::sys::{self, Backing, Identity, NO_LINK, OPEN_FLAGS, OpenOptionsExt as _};

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Access {
    ReadWrite,
    Create,
    /// An existing file, otherwise a new one.
    OpenOrCreate,
    Read,
}

impl LockPath {
    pub(super) fn open_file(&self, create: bool, write: bool) -> io::Result<OpenLock> {
        use io::ErrorKind as E;
        let first = if write {
            Access::ReadWrite
        } else {
            Access::Read
        };
        let mut access = first;
        let mut tries = 0..TRIES;
        let mut raced = false;
        let file = loop {
            match self.open_with(access) {
                Ok(file) => break file,
                Err(e) if tries.next().is_none() => return Err(e),
                Err(e) => {
                    let known = e.raw_os_error().and_then(sys::kind_of);
                    let known = known.unwrap_or_else(|| e.kind());
                    access = match (access, known) {
                        // Windows has no such step that does not follow links.
                        (_, E::NotFound) if access == first && raced && cfg!(unix) => {
                            Access::OpenOrCreate
                        }
                        (_, E::NotFound) if access == first && create => Access::Create,
                        (Access::Create, E::AlreadyExists) => {
                            raced = true;
                            first
                        }
                        // The path is a symbolic link.
                        (Access::OpenOrCreate, E::InvalidInput) => first,
                        // The directory's permissions, or another user's file.
                        (Access::OpenOrCreate, E::PermissionDenied) => Access::Create,
                        (Access::ReadWrite, E::PermissionDenied) => Access::Read,
                        (Access::ReadWrite, E::ReadOnlyFilesystem) => Access::Read,
                        (Access::ReadWrite, E::ExecutableFileBusy) => Access::Read,
                        (_, E::Interrupted) => access,
                        _ => return Err(e),
                    }
                }
            }
        };
        let identity = Identity::of_file(&file)?.ok_or_else(not_a_file)?;
        let (writable, backing) = (access != Access::Read, identity.backing(&file));
        // On a network file system, every exclusive lock needs to write.
        if backing == Backing::Network && first == Access::Read && !writable {
            return self.open_file(create, true);
        }
        Ok(OpenLock {
            identity,
            backing,
            object: LockObject::file(file, writable),
        })
    }

    fn open_with(&self, access: Access) -> io::Result<File> {
        let write = !matches!(access, Access::Read);
        let create = matches!(access, Access::Create);
        let either = matches!(access, Access::OpenOrCreate);
        let flags = if either {
            OPEN_FLAGS | NO_LINK
        } else {
            OPEN_FLAGS
        };
        match &self.base {
            Base::Ambient => OpenOptions::new()
                .read(true)
                .write(write)
                .create_new(create)
                .create(either)
                .truncate(false)
                .custom_flags(flags)
                .open(&self.path),
            Base::Fixed(_) => Err(not_by_path()),
            #[cfg(feature = "sandbox")]
            Base::Beneath(granted) => {
                let Granted { dir, quota, .. } = granted;
                let mut options = cap_std::fs::OpenOptions::new();
                options
                    .read(true)
                    .write(write)
                    .create_new(create)
                    .create(either);
                cap_std::fs::OpenOptionsExt::custom_flags(&mut options, flags);
                let file = if create || either {
                    // In the directory that was checked: another one may take its name meanwhile.
                    let parent = granted.parent(&self.path)?;
                    let name = self.path.file_name().unwrap_or_default();
                    self.refuse_reserved(&parent, name)?;
                    let counted = quota.count(dir, &self.path)?;
                    let created = cap_std::fs::Dir::from_std_file(parent).open_with(name, &options);
                    created.inspect_err(|_| {
                        if counted {
                            quota.discount(dir, &self.path);
                        }
                    })
                } else {
                    dir.open_with(&self.path, &options)
                };
                let file = file.map_err(escape);
                file.map(cap_std::fs::File::into_std)
            }
        }
    }
}
