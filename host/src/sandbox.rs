//! What a guest may lock: directories granted to it, with rights and limits.
//!
//! A [`Sandbox`] stands for one guest. It is an owner of locks in an [`Engine`], and the only place
//! where the paths of a guest are read. The adapter for Wasmtime is built on it. Adapters for other
//! runtimes can be, since the sandbox depends on none.
//!
//! # What granting a directory means
//!
//! [`Rights`] say what the guest may do with the locks in a directory. Whatever they are:
//!
//! - **No content, name, mode or time of a file changes by holding a kernel lock on it.** On
//!   release, only an empty regular file with a single name is removed, only for a guest with
//!   [`Rights::REMOVE`], and only while the guest excludes the users of both lock families.
//! - **Taking over from a dead holder removes nothing but that holder's lock.** A file with content
//!   that the protocol did not write, or a directory with more than the holder's record in it, is
//!   left alone, and counts as held.
//! - **A database is never one that a guest can reach.** It is opened without following symbolic
//!   links, a directory that holds it cannot be granted, and nothing in it can make a call last
//!   longer than some milliseconds beyond its timeout.
//!
//! A guest can do this within its rights, and no setting prevents it:
//!
//! - It can hold any lock in the directory that it may hold, for as long as
//!   [`Limits::longest_hold`] allows, and ranges of bytes for as long as it lives. Other waiters for
//!   that lock wait that long.
//! - It learns whether a file exists, whether it is locked, and the label and mode of a holder that
//!   belongs to the same engine. It learns no path, process number or error text of the host.
//!   Nothing outside of the granted directory is looked at, even if a directory on the path is
//!   exchanged for a symbolic link meanwhile.
//! - With [`Rights::CREATE`] it can create an empty file under any free name. To the protocols
//!   `soft` and `pid-file`, a file that exists is a held lock; to `link`, `symlink`, `mkdir` and
//!   git, `NAME.lock` is. So do not use existence locks with other programs in a directory where an
//!   untrusted guest may create files.
//! - With [`Rights::EXCLUSIVE`], in the protocols `native` and `fcntl` and by ranges, it keeps a
//!   program file in the directory from being executed for as long as the handle is open, once it has
//!   held its lock exclusively: the kernel executes no file that is open for writing.
//! - With [`Rights::EXISTENCE`] it creates directory entries that name this process and its host to
//!   anyone who can read the directory. If the guest may also write files there, it can forge the
//!   lock of any process, and learn whether that process exists from whether the lock is taken
//!   over.
//!
//! **Do not grant a directory in which this process has POSIX record locks of its own**, such as
//! those of a SQLite database that it has open. The kernel drops all such locks of a process on a
//! file when the process closes any descriptor of that file, and a guest with any right can make
//! the host open and close files at will.
//!
//! **A grant within a grant does not narrow it.** If a guest has `/jobs` with many rights and
//! `/jobs/private` with few, then `/jobs/x/../private/f` belongs to the first, as it does in WASI.
//!
//! # Paths
//!
//! A grant gives a directory of the host a name in the guest. A path belongs to the grant with the
//! longest name that it begins with, component by component; the rest of it is resolved beneath the
//! open directory, by the operating system, and never leaves it. WASI's C library picks a preopened
//! directory by the same rule, so the string that opens a file there opens its lock here. As in
//! that library, the working directory of a guest is the root of its namespace: `.` and `/` name
//! the same place unless both are granted, and `a` is `/a`.
//!
//! # Limits
//!
//! [`Limits`] bound every descriptor, thread, table entry, created file and byte that a guest can
//! cause. They apply to one sandbox. [`Limits`] has a table of them. A host that makes a sandbox for
//! each call bounds what its customers use with a [`Tenant`].
//!
//! # Calls between guests
//!
//! A guest that waits for itself, or for guests that wait for it, gets
//! [deadlock](crate::Error::is_deadlock). The engine sees guests that wait for locks. It cannot see
//! that a guest waits for a function of the host, so tell it:
//!
//! - A function of the host that locks on behalf of its caller acquires through the sandbox of that
//!   guest: [`Sandbox::open`]. If it acquired as the process instead, the caller would wait for a
//!   lock of its own, and no error would tell.
//! - A function of the host in which another guest runs declares that: [`Sandbox::calls`].

