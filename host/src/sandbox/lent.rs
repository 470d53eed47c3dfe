//! Locks of files that a guest has open by other means, such as a descriptor of WASI: the right to the
//! file is the right to its lock.

use std::fs::File;
use std::io;
use std::path::Path;

use super::Sandbox;
use super::basis::Basis;
use super::guest_lock::GuestLock;
use super::guest_ranges::GuestRanges;
use super::rights::Rights;
use crate::error::{Error, ErrorKind, Result};
use crate::lock_path::LockPath;
use crate::object::OpenLock;
use crate::options::Options;
use crate::protocol::Protocol;
use crate::sys;
use crate::types::OnRelease;

/// Files of a guest have no path that the host knows by the guest's names.
const NAMELESS: &str = "";

impl Sandbox {
    /// Opens the lock of a file that the guest has open; it is the same as that of each path which
    /// leads to the file. `rights` is what the guest may do with the file:
    /// [`SHARED`](Rights::SHARED) if it may read it, and [`EXCLUSIVE`](Rights::EXCLUSIVE) if it may
    /// write it. No grant takes part, so the host has to
    /// [allow it](super::SandboxBuilder::lock_open_files). The descriptor is duplicated, and may be
    /// the guest's own, as long as the guest has no other way to lock through that.
    ///
    /// # Errors
    ///
    /// [Denied](Error::is_denied) if the [protocols](super::SandboxBuilder::protocols) do not allow it;
    /// [unsupported](Error::is_unsupported) unless the host allows it, for an existence lock, and for
    /// [`OnRelease::Remove`];
    /// [invalid path](Error::is_invalid_path) if it is not a regular file;
    /// [limit exceeded](Error::is_limit_exceeded); or [another error](Error::is_io) of the system.
    pub fn open_lent(
        &self,
        file: &File,
        rights: Rights,
        protocol: Option<Protocol>,
        on_release: OnRelease,
    ) -> Result<GuestLock> {
        let guest = &self.guest;
        guest.engine.refuse_forked(Path::new(NAMELESS))?;
        let opened = self.lent_lock(file, rights, protocol, on_release);
        self.tell_opened(NAMELESS, protocol, opened)
    }

    fn lent_lock(
        &self,
        file: &File,
        rights: Rights,
        protocol: Option<Protocol>,
        on_release: OnRelease,
    ) -> Result<GuestLock> {
        let guest = &self.guest;
        let protocol = protocol.unwrap_or(guest.settings.protocol);
        let not_by_file = protocol.is_existence_lock() || on_release == OnRelease::Remove;
        if !guest.settings.lends || not_by_file {
            return Err(refuse(ErrorKind::Unsupported));
        }
        if !self.permits(protocol) {
            return Err(refuse(ErrorKind::Denied));
        }
        let handle = guest.handle(Path::new(NAMELESS))?;
        let longest_hold = guest.books().limits.longest_hold;
        let options = Options::new().protocol(protocol).max_hold(longest_hold);
        let any_kind = cfg!(unix) && protocol == Protocol::Flock;
        let (path, open_lock) = adopt(file.try_clone().map_err(os)?, any_kind)?;
        let engine = &guest.engine;
        let lock = engine.open_adopted(path, open_lock, &options, guest.client)?;
        let basis = Basis::Lent(rights);
        Ok(GuestLock::new(guest, NAMELESS, lock, basis, handle))
    }

    /// Opens a file that the guest has open for locks on ranges, as [`open_lent`](Self::open_lent)
    /// opens it for one on the whole.
    ///
    /// # Errors
    ///
    /// As [`open_lent`](Self::open_lent); the protocol is [`Protocol::Fcntl`].
    pub fn open_lent_ranges(&self, file: &File, rights: Rights) -> Result<GuestRanges> {
        let guest = &self.guest;
        guest.engine.refuse_forked(Path::new(NAMELESS))?;
        let opened = self.lent_ranges(file, rights);
        self.tell_ranges_opened(NAMELESS, opened)
    }

    fn lent_ranges(&self, file: &File, rights: Rights) -> Result<GuestRanges> {
        let guest = &self.guest;
        if !guest.settings.lends {
            return Err(refuse(ErrorKind::Unsupported));
        }
        if !self.permits(Protocol::Fcntl) {
            return Err(refuse(ErrorKind::Denied));
        }
        let handle = guest.handle(Path::new(NAMELESS))?;
        let limit = guest.books().limits.ranges;
        let owner = guest.client.owner;
        let file = file.try_clone().and_then(own_description).map_err(os)?;
        let (path, open_lock) = adopt(file, false)?;
        let file = guest.engine.ranges_adopted(path, open_lock, owner, limit)?;
        let basis = Basis::Lent(rights);
        Ok(self.guest_ranges(NAMELESS, file, basis, handle))
    }
}

/// An open file description that the guest does not have: locks of ranges may leave this one for
/// another, and shared ones need one that can read. If the system refuses it, the guest's own.
fn own_description(file: File) -> io::Result<File> {
    let (file, writable) = sys::adopt(file)?;
    Ok(match file.metadata()?.is_file() {
        true => sys::reopen(&file, writable).unwrap_or(file),
        false => file,
    })
}

/// A file under the name that it has for the guest: none.
fn adopt(file: File, any_kind: bool) -> Result<(LockPath, OpenLock)> {
    let (path, open_lock) = LockPath::adopt(file, any_kind).map_err(os)?;
    Ok((path.known_as(NAMELESS), open_lock))
}

fn os(error: io::Error) -> Error {
    Error::os(error, Path::new(NAMELESS))
}

fn refuse(kind: ErrorKind) -> Error {
    Error::new(kind, Path::new(NAMELESS))
}
