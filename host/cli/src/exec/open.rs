//! Opens what `locket exec` locks.
//!
//! An exclusive record lock needs a descriptor that is open for writing. Not everything can have
//! one, and not everything should: a program file that is open for writing cannot be executed, and
//! watchers take the file for changed. So nothing is opened for writing that need not be, and unless
//! the user chose a protocol, what cannot have a record lock has `flock` alone.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use locket::{Engine, LockFile, Mode, OnRelease, Protocol};
use rustix::fs::OFlags;

use super::Exec;
use crate::exit::{self, ExitError};

impl Exec {
    /// Opens the lock, and returns its protocol.
    pub(super) fn open(&self) -> Result<(LockFile, Protocol), ExitError> {
        let metadata = fs::metadata(&self.path).ok();
        let program = |metadata: &Metadata| {
            metadata.is_file() && metadata.len() > 0 && metadata.permissions().mode() & 0o111 != 0
        };
        let protocol = self.protocol().unwrap_or_else(|| match &metadata {
            Some(metadata) if !metadata.is_file() && !self.remove => Protocol::Flock,
            Some(metadata) if program(metadata) && self.mode() == Mode::Exclusive => {
                Protocol::Flock
            }
            _ => Protocol::Native,
        });
        let special = metadata.as_ref().is_some_and(is_special);
        let lock = if special && protocol == Protocol::Flock && !self.remove {
            self.open_special()?
        } else {
            self.open_by(protocol)?
        };
        Ok((lock, protocol))
    }

    /// Opens the lock of a file, which is created if it is missing.
    pub(super) fn open_by(&self, protocol: Protocol) -> Result<LockFile, ExitError> {
        let on_release = if self.remove {
            OnRelease::Remove
        } else {
            OnRelease::Keep
        };
        let options = self
            .locking
            .options(protocol)
            .stale_after(self.stale_after)
            .on_release(on_release)
            .late_write(self.mode() == Mode::Shared);
        let open = || Engine::new().open_with(&self.path, &options);
        let lock = match open() {
            Err(e) if e.is_not_found() && create_through_link(&self.path).is_ok() => open(),
            lock => lock,
        };
        lock.map_err(|e| ExitError::from_lock(&e, exit::NO_INPUT))
    }

    /// Opens the lock of a directory or a device, which no program replaces.
    fn open_special(&self) -> Result<LockFile, ExitError> {
        let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = File::options()
            .read(true)
            .custom_flags(flags.bits().cast_signed())
            .open(&self.path);
        let file = file.map_err(|e| {
            let message = format_args!("cannot lock `{}`: {e}", self.path.display());
            ExitError::new(exit::NO_INPUT, message)
        })?;
        Engine::new()
            .from_file_with(file, &self.locking.options(Protocol::Flock))
            .map_err(|e| ExitError::from_lock(&e, exit::NO_INPUT))
    }
}

/// What `flock` locks beside files. A FIFO is none: a reader that comes and goes disturbs its writer.
fn is_special(metadata: &Metadata) -> bool {
    use std::os::unix::fs::FileTypeExt;
    let kind = metadata.file_type();
    kind.is_dir() || kind.is_block_device() || kind.is_char_device()
}

/// Creates the file to which a symbolic link leads, as `flock(1)` does. The engine follows no such
/// link. The kernel does, by its own rules about links in directories that all users may write to.
fn create_through_link(link: &Path) -> io::Result<()> {
    fs::read_link(link)?;
    let mut options = File::options();
    options.write(true).create(true).truncate(false);
    options.open(link).map(drop)
}
