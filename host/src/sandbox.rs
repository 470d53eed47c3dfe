//! What a guest may lock: directories granted to it, with rights and limits.
//!
//! A [`Sandbox`] stands for one guest. It is an owner of locks in an [`Engine`], and it is the
//! only place where the paths of a guest are read. The adapter for Wasmtime is built on it, and
//! so can be one for another runtime: it knows none.
//!
//! # Paths
//!
//! A grant gives a directory of the host a name in the guest. A path belongs to the grant with
//! the longest name that it begins with, component by component; the rest of it is resolved
//! beneath the open directory, by the operating system, and never leaves it. That is the rule by
//! which WASI's C library picks a preopened directory, so the string that opens a file there
//! opens its lock here. As in that library, the working directory of a guest is the root of its
//! namespace: `.` and `/` name the same place unless both are granted, and `a` is `/a`.
//!
//! # Locks that are a name
//!
//! A guest may use every [`Protocol`]. One whose lock [is a name](Protocol::is_name) takes the rights
//! to create and to hold exclusively; what it makes says which process of which host this is, for
//! those who may read the directory. To a guest that is granted the same directory's files that
//! may be more than it should know; and if it may write there, it can make a lock that claims to be
//! some process's, and learn from whether it is taken over whether there is such a process.
//!
//! # Limits
//!
//! They hold for one sandbox, and what is given back counts no more: handles when they are
//! dropped, waits when they end, holds when they are released, or lost.

use std::fs::File;
use std::future::Future;
use std::io;
use std::mem;
use std::ops::BitOr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use cap_std::fs::Dir;

use crate::engine::{Acquire, Engine, Guard, LockFile, Meanwhile, Options, Owner, break_any};
use crate::error::{Error, Kind, Result};
use crate::target::Target;
use crate::{Guarantee, Holder, LostReason, Mode, OnRelease, Protocol, State};

/// What may be done with the locks in a granted directory.
///
/// ```
/// use locket::sandbox::Rights;
///
/// let rights = Rights::CREATE | Rights::SHARED;
/// assert!(rights.contains(Rights::SHARED) && !rights.contains(Rights::EXCLUSIVE));
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Rights(u8);

impl Rights {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// To create lock files where they are missing. Together with [`EXCLUSIVE`](Self::EXCLUSIVE),
    /// to have them removed on release.
    pub const CREATE: Self = Self(1);
    /// To hold locks exclusively.
    pub const EXCLUSIVE: Self = Self(2);
    /// To share locks.
    pub const SHARED: Self = Self(4);
    /// To take locks away from other guests and from this process.
    pub const BREAK: Self = Self(8);
    /// To share the locks of files that exist.
    pub const READ_ONLY: Self = Self::SHARED;
    /// Everything but to break locks.
    pub const READ_WRITE: Self = Self(Self::CREATE.0 | Self::EXCLUSIVE.0 | Self::SHARED.0);
    /// Everything.
    pub const ALL: Self = Self(Self::READ_WRITE.0 | Self::BREAK.0);

    /// Whether all of `rights` are among these.
    pub const fn contains(self, rights: Self) -> bool {
        self.0 & rights.0 == rights.0
    }

    /// These without `rights`.
    #[must_use]
    pub const fn without(self, rights: Self) -> Self {
        Self(self.0 & !rights.0)
    }

    fn to_hold(mode: Mode) -> Self {
        match mode {
            Mode::Exclusive => Self::EXCLUSIVE,
            Mode::Shared => Self::SHARED,
        }
    }
}

impl BitOr for Rights {
    type Output = Self;

    fn bitor(self, rights: Self) -> Self {
        Self(self.0 | rights.0)
    }
}

/// How much a guest may use at a time. What exceeds it fails with
/// [`Error::is_limit_exceeded`].
#[derive(Clone, Debug)]
pub struct Limits {
    handles: usize,
    held: usize,
    waiters: usize,
    path_length: usize,
    longest_wait: Option<Duration>,
    longest_hold: Option<Duration>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handles: 64,
            held: 16,
            waiters: 16,
            path_length: 1024,
            longest_wait: None,
            longest_hold: None,
        }
    }
}

