//! Opening a lock of a server.

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests;

use std::path::PathBuf;

use super::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::lock_file::LockFile;
use crate::lock_path::{LockPath, RemoteName};
use crate::options::Options;
use crate::owner::Client;
use crate::protocol::Protocol;
use crate::remote::Remote;
use crate::types::OnRelease;

impl Engine {
    /// Opens the lock called `name` on a server, with default [`Options`]. Does not acquire it, and
    /// asks no server.
    ///
    /// It is used as the lock of a file is. What is different: it can be [lost](crate::State::Lost)
    /// while it is held, if the server does not hear from this process for [as long as it
    /// grants](crate::RemoteBuilder::ttl); each grant has a [token](crate::Guard::token); and a
    /// server that cannot be reached is an [error](Error::is_unavailable) of its own. A thread that
    /// acquired it waits for the server when it releases, a task leaves that to the engine, as it
    /// does each question to the server. [`holder`](LockFile::holder), [`is_locked`](LockFile::is_locked)
    /// and [`break_lock`](LockFile::break_lock) ask on the calling thread.
    ///
    /// ```no_run
    /// use locket::{Engine, Mode, Remote};
    /// use std::time::Duration;
    ///
    /// # fn main() -> locket::Result<()> {
    /// let remote = Remote::new("etcd://127.0.0.1:2379/locks")?;
    /// let lock = Engine::new().open_remote(&remote, "jobs/nightly")?;
    /// let guard = lock.acquire(Mode::Exclusive, Duration::from_secs(30))?;
    /// // Write with `guard.token()`, and only while `guard.is_held()`.
    /// guard.release()
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [Invalid path](Error::is_invalid_path) if the server cannot have a lock of that name.
    pub fn open_remote(&self, remote: &Remote, name: &str) -> Result<LockFile> {
        self.open_remote_with(remote, name, &Options::default())
    }

    /// Opens the lock called `name` on a server. Of the options, only
    /// [`max_hold`](Options::max_hold) and [`owner`](Options::owner) count.
    ///
    /// # Errors
    ///
    /// As [`open_remote`](Self::open_remote); [unsupported](Error::is_unsupported) for
    /// [`OnRelease::Remove`] and for a [`protocol`](Options::protocol) of files.
    pub fn open_remote_with(
        &self,
        remote: &Remote,
        name: &str,
        options: &Options,
    ) -> Result<LockFile> {
        self.open_on_server(remote, name, name.into(), options, Client::PROCESS)
    }

    /// The lock of a server, which the owner knows as `path`.
    pub(crate) fn open_on_server(
        &self,
        remote: &Remote,
        name: &str,
        path: PathBuf,
        options: &Options,
        client: Client,
    ) -> Result<LockFile> {
        // That of a guest that named none, or of options without one.
        let chosen = ![Protocol::default(), Protocol::Remote].contains(&options.protocol);
        if chosen || options.on_release == OnRelease::Remove {
            return Err(Error::new(ErrorKind::Unsupported, &path));
        }
        let name = RemoteName::new(remote, name).map_err(|e| Error::os(e, &path))?;
        let options = options.clone().protocol(Protocol::Remote);
        let options = options.skip_identity_check(true).fencing(false);
        self.open_target(LockPath::on_server(name, path), &options, client)
    }
}