mod basis;
mod builder;
mod call;
mod created;
mod directory;
mod elsewhere;
mod guest_acquire;
mod guest_guard;
mod guest_lock;
mod guest_ranges;
mod handle;
mod hold_report;
mod hooks;
mod lent;
mod limits;
mod open;
mod paths;
mod quota;
mod rights;
mod tenant;
mod terms;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use self::basis::Basis;
use self::hooks::Story;
#[cfg(feature = "remote")]
use self::paths::lock_name;
use self::paths::{Grant, Place, resolve};
use self::quota::Guest;
use crate::engine::{Engine, break_any};
use crate::error::{Error, ErrorKind, Result};
use crate::lock_file::LockFile;
use crate::lock_path::{Granted, LockPath};
use crate::options::Options;
use crate::protocol::Protocol;
use crate::ranges::RangeFile;
use crate::types::OnRelease;

pub use self::builder::SandboxBuilder;
pub use self::call::Call;
pub use self::directory::Directory;
pub use self::guest_acquire::GuestAcquire;
pub use self::guest_guard::GuestGuard;
pub use self::guest_lock::{GuestLock, Loss};
pub use self::guest_ranges::{GuestLockRange, GuestPendingRange, GuestRanges};
pub use self::handle::Claim;
pub use self::hooks::{Hooks, Request};
pub use self::limits::Limits;
pub use self::quota::{HandlePermit, Usage};
pub use self::rights::{Rights, UnknownRight};
pub use self::tenant::{Tenant, TenantBuilder};

/// The locks of one guest, and the directories in which they may be.
///
/// Clones are the same guest. So a clone is a handle on a guest: it lists and revokes the guest's
/// locks, ends its waits and changes what it may do, from any thread and while the guest runs or
/// waits. It keeps the granted directories open.
///
/// ```
/// use locket::sandbox::{Rights, Sandbox};
/// use locket::{Engine, Mode, OnRelease};
/// use std::time::Duration;
///
/// # let dir = tempfile::tempdir()?;
/// # let jobs = dir.path();
/// let engine = Engine::new();
/// let guest = Sandbox::builder(&engine)
///     .label("worker")
///     .grant_dir(jobs, "/jobs", Rights::LOCKS)?
///     .build();
///
/// let lock = guest.open("/jobs/a.lock", None, OnRelease::Keep)?;
/// let hold = lock.acquire(Mode::Exclusive, Duration::from_secs(1))?;
/// assert!(engine.open(jobs.join("a.lock"))?.try_acquire(Mode::Shared)?.is_none());
///
/// let handle = guest.clone();
/// assert_eq!(handle.holds()[0].path, "/jobs/a.lock");
/// handle.release_all();
/// assert!(hold.release().unwrap_err().is_lost());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Sandbox {
    guest: Arc<Guest>,
}

impl Sandbox {
    /// Settings for a guest, without grants at first. Use one engine for all guests of a process:
    /// it keeps the order of arrival and sees guests that wait for one another. A second engine is
    /// like another process, with threads and descriptors of its own.
    pub fn builder(engine: &Engine) -> SandboxBuilder {
        SandboxBuilder::new(engine)
    }

    fn of(guest: Arc<Guest>) -> Self {
        Self { guest }
    }

    fn permits(&self, protocol: Protocol) -> bool {
        let settings = &self.guest.settings;
        let listed = |protocols: &Vec<Protocol>| protocols.contains(&protocol);
        let given = [settings.protocol, Protocol::Remote].contains(&protocol);
        given || settings.protocols.as_ref().is_none_or(listed)
    }