impl Limits {
    /// 64 handles, 16 holds, 16 waits, paths of 1024 bytes; no limit on time.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many handles may be open: [locks](Lock), and what else an adapter
    /// [counts](Lock::handle). That of Wasmtime counts the guards and the pending waits of a guest.
    pub fn handles(mut self, limit: usize) -> Self {
        self.handles = limit;
        self
    }

    /// How many locks may be held. Each of several holds on one file counts.
    pub fn held(mut self, limit: usize) -> Self {
        self.held = limit;
        self
    }

    /// How many acquires may wait.
    pub fn waiters(mut self, limit: usize) -> Self {
        self.waiters = limit;
        self
    }

    /// How long a path may be, in bytes.
    pub fn path_length(mut self, limit: usize) -> Self {
        self.path_length = limit;
        self
    }

    /// How long an acquire may wait. One that the guest would have let wait longer fails with
    /// [`Error::is_canceled`] then.
    pub fn longest_wait(mut self, limit: Option<Duration>) -> Self {
        self.longest_wait = limit;
        self
    }

    /// How long a lock may be held. After that the guest has [lost](State::Lost) it.
    pub fn longest_hold(mut self, limit: Option<Duration>) -> Self {
        self.longest_hold = limit;
        self
    }
}

/// The locks of one guest: where they may be, and which there are.
///
/// ```
/// use locket::sandbox::{Limits, Rights, Sandbox};
/// use locket::{Engine, Mode, OnRelease, Protocol};
/// use std::time::Duration;
///
/// # let dir = tempfile::tempdir()?;
/// # let jobs = dir.path();
/// let engine = Engine::new();
/// let mut guest = Sandbox::new(&engine, Some("worker"), Protocol::Native, Limits::new());
/// guest.grant_dir(jobs, "/jobs", Rights::READ_WRITE)?;
///
/// let lock = guest.open("/jobs/a.lock", None, OnRelease::Keep)?;
/// let hold = lock.acquire(Mode::Exclusive, Duration::from_secs(1))?;
/// assert!(engine.open(jobs.join("a.lock"))?.try_acquire(Mode::Shared)?.is_none());
/// hold.release()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Sandbox {
    guest: Arc<Guest>,
    grants: Vec<Grant>,
    database: Option<PathBuf>,
}

/// A directory under a name in the guest.
#[derive(Debug)]
pub(crate) struct Grant {
    name: Vec<String>,
    absolute: bool,
    dir: Arc<Dir>,
    rights: Rights,
}

impl Grant {
    pub(crate) fn ambient(path: &Path, name: &str, rights: Rights) -> io::Result<Self> {
        let dir = Dir::open_ambient_dir(path, cap_std::ambient_authority())?;
        Self::new(dir, name, rights)
    }

    fn new(dir: Dir, name: &str, rights: Rights) -> io::Result<Self> {
        let absolute = name.starts_with('/');
        let name: Vec<String> = components(name).map(str::to_owned).collect();
        if name.iter().any(|part| part == "..") {
            let why = "the name of a granted directory has `..` in it";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        Ok(Self {
            name,
            absolute,
            dir: Arc::new(dir),
            rights,
        })
    }
}

/// What the locks of a guest share.
#[derive(Debug)]
struct Guest {
    engine: Engine,
    owner: Owner,
    protocol: Protocol,
    limits: Limits,
    ledger: Mutex<Ledger>,
}

/// What a guest uses at the moment.
#[derive(Debug, Default)]
struct Ledger {
    next: u64,
    handles: usize,
    waiters: usize,
    /// Every lock that is open, or that somebody waits for.
    locks: Vec<(u64, LockFile)>,
    /// Every hold that was not released, those that were lost included.
    holds: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    id: u64,
    /// The lock that it was acquired through.
    lock: u64,
    /// Belongs to that lock, and is released with it.
    kept: bool,
    guard: Guard,
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.engine.disown(self.owner);
    }
}

impl Ledger {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// The place of a hold; they are ordered by number.
    fn index(&self, hold: u64) -> Option<usize> {
        self.holds
            .binary_search_by_key(&hold, |entry| entry.id)
            .ok()
    }

