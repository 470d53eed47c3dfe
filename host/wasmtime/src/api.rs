//! `api`: the lock file, the guard, and their errors.

use std::fmt;
use std::io;
use std::time::Duration;

use wasmtime::component::{Resource, ResourceTableError};

use super::bindings::api;
use super::{LockFile, LocketCtxView};
use locket::sandbox::{GuestGuard, HandlePermit};
use locket::{Error, ErrorKind};
use locket::{Holder, LostReason, Mode, OnRelease, Protocol, Scope, State};

/// A guest's hold, which backs the resource `guard`.
#[derive(Debug)]
pub struct Guard {
    pub(super) hold: GuestGuard,
    pub(super) _handle: HandlePermit,
}

/// Why a guest's call failed: either a case of the interface's `error`, or a host fault, which
/// traps.
#[derive(Debug)]
pub struct LockError(Fault);

#[derive(Debug)]
enum Fault {
    Guest(api::Error),
    Host(wasmtime::Error),
}

impl fmt::Display for LockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Fault::Guest(error) => error.fmt(f),
            Fault::Host(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for LockError {}

impl From<ResourceTableError> for LockError {
    fn from(error: ResourceTableError) -> Self {
        match error {
            // A guest can cause that, so it must not trap.
            ResourceTableError::Full => api::Error::LimitExceeded.into(),
            _ => Self(Fault::Host(error.into())),
        }
    }
}

impl From<wasmtime::Error> for LockError {
    fn from(error: wasmtime::Error) -> Self {
        Self(Fault::Host(error))
    }
}

impl From<api::Error> for LockError {
    fn from(error: api::Error) -> Self {
        Self(Fault::Guest(error))
    }
}

impl From<Error> for LockError {
    fn from(error: Error) -> Self {
        api::Error::from(error).into()
    }
}

/// The trap for a guest that exceeds its limit in a call that cannot return an error.
pub(super) fn too_many(error: Error) -> wasmtime::Error {
    tracing::info!(target: "locket", error = error.to_string().as_str(), "trapped");
    wasmtime::Error::msg(
        "the guest has twice as many handles (including pollables) as its limit allows",
    )
}

/// The only place that turns engine errors into interface errors. The sandbox traces the details,
/// which a guest must not see.
impl From<Error> for api::Error {
    fn from(error: Error) -> Self {
        match error.kind() {
            ErrorKind::WouldBlock => Self::WouldBlock,
            ErrorKind::Timeout => Self::Timeout,
            ErrorKind::NotLocked => Self::NotLocked,
            ErrorKind::NotOwner => Self::NotOwner,
            ErrorKind::Deadlock => Self::Deadlock,
            ErrorKind::Denied => Self::AccessDenied,
            ErrorKind::NotFound => Self::NoEntry,
            ErrorKind::InvalidPath => Self::InvalidPath,
            ErrorKind::LimitExceeded => Self::LimitExceeded,
            ErrorKind::Unsupported => Self::NotSupported,
            ErrorKind::Lost(reason) => Self::Lost(reason.into()),
            ErrorKind::Canceled => Self::Canceled,
            ErrorKind::Unavailable => Self::Unavailable,
            ErrorKind::Io => Self::Io(error.os_error().map_or(api::IoKind::Other, io_kind)),
            // A kind that this version does not know.
            _ => Self::Other(None),
        }
    }
}

/// The numbers of errors for which the standard library has no kind.
#[cfg(unix)]
mod numbers {
    pub(super) const TOO_MANY_FILES: &[i32] = &[libc::EMFILE, libc::ENFILE];
    pub(super) const TOO_MANY_LOCKS: &[i32] = &[libc::ENOLCK];
}

#[cfg(windows)]
mod numbers {
    /// `ERROR_TOO_MANY_OPEN_FILES`
    pub(super) const TOO_MANY_FILES: &[i32] = &[4];
    /// Windows has no number of its own for it.
    pub(super) const TOO_MANY_LOCKS: &[i32] = &[];
}

fn io_kind(error: &io::Error) -> api::IoKind {
    match error.kind() {
        io::ErrorKind::StorageFull => api::IoKind::NoSpace,
        io::ErrorKind::QuotaExceeded => api::IoKind::Quota,
        io::ErrorKind::ReadOnlyFilesystem => api::IoKind::ReadOnly,
        io::ErrorKind::StaleNetworkFileHandle => api::IoKind::Stale,
        _ => match error.raw_os_error() {
            Some(number) if numbers::TOO_MANY_FILES.contains(&number) => api::IoKind::TooManyFiles,
            Some(number) if numbers::TOO_MANY_LOCKS.contains(&number) => api::IoKind::TooManyLocks,
            _ => api::IoKind::Other,
        },
    }
}

impl From<LostReason> for api::LostReason {
    fn from(reason: LostReason) -> Self {
        match reason {
            LostReason::Expired => Self::Expired,
            LostReason::Broken => Self::Broken,
            LostReason::Disconnected => Self::Disconnected,
            _ => Self::Io,
        }
    }
}

impl From<Holder> for api::Holder {
    fn from(holder: Holder) -> Self {
        Self {
            label: holder.label,
            mode: Some(holder.mode.into()),
            is_self: holder.is_self,
        }
    }
}

impl From<api::Mode> for Mode {
    fn from(mode: api::Mode) -> Self {
        match mode {
            api::Mode::Exclusive => Self::Exclusive,
            api::Mode::Shared => Self::Shared,
        }
    }
}

impl From<api::OnRelease> for OnRelease {
    fn from(on_release: api::OnRelease) -> Self {
        match on_release {
            api::OnRelease::Keep => Self::Keep,
            api::OnRelease::Remove => Self::Remove,
        }
    }
}

impl From<Mode> for api::Mode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Exclusive => Self::Exclusive,
            Mode::Shared => Self::Shared,
        }
    }
}