    /// Opens the lock of the file at `path`, a path of the guest. Does not acquire it. Creates the
    /// file if it is missing and the rights allow it. `None` stands for the protocol of the
    /// sandbox.
    ///
    /// A function of the host that locks on behalf of a guest opens the lock here, too: with the
    /// rights and limits of the guest, and known as a wait of it.
    ///
    /// # Errors
    ///
    /// [Denied](Error::is_denied) outside of every grant, whatever exists there, and if the rights
    /// or the [protocols](SandboxBuilder::protocols) do not allow it;
    /// [invalid path](Error::is_invalid_path);
    /// [not found](Error::is_not_found); [limit exceeded](Error::is_limit_exceeded) for one handle
    /// or created file too many; or [another error](Error::is_io) of the system.
    pub fn open(
        &self,
        path: &str,
        protocol: Option<Protocol>,
        on_release: OnRelease,
    ) -> Result<GuestLock> {
        self.guest.engine.refuse_forked(Path::new(path))?;
        let opened = self.open_quietly(path, protocol, on_release);
        self.tell_opened(path, protocol, opened)
    }

    fn tell_opened(
        &self,
        path: &str,
        protocol: Option<Protocol>,
        opened: Result<GuestLock>,
    ) -> Result<GuestLock> {
        let listener = self.guest.listener();
        match &opened {
            Ok(lock) => listener.opened(path, lock.protocol()),
            Err(error) => listener.not_opened(path, protocol, error),
        }
        opened
    }

    /// Opens the file at `path`, a path of the guest, for locks on ranges. Creates the file if it is
    /// missing and the rights allow it.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open); the protocol is [`Protocol::Fcntl`].
    pub fn open_ranges(&self, path: &str) -> Result<GuestRanges> {
        self.guest.engine.refuse_forked(Path::new(path))?;
        let opened = self.open_ranges_quietly(path);
        self.tell_ranges_opened(path, opened)
    }

    fn tell_ranges_opened(&self, path: &str, opened: Result<GuestRanges>) -> Result<GuestRanges> {
        let listener = self.guest.listener();
        match &opened {
            Ok(_) => listener.opened(path, Protocol::Fcntl),
            Err(error) => listener.not_opened(path, Some(Protocol::Fcntl), error),
        }
        opened
    }

    fn open_ranges_quietly(&self, path: &str) -> Result<GuestRanges> {
        let guest = &self.guest;
        let limits = guest.books().limits.clone();
        let (grant, rest) = resolve(&guest.grants(), path, limits.path_length)?;
        let (protocol, keep) = (Protocol::Fcntl, OnRelease::Keep);
        if !(self.permits(protocol) && grant.rights().allow(protocol, keep)) {
            return Err(Error::new(ErrorKind::Denied, Path::new(path)));
        }
        let handle = guest.handle(Path::new(path))?;
        let create = grant.rights().contains(Rights::CREATE);
        let lock_path = self.beneath(path, &grant, rest, create, false)?;
        let owner = guest.client.owner;
        let file = guest.engine.ranges_at(lock_path, owner, limits.ranges)?;
        let basis = Basis::Granted(grant);
        Ok(self.guest_ranges(path, file, basis, handle))
    }

    fn guest_ranges(
        &self,
        path: &str,
        file: RangeFile,
        basis: Basis,
        handle: HandlePermit,
    ) -> GuestRanges {
        let story = Story::new(self.guest.listener(), path, Protocol::Fcntl);
        GuestRanges::new(&self.guest, story, file, basis, handle)
    }

    fn open_quietly(
        &self,
        path: &str,
        protocol: Option<Protocol>,
        on_release: OnRelease,
    ) -> Result<GuestLock> {
        let guest = &self.guest;
        let limits = guest.books().limits.clone();
        let (grant, rest) = resolve(&guest.grants(), path, limits.path_length)?;
        let protocol = protocol.unwrap_or_else(|| grant.protocol(guest.settings.protocol));
        let elsewhere =
            protocol == Protocol::Remote && grant.protocol(Protocol::Native) != protocol;
        if elsewhere {
            return Err(Error::new(ErrorKind::Unsupported, Path::new(path)));
        }
        if !(self.permits(protocol) && grant.rights().allow(protocol, on_release)) {
            return Err(Error::new(ErrorKind::Denied, Path::new(path)));
        }
        let handle = guest.handle(Path::new(path))?;
        let kept = !protocol.is_existence_lock() && on_release == OnRelease::Keep;
        let fencing = guest.settings.fencing && kept;
        let options = self
            .options(protocol)
            .fencing(fencing)
            .on_release(on_release)
            .create(grant.rights().contains(Rights::CREATE))
            .max_hold(limits.longest_hold);
        let file = self.open_beneath(path, &grant, rest, &options)?;
        let basis = Basis::Granted(grant);
        Ok(GuestLock::new(guest, path, file, basis, handle))
    }