    fn take(&mut self, hold: u64) -> Option<Entry> {
        self.index(hold).map(|index| self.holds.remove(index))
    }
}

impl Guest {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds that were lost count no more.
    fn may_hold_another(&self, ledger: &Ledger) -> bool {
        let limit = self.limits.held;
        let held = || {
            ledger
                .holds
                .iter()
                .filter(|entry| entry.guard.is_held())
                .count()
        };
        ledger.holds.len() < limit || held() < limit
    }
}

/// A handle of a guest, as far as it counts: until it is dropped.
#[derive(Debug)]
pub struct Handle(Arc<Guest>);

impl Handle {
    fn new(guest: &Arc<Guest>) -> Option<Self> {
        let mut ledger = guest.ledger();
        let free = ledger.handles < guest.limits.handles;
        ledger.handles += usize::from(free);
        free.then(|| Self(Arc::clone(guest)))
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.ledger().handles -= 1;
    }
}

impl Sandbox {
    /// A guest to whom nothing is granted yet. `label` is what others are told where they ask who
    /// holds a lock; `protocol` is the one of locks that the guest opens without naming one.
    pub fn new(engine: &Engine, label: Option<&str>, protocol: Protocol, limits: Limits) -> Self {
        let guest = Guest {
            engine: engine.clone(),
            owner: engine.owner(label),
            protocol,
            limits,
            ledger: Mutex::default(),
        };
        Self {
            guest: Arc::new(guest),
            grants: Vec::new(),
            database: None,
        }
    }

    /// Grants the directory at `host_path` under the name `guest_path`. It is opened now, and
    /// stays the same directory whatever becomes of its path.
    ///
    /// # Errors
    ///
    /// Where the directory cannot be opened, and as [`grant`](Self::grant).
    pub fn grant_dir(
        &mut self,
        host_path: impl AsRef<Path>,
        guest_path: impl AsRef<str>,
        rights: Rights,
    ) -> io::Result<()> {
        self.add(Grant::ambient(
            host_path.as_ref(),
            guest_path.as_ref(),
            rights,
        )?);
        Ok(())
    }

    /// Grants an open directory under the name `guest_path`. Of two grants of one name the later
    /// one counts.
    ///
    /// # Errors
    ///
    /// [Invalid input](io::ErrorKind::InvalidInput) where the name has `..` in it;
    /// [not a directory](io::ErrorKind::NotADirectory).
    pub fn grant(
        &mut self,
        dir: File,
        guest_path: impl AsRef<str>,
        rights: Rights,
    ) -> io::Result<()> {
        if !dir.metadata()?.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        self.add(Grant::new(
            Dir::from_std_file(dir),
            guest_path.as_ref(),
            rights,
        )?);
        Ok(())
    }

    /// Names the database of the host in which the guest's locks of [`Protocol::Sqlite`] are. By
    /// default there is none, and that protocol is unsupported.
    pub fn set_database(&mut self, host_path: impl Into<PathBuf>) {
        self.database = Some(host_path.into());
    }

    pub(crate) fn add(&mut self, grant: Grant) {
        self.grants.push(grant);
    }

    /// Opens the lock of the file at `path`, which is the guest's; does not acquire it. The file
    /// is created where it is missing and may be. No protocol means that of the sandbox.
    ///
    /// # Errors
    ///
    /// [Denied](Error::is_denied) outside of every grant, whatever exists there, where neither
    /// mode is granted, and without the rights to create and to hold exclusively for
    /// [`OnRelease::Remove`] and for a protocol whose lock [is a name](Protocol::is_name);
    /// [invalid path](Error::is_invalid_path);
    /// [not found](Error::is_not_found); [limit exceeded](Error::is_limit_exceeded); or
    /// [another error](Error::is_io) of the system.
    pub fn open(
        &self,
        path: &str,
        protocol: Option<Protocol>,
        on_release: OnRelease,
    ) -> Result<Lock> {
        let refuse = |kind| Error::new(kind, Path::new(path));
        let (grant, rest) = self.resolve(path)?;
        let rights = grant.rights;
        let usable = rights.contains(Rights::EXCLUSIVE) || rights.contains(Rights::SHARED);
        let may_remove = rights.contains(Rights::CREATE | Rights::EXCLUSIVE);
        let protocol = protocol.unwrap_or(self.guest.protocol);
        let removes = on_release == OnRelease::Remove || protocol.is_name();
        if !usable || removes && !may_remove {
            return Err(refuse(Kind::Denied));
        }
        let handle = Handle::new(&self.guest).ok_or_else(|| refuse(Kind::LimitExceeded))?;
        let options = self
            .options(protocol)
            .on_release(on_release)
            .create(rights.contains(Rights::CREATE))
            .max_hold(self.guest.limits.longest_hold);
        let file = self.open_beneath(path, grant, rest, &options)?;
        let mut ledger = self.guest.ledger();
        let id = ledger.number();
        ledger.locks.push((id, file.clone()));
        drop(ledger);
        let guest = Arc::clone(&self.guest);
        Ok(Lock {
            open: Arc::new(Open {
                guest,
                id,
                file,
                rights,
            }),
            _handle: handle,
        })
    }