/// The protocol of the same name, if this host supports it.
pub(super) fn protocol(protocol: api::Protocol) -> Result<Protocol, api::Error> {
    let name = match protocol {
        api::Protocol::Native => "native",
        api::Protocol::Flock => "flock",
        api::Protocol::Fcntl => "fcntl",
        api::Protocol::Link => "link",
        api::Protocol::Symlink => "symlink",
        api::Protocol::Mkdir => "mkdir",
        api::Protocol::PidFile => "pid-file",
        api::Protocol::Soft => "soft",
        api::Protocol::Sqlite => "sqlite",
    };
    name.parse().map_err(|_| api::Error::NotSupported)
}

pub(super) fn timeout(timeout: Option<api::Milliseconds>) -> Option<Duration> {
    timeout.map(|millis| Duration::from_millis(millis.into()))
}

/// Rounds down, so that a guest never relies on more time than remains.
fn milliseconds(duration: Duration) -> api::Milliseconds {
    duration
        .as_millis()
        .try_into()
        .unwrap_or(api::Milliseconds::MAX)
}

fn grant(token: Option<u64>, valid_for: Option<Duration>) -> api::Grant {
    api::Grant {
        token,
        valid_for: valid_for.map(milliseconds),
    }
}

impl LocketCtxView<'_> {
    /// The lock behind a resource. It must belong to the context that is in the store now.
    pub(super) fn lock(&self, this: &Resource<LockFile>) -> wasmtime::Result<&LockFile> {
        let lock = self.table.get(this)?;
        wasmtime::ensure!(
            self.ctx.opened(lock),
            "the context in the store was replaced while its guest had locks open; \
             change its grants and limits instead"
        );
        Ok(lock)
    }
}

impl api::Host for LocketCtxView<'_> {
    fn convert_error(&mut self, error: LockError) -> wasmtime::Result<api::Error> {
        match error.0 {
            Fault::Guest(error) => Ok(error),
            Fault::Host(error) => Err(error),
        }
    }
}