    fn options(&self, protocol: Protocol) -> Options {
        // Not open for writing until the guest holds a lock that needs it.
        let options = Options::new().protocol(protocol).late_write(true);
        match &self.guest.settings.database {
            Some(database) => options.database(database),
            None => options,
        }
    }

    fn open_beneath(
        &self,
        path: &str,
        grant: &Grant,
        rest: PathBuf,
        options: &Options,
    ) -> Result<LockFile> {
        let (engine, client) = (&self.guest.engine, self.guest.client);
        #[cfg(feature = "remote")]
        if let Place::Server(remote) = &grant.place {
            let name = lock_name(path, &rest)?;
            return engine.open_on_server(remote, &name, path.into(), options, client);
        }
        let (create, write) = (options.creates(), options.writes());
        let lock_path = self.beneath(path, grant, rest, create, write)?;
        engine.open_target(lock_path, options, client)
    }

    fn beneath(
        &self,
        path: &str,
        grant: &Grant,
        rest: PathBuf,
        create: bool,
        write: bool,
    ) -> Result<LockPath> {
        let directory = match &grant.place {
            Place::Directory(directory, _) => directory,
            // A server has no files.
            #[cfg(feature = "remote")]
            Place::Server(_) => return Err(Error::new(ErrorKind::Unsupported, Path::new(path))),
        };
        let granted = Granted {
            dir: Arc::clone(&directory.dir),
            host: directory.host.clone(),
            quota: Arc::clone(&self.guest.created) as _,
        };
        let name = path.into();
        Ok(LockPath::beneath(granted, rest, name, create, write))
    }

    /// Takes the lock of the file at `path`, a path of the guest, away from its holder, in any
    /// protocol that the guest may choose. The holder sees [`State::Lost`](crate::State::Lost), be
    /// it a guest of the engine, this process, or another process that uses Locket. Creates
    /// nothing.
    ///
    /// # Errors
    ///
    /// [Denied](Error::is_denied) without [`Rights::BREAK`]; [not locked](Error::is_not_locked) if
    /// it is free, or does not name its holder; [unsupported](Error::is_unsupported) if another
    /// process holds a kernel lock; and those of [`open`](Self::open).
    pub fn break_lock(&self, path: &str) -> Result<()> {
        self.guest.engine.refuse_forked(Path::new(path))?;
        let listener = self.guest.listener();
        let broken = self.break_quietly(path);
        match &broken {
            Ok(()) => listener.broken(path),
            Err(error) => listener.not_opened(path, None, error),
        }
        broken
    }

    fn break_quietly(&self, path: &str) -> Result<()> {
        let guest = &self.guest;
        let longest = guest.books().limits.path_length;
        let (grant, rest) = resolve(&guest.grants(), path, longest)?;
        if !grant.rights().contains(Rights::BREAK) {
            return Err(Error::new(ErrorKind::Denied, Path::new(path)));
        }
        let open = |protocol| {
            let options = self.options(protocol).create(false);
            self.open_beneath(path, &grant, rest.clone(), &options)
        };
        // The sandbox's own protocol needs no proof of the holder: the guest's locks use it.
        #[cfg(feature = "remote")]
        if let Place::Server(_) = grant.place {
            let lock = open(Protocol::Remote)?;
            let free = Error::new(ErrorKind::NotLocked, Path::new(path));
            return lock.break_if(false)?.then_some(()).ok_or(free);
        }
        let own = guest.settings.protocol;
        if own.is_existence_lock() && open(own)?.break_if(false)? {
            return Ok(());
        }
        let protocols = Protocol::ALL.iter().copied();
        let protocols = protocols.filter(|protocol| self.permits(*protocol));
        break_any(Path::new(path), protocols, open).map(drop)
    }
}
