//! Opens what `locket exec` locks.
//!
//! An exclusive record lock needs a descriptor that is open for writing. Not everything can have
//! one, and not everything should: a program file that is open for writing cannot be executed, and
//! watchers take the file for changed. So nothing is opened for writing that need not be, and unless
//! the user chose a protocol, what cannot have a record lock has `flock` alone.

use std::fs::{self, File, Metadata};
use std::io;
use std::path::Path;

use locket::{Engine, LockFile, Mode, OnRelease, Protocol};

use super::Exec;
use super::line::Named;
use crate::exit::{self, ExitError};

/// A lock that is open.
pub(super) struct Opened {
    pub(super) named: Named,
    pub(super) lock: LockFile,
    pub(super) protocol: Protocol,
}

impl Exec {
    /// Opens a lock.
    fn open(&self, engine: &Engine, named: Named) -> Result<Opened, ExitError> {
        let metadata = fs::metadata(&named.path).ok();
        let protocol = self.protocol().unwrap_or_else(|| match &metadata {
            Some(metadata) if !metadata.is_file() && !self.remove => Protocol::Flock,
            Some(metadata) if is_program(metadata) && named.mode == Mode::Exclusive => {
                Protocol::Flock
            }
            _ => Protocol::Native,
        });
        #[cfg(unix)]
        if protocol == Protocol::Flock && !self.remove && metadata.as_ref().is_some_and(is_special)
        {
            return self.open_special(engine, named);
        }
        self.open_by(engine, named, protocol)
    }

    /// Opens locks of a server.
    #[cfg(feature = "remote")]
    fn open_all_on(
        &self,
        remote: &locket::Remote,
        engine: &Engine,
    ) -> Result<Vec<Opened>, ExitError> {
        let open = |named: Named| {
            Ok(Opened {
                lock: crate::remote::open(engine, remote, &named.path)?,
                named,
                protocol: Protocol::Remote,
            })
        };
        self.locks().into_iter().map(open).collect()
    }

    /// Opens the locks.
    pub(super) fn open_all(&self, engine: &Engine) -> Result<Vec<Opened>, ExitError> {
        #[cfg(feature = "remote")]
        if let Some(remote) = self.remote.connect()? {
            return self.open_all_on(&remote, engine);
        }
        let locks = self.locks().into_iter();
        locks.map(|named| self.open(engine, named)).collect()
    }

    /// Opens the lock of a file, which is created if it is missing.
    pub(super) fn open_by(
        &self,
        engine: &Engine,
        named: Named,
        protocol: Protocol,
    ) -> Result<Opened, ExitError> {
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
            .fencing(self.fencing)
            .late_write(named.mode == Mode::Shared);
        let open = || engine.open_with(&named.path, &options);
        let lock = match open() {
            Err(e) if e.is_not_found() && create_through_link(&named.path).is_ok() => open(),
            lock => lock,
        };
        let lock = lock.map_err(|e| ExitError::from_lock(&e, exit::NO_INPUT))?;
        Ok(Opened {
            named,
            lock,
            protocol,
        })
    }

    /// Opens the lock of a directory or a device, which no program replaces.
    #[cfg(unix)]
    fn open_special(&self, engine: &Engine, named: Named) -> Result<Opened, ExitError> {
        use std::os::unix::fs::OpenOptionsExt;

        use rustix::fs::OFlags;

        use crate::output::shown_path;
        let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = File::options()
            .read(true)
            .custom_flags(flags.bits().cast_signed())
            .open(&named.path);
        let file = file.map_err(|e| {
            let message = format_args!("cannot lock `{}`: {e}", shown_path(&named.path));
            ExitError::new(exit::NO_INPUT, message)
        })?;
        let protocol = Protocol::Flock;
        let lock = engine
            .from_file_with(file, &self.locking.options(protocol).fencing(self.fencing))
            .map_err(|e| ExitError::from_lock(&e, exit::NO_INPUT))?;
        Ok(Opened {
            named,
            lock,
            protocol,
        })
    }
}

/// Whether a file can be executed, which it cannot while it is open for writing.
#[cfg(unix)]
fn is_program(metadata: &Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt;
    metadata.is_file() && metadata.len() > 0 && metadata.permissions().mode() & 0o111 != 0
}

/// Windows does not tell.
#[cfg(windows)]
fn is_program(_: &Metadata) -> bool {
    false
}

/// What `flock` locks beside files. A FIFO is none: a reader that comes and goes disturbs its writer.
#[cfg(unix)]
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