    fn options(&self, protocol: Protocol) -> Options {
        let options = Options::new().protocol(protocol);
        match &self.database {
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
        let create = grant.rights.contains(Rights::CREATE);
        let target = Target::beneath(Arc::clone(&grant.dir), rest, create);
        self.guest
            .engine
            .open_target(target, path.into(), options, self.guest.owner)
    }

    /// The grant that a path belongs to, and the path beneath it.
    fn resolve(&self, path: &str) -> Result<(&Grant, PathBuf)> {
        let refuse = |kind| Error::new(kind, Path::new(path));
        if path.is_empty() || path.len() > self.guest.limits.path_length || path.contains('\0') {
            return Err(refuse(Kind::InvalidPath));
        }
        let absolute = path.starts_with('/');
        let parts: Vec<&str> = components(path).collect();
        let matching = self.grants.iter().filter(|grant| {
            parts.len() >= grant.name.len() && grant.name.iter().zip(&parts).all(|(a, b)| a == b)
        });
        let grant = matching
            .max_by_key(|grant| (grant.name.len(), grant.absolute == absolute))
            .ok_or_else(|| refuse(Kind::Denied))?;
        let rest: PathBuf = parts[grant.name.len()..].iter().collect();
        // A directory, whatever exists there: the grant itself, or what only a directory can end in.
        let end = path.rsplit('/').next().unwrap_or_default();
        if rest.as_os_str().is_empty() || matches!(end, "" | "." | "..") {
            return Err(refuse(Kind::InvalidPath));
        }
        Ok((grant, rest))
    }

    /// Takes the lock of the file at `path`, which is the guest's, away from whoever holds it, in
    /// whatever protocol. Guests of the engine and this process learn it by [`State::Lost`]; so do
    /// other processes that use Locket. Creates nothing.
    ///
    /// # Errors
    ///
    /// [Denied](Error::is_denied) without [`Rights::BREAK`]; [not locked](Error::is_not_locked)
    /// where nobody holds it, or nobody who can be named; [unsupported](Error::is_unsupported) where
    /// another process holds a lock of the kernel; and as [`open`](Self::open).
    pub fn break_lock(&self, path: &str) -> Result<()> {
        let (grant, rest) = self.resolve(path)?;
        if !grant.rights.contains(Rights::BREAK) {
            return Err(Error::new(Kind::Denied, Path::new(path)));
        }
        let owner = self.guest.owner;
        let open = |protocol| {
            let target = Target::beneath(Arc::clone(&grant.dir), rest.clone(), false);
            let options = self.options(protocol).create(false);
            let engine = &self.guest.engine;
            engine.open_target(target, path.into(), &options, owner)
        };
        // Of that one it is known that the guest's locks are such.
        let own = self.guest.protocol;
        if own.is_name() && open(own)?.break_if(false)? {
            return Ok(());
        }
        break_any(Path::new(path), open).map(drop)
    }

    /// Takes away every lock that the guest holds, and ends its waits with the error
    /// [canceled](Error::is_canceled). It learns the first by [`State::Lost`].
    pub fn release_all(&self) {
        // Without the ledger, since whoever is woken by this may come back for it.
        let locks = self.guest.ledger().locks.clone();
        for (_, lock) in locks {
            lock.revoke();
        }
        // Those of files that were replaced while they were held: no lock leads there any more.
        let stray: Vec<_> = self
            .guest
            .ledger()
            .holds
            .extract_if(.., |entry| entry.guard.is_held())
            .collect();
        drop(stray);
    }
}

/// The components of a path, without those that mean nothing.
fn components(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|part| !matches!(*part, "" | "."))
}