impl api::HostLockFile for LocketCtxView<'_> {
    fn open(&mut self, path: String) -> Result<Resource<LockFile>, LockError> {
        let lock = self.ctx.open(&path, None, OnRelease::Keep)?;
        Ok(self.table.push(lock)?)
    }

    fn open_with(
        &mut self,
        path: String,
        options: api::Options,
    ) -> Result<Resource<LockFile>, LockError> {
        let on_release = options.on_release.into();
        let protocol = options.protocol.map(protocol).transpose()?;
        let lock = self.ctx.open(&path, protocol, on_release)?;
        Ok(self.table.push(lock)?)
    }

    fn path(&mut self, this: Resource<LockFile>) -> wasmtime::Result<String> {
        Ok(self.lock(&this)?.path().to_owned())
    }

    async fn acquire(
        &mut self,
        this: Resource<LockFile>,
        mode: api::Mode,
        wait: Option<api::Milliseconds>,
    ) -> Result<api::Grant, LockError> {
        let lock = self.lock(&this)?;
        let hold = lock.acquire_suspended(mode.into(), timeout(wait))?.await?;
        Ok(keep(hold))
    }

    async fn release(&mut self, this: Resource<LockFile>) -> Result<(), LockError> {
        let released = self.lock(&this)?.release_async();
        Ok(released.await?)
    }

    async fn is_locked(&mut self, this: Resource<LockFile>) -> Result<bool, LockError> {
        let locked = self.lock(&this)?.is_locked_async();
        Ok(locked.await?)
    }

    fn state(&mut self, this: Resource<LockFile>) -> wasmtime::Result<api::State> {
        let lock = self.lock(&this)?;
        Ok(match lock.state() {
            State::Unlocked => api::State::Unlocked,
            State::Held => api::State::Held(grant(lock.token(), lock.valid_for())),
            State::Lost(reason) => api::State::Lost(reason.into()),
            State::Uncertain(left) => api::State::Uncertain(milliseconds(left)),
            // One that this version does not know: rely on nothing.
            _ => api::State::Uncertain(0),
        })
    }

    async fn holder(&mut self, this: Resource<LockFile>) -> Result<Option<api::Holder>, LockError> {
        let holder = self.lock(&this)?.holder_async();
        Ok(holder.await?.map(api::Holder::from))
    }

    fn guarantee(&mut self, this: Resource<LockFile>) -> wasmtime::Result<api::Guarantee> {
        let guarantee = self.lock(&this)?.guarantee();
        Ok(api::Guarantee {
            scope: match guarantee.scope {
                Scope::Host => api::Scope::Host,
                Scope::ClusterFileSystem => api::Scope::ClusterFileSystem,
                Scope::Cluster => api::Scope::Cluster,
                // A scope that this version does not know includes at least the host.
                _ => api::Scope::Host,
            },
            ttl: guarantee.ttl.map(milliseconds),
            fifo: guarantee.fifo,
            fencing: guarantee.fencing,
        })
    }

    fn drop(&mut self, this: Resource<LockFile>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}

/// Keeps the hold that a plain acquire was granted.
pub(super) fn keep(hold: GuestGuard) -> api::Grant {
    let granted = grant(hold.token(), hold.valid_for());
    hold.keep();
    granted
}

impl api::HostGuard for LocketCtxView<'_> {
    fn grant(&mut self, this: Resource<Guard>) -> wasmtime::Result<api::Grant> {
        let hold = &self.table.get(&this)?.hold;
        Ok(grant(hold.token(), hold.valid_for()))
    }

    fn release(&mut self, this: Resource<Guard>) -> Result<(), LockError> {
        Ok(self.table.delete(this)?.hold.release()?)
    }

    fn drop(&mut self, this: Resource<Guard>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_this_system_is_known_by_its_own_number() {
        // ERROR_TOO_MANY_OPEN_FILES and ERROR_BAD_LENGTH; EMFILE and EINTR elsewhere.
        let (too_many_files, other) = if cfg!(windows) { (4, 24) } else { (24, 4) };
        let kind = |number| io_kind(&io::Error::from_raw_os_error(number));
        assert_eq!(kind(too_many_files), api::IoKind::TooManyFiles);
        assert_eq!(kind(other), api::IoKind::Other);
    }
}