/// An open lock of a guest. Dropping it releases what it [keeps](Hold::keep).
#[derive(Debug)]
pub struct Lock {
    open: Arc<Open>,
    _handle: Handle,
}

/// What outlives a lock for as long as somebody waits for it or holds it.
#[derive(Debug)]
struct Open {
    guest: Arc<Guest>,
    id: u64,
    file: LockFile,
    rights: Rights,
}

impl Open {
    fn refuse(&self, kind: Kind) -> Error {
        Error::new(kind, self.file.path())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut ledger = self.guest.ledger();
        let index = ledger.locks.iter().position(|(id, _)| *id == self.id);
        let lock = index.map(|index| ledger.locks.swap_remove(index));
        drop(ledger);
        drop(lock);
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let kept = |entry: &mut Entry| entry.kept && entry.lock == self.open.id;
        let kept: Vec<_> = self
            .open
            .guest
            .ledger()
            .holds
            .extract_if(.., kept)
            .collect();
        drop(kept);
    }
}

impl Lock {
    /// The path, as the guest opened it.
    pub fn path(&self) -> &str {
        // It came as a string.
        self.open.file.path().to_str().unwrap_or_default()
    }

    /// Acquires the lock on the calling thread; see [`LockFile::acquire`]. The guest does
    /// nothing meanwhile.
    ///
    /// # Errors
    ///
    /// As [`LockFile::acquire`]; [denied](Error::is_denied) for a mode that is not granted;
    /// [limit exceeded](Error::is_limit_exceeded); [deadlock](Error::is_deadlock) where the wait
    /// could not end before the guest goes on, or closes a circle of guests that wait for one
    /// another; [canceled](Error::is_canceled) where the longest wait ends before the timeout.
    pub fn acquire(&self, mode: Mode, timeout: impl Into<Option<Duration>>) -> Result<Hold> {
        let terms = Terms::new(&self.open, mode, timeout.into())?;
        let meanwhile = terms.suspended();
        let result = self.open.file.acquire_as(mode, terms.timeout, meanwhile);
        terms.settle(result)
    }

    /// Acquires the lock in a task, while the guest does nothing.
    ///
    /// # Errors
    ///
    /// Here: [denied](Error::is_denied) and [limit exceeded](Error::is_limit_exceeded) where that
    /// is known beforehand. From the future: as [`acquire`](Self::acquire).
    pub fn acquire_suspended(
        &self,
        mode: Mode,
        timeout: impl Into<Option<Duration>>,
    ) -> Result<Wait> {
        let terms = Terms::new(&self.open, mode, timeout.into())?;
        let meanwhile = terms.suspended();
        Ok(self.start(mode, terms, meanwhile))
    }

    /// Acquires the lock in a task, while the guest goes on: so it may wait for itself.
    ///
    /// # Errors
    ///
    /// As [`acquire_suspended`](Self::acquire_suspended), but for the deadlock.
    pub fn acquire_async(&self, mode: Mode, timeout: impl Into<Option<Duration>>) -> Result<Wait> {
        let terms = Terms::new(&self.open, mode, timeout.into())?;
        Ok(self.start(mode, terms, Meanwhile::GoesOn))
    }

    fn start(&self, mode: Mode, terms: Terms, meanwhile: Meanwhile) -> Wait {
        let acquire = self.open.file.start(mode, terms.timeout, meanwhile);
        Wait {
            acquire,
            terms: Some(terms),
        }
    }

    /// Releases one hold of the guest on this file: one that was acquired through this lock if
    /// there is one, otherwise any.
    ///
    /// # Errors
    ///
    /// As [`LockFile::release`].
    pub fn release(&self) -> Result<()> {
        let mut ledger = self.open.guest.ledger();
        let mine = |entry: &Entry| entry.lock == self.open.id;
        let holds = ledger.holds.iter().enumerate();
        let found = holds
            .filter(|(_, entry)| mine(entry) || entry.guard.is_on(&self.open.file))
            .max_by_key(|(_, entry)| (mine(entry), entry.id))
            .map(|(index, _)| index);
        let entry = found.map(|index| ledger.holds.remove(index));
        drop(ledger);
        match entry {
            Some(entry) => entry.guard.release(),
            // Says why not.
            None => self.open.file.release(),
        }
    }

    /// Whether anybody holds the lock; see [`LockFile::is_locked`].
    ///
    /// # Errors
    ///
    /// Those of the system, with [`Error::is_io`].
    pub fn is_locked(&self) -> Result<bool> {
        self.open.file.is_locked()
    }

    /// One of those who hold the lock; see [`LockFile::holder`].
    ///
    /// # Errors
    ///
    /// Those of the system, with [`Error::is_io`].
    pub fn holder(&self) -> Result<Option<Holder>> {
        self.open.file.holder()
    }

    /// What the guest knows of its own hold.
    pub fn state(&self) -> State {
        self.open.file.state()
    }

    /// For how long the guest still holds the lock, if there is an end to it.
    pub fn valid_for(&self) -> Option<Duration> {
        // One that the guest was not told of yet has its whole time.
        let longest = self.open.guest.limits.longest_hold?;
        let ledger = self.open.guest.ledger();
        let holds = ledger
            .holds
            .iter()
            .filter(|entry| entry.guard.is_on(&self.open.file));
        Some(holds.filter_map(Entry::valid_for).max().unwrap_or(longest))
    }

    /// What the lock is worth.
    pub fn guarantee(&self) -> Guarantee {
        self.open.file.guarantee()
    }

    /// Returns when a hold of the guest on this file is lost; see [`LockFile::lost`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no other effect.
    pub fn lost(&self) -> impl Future<Output = LostReason> + Send + use<> + 'static {
        self.open.file.lost()
    }

    #[cfg(feature = "wasmtime")]
    pub(crate) fn file(&self) -> &LockFile {
        &self.open.file
    }

    /// Counts a handle of the guest that is not a lock, until the result is dropped.
    ///
    /// # Errors
    ///
    /// [Limit exceeded](Error::is_limit_exceeded).
    pub fn handle(&self) -> Result<Handle> {
        Handle::new(&self.open.guest).ok_or_else(|| self.open.refuse(Kind::LimitExceeded))
    }
}

impl Entry {
    fn valid_for(&self) -> Option<Duration> {
        match self.guard.expires() {
            Some(until) => Some(until.saturating_duration_since(Instant::now())),
            None if self.guard.is_held() => None,
            None => Some(Duration::ZERO),
        }
    }
}

/// On what terms an acquire was admitted. It counts as a wait until it is dropped.
#[derive(Debug)]
struct Terms {
    open: Arc<Open>,
    timeout: Option<Duration>,
    /// What it means where the time is up sooner than the guest asked for.
    cut_short: Option<Kind>,
    waits: bool,
}

impl Drop for Terms {
    fn drop(&mut self) {
        if self.waits {
            self.open.guest.ledger().waiters -= 1;
        }
    }
}

impl Terms {
    fn new(open: &Arc<Open>, mode: Mode, timeout: Option<Duration>) -> Result<Self> {
        if !open.rights.contains(Rights::to_hold(mode)) {
            return Err(open.refuse(Kind::Denied));
        }
        let Limits {
            longest_wait,
            waiters,
            ..
        } = open.guest.limits;
        let longest = longest_wait.filter(|longest| timeout.is_none_or(|time| *longest < time));
        let mut terms = Self {
            open: Arc::clone(open),
            timeout: longest.or(timeout),
            cut_short: longest.and(Some(Kind::Canceled)),
            waits: false,
        };
        let mut ledger = open.guest.ledger();
        if !open.guest.may_hold_another(&ledger) {
            drop(ledger);
            return Err(open.refuse(Kind::LimitExceeded));
        }
        if terms.timeout != Some(Duration::ZERO) {
            terms.waits = ledger.waiters < waiters;
            ledger.waiters += usize::from(terms.waits);
            // A lock that is free may be had all the same.
            if !terms.waits {
                terms.timeout = Some(Duration::ZERO);
                terms.cut_short = Some(Kind::LimitExceeded);
            }
        }
        Ok(terms)
    }

    /// What a guest does that stops until the acquire is over.
    fn suspended(&self) -> Meanwhile {
        let ledger = self.open.guest.ledger();
        let others = ledger.waiters - usize::from(self.waits);
        Meanwhile::Stops {
            blocks: others > 0 || !ledger.holds.is_empty(),
        }
    }

    /// Books what came of the acquire.
    fn settle(mut self, result: Result<Guard>) -> Result<Hold> {
        let guard = match (result, self.cut_short) {
            (Err(e), Some(kind)) if e.is_would_block() || e.is_timeout() => {
                return Err(self.open.refuse(kind));
            }
            (result, _) => result?,
        };
        let guest = &self.open.guest;
        let mut ledger = guest.ledger();
        ledger.waiters -= usize::from(mem::take(&mut self.waits));
        // Several acquires that began within the limit may have ended beyond it.
        if !guest.may_hold_another(&ledger) {
            drop(ledger);
            return Err(self.open.refuse(Kind::LimitExceeded));
        }
        let id = ledger.number();
        ledger.holds.push(Entry {
            id,
            lock: self.open.id,
            kept: false,
            guard,
        });
        drop(ledger);
        Ok(Hold {
            open: Arc::clone(&self.open),
            id,
        })
    }
}

/// An acquire of a guest under way: the future of [`Lock::acquire_async`].
///
/// # Cancel safety
///
/// Dropping it abandons the wait, and releases the lock if it was granted in the meantime.
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct Wait {
    // In this order: the wait counts until it has ended.
    acquire: Acquire,
    terms: Option<Terms>,
}

impl Future for Wait {
    type Output = Result<Hold>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let result = ready!(Pin::new(&mut self.acquire).poll(cx));
        let terms = self
            .terms
            .take()
            .expect("the future is not polled after its end");
        Poll::Ready(terms.settle(result))
    }
}

/// A hold of a guest. Dropping it releases the lock.
#[derive(Debug)]
#[must_use = "the lock is released as soon as the hold is dropped"]
pub struct Hold {
    open: Arc<Open>,
    id: u64,
}

impl Hold {
    /// For how long it lasts from now on, if there is an end to it; zero where it is over.
    pub fn valid_for(&self) -> Option<Duration> {
        let ledger = self.open.guest.ledger();
        let entry = ledger.index(self.id).map(|index| &ledger.holds[index]);
        entry.map_or(Some(Duration::ZERO), Entry::valid_for)
    }

    /// Releases the lock and says how it went. Dropping the hold does the same and keeps silent.
    ///
    /// # Errors
    ///
    /// [Not locked](Error::is_not_locked) where it was released through the [`Lock`], otherwise
    /// as [`Guard::release`].
    pub fn release(self) -> Result<()> {
        let entry = self.open.guest.ledger().take(self.id);
        entry
            .ok_or_else(|| self.open.refuse(Kind::NotLocked))?
            .guard
            .release()
    }

    /// Leaves it to the lock that it was acquired through: it is held until it is
    /// [released](Lock::release) through that, or that is dropped. What was kept before and has
    /// been lost since is forgotten.
    pub fn keep(self) {
        let mut ledger = self.open.guest.ledger();
        let lock = self.open.id;
        let lost: Vec<_> = ledger
            .holds
            .extract_if(.., |entry| {
                entry.kept && entry.lock == lock && !entry.guard.is_held()
            })
            .collect();
        if let Some(index) = ledger.index(self.id) {
            ledger.holds[index].kept = true;
        }
        drop(ledger);
        drop(lost);
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut ledger = self.open.guest.ledger();
        let kept = ledger
            .index(self.id)
            .is_none_or(|index| ledger.holds[index].kept);
        let entry = if kept { None } else { ledger.take(self.id) };
        drop(ledger);
        drop(entry);
    }
}
