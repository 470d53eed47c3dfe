//! Locks on ranges of a file's bytes.
//!
//! There is no queue of this engine in front of them: every owner has an open file description of its
//! own, and each waiter waits in the kernel, which wakes those that a change may serve. The thread is
//! the caller's, or a helper's on behalf of a task, and is interrupted as one that waits for a whole
//! file. What the engine adds is that a circle of guests is noticed, and that a wait can be canceled
//! without a trace.

mod lock;
mod sleep;

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::acquire::Suspends;
use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::handle::Context;
use crate::lock_path::LockPath;
use crate::object::OpenLock;
use crate::owner::OwnerId;
use crate::range::{Range, Span};
use crate::ranged::{OwnedRanges, Tried};
use crate::types::{LostReason, Mode};

pub use self::lock::LockRange;

/// A file whose ranges one owner locks: POSIX record locks, as `fcntl` and `lockf` have them.
///
/// Each [`open_ranges`](Engine::open_ranges) makes an owner, and clones are the same owner. An owner
/// holds each byte exclusively, shared or not at all. [`lock`](Self::lock) and
/// [`unlock`](Self::unlock) change that for a range, and so convert, split and merge what it holds.
/// Two owners exclude each other, and each excludes every program that uses record locks, in either of
/// their kinds, whole-file locks of [`Protocol::Fcntl`](crate::Protocol::Fcntl) and
/// [`Protocol::Native`](crate::Protocol::Native) included. On Linux, users of `flock` do not see them.
///
/// The file that was opened stays the one that is locked, whatever becomes of its path. Dropping the
/// last clone unlocks everything. Waiters are woken by the kernel; there is no order of arrival.
///
/// ```
/// use locket::{Engine, Mode};
///
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("accounts");
/// let engine = Engine::new();
/// let (one, two) = (engine.open_ranges(&path)?, engine.open_ranges(&path)?);
/// one.lock(Mode::Exclusive, 0..100, None)?;
/// assert!(two.try_lock(Mode::Exclusive, 100..200)?);
/// assert!(!two.try_lock(Mode::Shared, 99..)?);
/// let conflict = two.query(Mode::Shared, 50..)?.expect("the other owner holds it");
/// assert_eq!((conflict.mode, conflict.range), (Mode::Exclusive, (0..100).into()));
/// one.unlock(..)?;
/// assert!(two.try_lock(Mode::Shared, ..)?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct RangeFile {
    context: Arc<Context>,
    owned: Arc<OwnedRanges>,
    path: Arc<LockPath>,
    /// Whether the file may be opened again for writing, if it is not.
    reopens: bool,
    /// How many ranges the owner may hold.
    limit: usize,
}

/// A range that an owner holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct HeldRange {
    /// How it is held.
    pub mode: Mode,
    /// The range.
    pub range: Range,
}

impl HeldRange {
    pub(crate) fn new((span, mode): (Span, Mode)) -> Self {
        let range = span.range();
        Self { mode, range }
    }
}

impl Engine {
    /// Opens the file at `path` for locks on ranges, and creates it if it is missing. Locks nothing.
    /// A file that cannot be opened for writing can be locked in shared mode.
    ///
    /// On Windows:
    ///
    /// - What is locked can be read and written through other handles only as far as the lock lets
    ///   others lock it, by whatever program.
    /// - The system converts and splits no lock, so the engine unlocks a piece and locks what is to be
    ///   there instead. To unlock a range as it was locked, to make an exclusive one shared, and to
    ///   split a shared one let no other process in. To make a shared range exclusive, or to unlock or
    ///   convert a part of an exclusive one, can let another process in between. If that has what the
    ///   owner held by the time the call returns, the call fails with [lost](Error::is_lost), and
    ///   [`RangeFile::held`] says what is left.
    /// - A waiter tries every 10 ms or less often.
    /// - [`RangeFile::query`] tries, too. It does not know the bounds of what another engine or program
    ///   holds, and tells the part of the range that the owner asked for. It does not tell who shares
    ///   what the owner holds itself.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn open_ranges(&self, path: impl AsRef<Path>) -> Result<RangeFile> {
        let path = path.as_ref();
        let lock_path = LockPath::ambient(path, true, true).map_err(|e| Error::os(e, path))?;
        self.ranges_at(lock_path, self.new_owner(), usize::MAX)
    }

    /// The ranges of a file that is open already, whatever leads to it by now. The description of
    /// `file` carries the locks: what the program locks through a copy of the same descriptor is not
    /// in their way, and must not be used together with them. On Windows, a second handle carries
    /// them, which may write if this process may.
    ///
    /// # Errors
    ///
    /// [Invalid path](Error::is_invalid_path) if it is not a regular file, or [another
    /// error](Error::is_io) of the system.
    pub fn ranges_of(&self, file: File) -> Result<RangeFile> {
        let open = Path::new("an open file");
        let (lock_path, open_lock) =
            LockPath::adopt(file, false).map_err(|e| Error::os(e, open))?;
        self.ranges_adopted(lock_path, open_lock, self.new_owner(), usize::MAX)
    }

    fn new_owner(&self) -> OwnerId {
        OwnerId(self.context().registry.number())
    }

    /// The ranges of a path, for an owner.
    pub(crate) fn ranges_at(
        &self,
        lock_path: LockPath,
        owner: OwnerId,
        limit: usize,
    ) -> Result<RangeFile> {
        self.context().refuse_forked(lock_path.name())?;
        let open_lock = lock_path.open();
        let open_lock = open_lock.map_err(|e| Error::os(e, lock_path.name()))?;
        let reopens = true;
        RangeFile::new(self.context(), lock_path, open_lock, owner, limit, reopens)
    }

    /// The ranges of an open file, for an owner.
    pub(crate) fn ranges_adopted(
        &self,
        lock_path: LockPath,
        open_lock: OpenLock,
        owner: OwnerId,
        limit: usize,
    ) -> Result<RangeFile> {
        self.context().refuse_forked(lock_path.name())?;
        let reopens = false;
        RangeFile::new(self.context(), lock_path, open_lock, owner, limit, reopens)
    }
}

impl RangeFile {
    fn new(
        context: &Arc<Context>,
        lock_path: LockPath,
        open_lock: OpenLock,
        owner: OwnerId,
        limit: usize,
        reopens: bool,
    ) -> Result<Self> {
        let owned = OwnedRanges::of(&context.services.ranged, owner, open_lock, &lock_path);
        Ok(Self {
            context: Arc::clone(context),
            owned: owned.map_err(|e| Error::os(e, lock_path.name()))?,
            path: Arc::new(lock_path),
            reopens,
            limit,
        })
    }

    /// The path, as it was opened.
    pub fn path(&self) -> &Path {
        self.path.name()
    }

    /// Locks a range on the calling thread, and waits for it for at most `timeout`. What the owner
    /// holds in the range already is converted; during the wait it keeps that.
    ///
    /// # Errors
    ///
    /// [Would block](Error::is_would_block), [timeout](Error::is_timeout),
    /// [denied](Error::is_denied) in exclusive mode if the file may not be opened for writing,
    /// [unsupported](Error::is_unsupported) if the range is empty or ends beyond the largest offset
    /// of a file, [canceled](Error::is_canceled), or [another error](Error::is_io) of the system.
    /// Nothing has changed then. [Lost](Error::is_lost), on Windows only, if another process has taken
    /// something that the owner held; see [`Engine::open_ranges`].
    pub fn lock(
        &self,
        mode: Mode,
        range: impl Into<Range>,
        timeout: impl Into<Option<Duration>>,
    ) -> Result<()> {
        let keeps_running = Suspends::Nothing;
        let lock = self.start(mode, range.into(), timeout.into(), keeps_running);
        lock.block(|| {})
    }

    /// Locks a range if that needs no wait.
    ///
    /// # Errors
    ///
    /// As [`lock`](Self::lock), except that a conflict is no error.
    pub fn try_lock(&self, mode: Mode, range: impl Into<Range>) -> Result<bool> {
        match self.lock(mode, range, Duration::ZERO) {
            Ok(()) => Ok(true),
            Err(e) if e.is_would_block() => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Locks a range in a task; as [`lock`](Self::lock) otherwise.
    pub fn lock_async(
        &self,
        mode: Mode,
        range: impl Into<Range>,
        timeout: impl Into<Option<Duration>>,
    ) -> LockRange {
        self.start(mode, range.into(), timeout.into(), Suspends::Nothing)
    }

    /// Unlocks a range. It is no error if the owner holds nothing there.
    ///
    /// # Errors
    ///
    /// [Unsupported](Error::is_unsupported) if the range is empty or ends beyond the largest offset of
    /// a file, [limit exceeded](Error::is_limit_exceeded) if a guest would be left with too many
    /// ranges, or [another error](Error::is_io) of the system. [Lost](Error::is_lost), on Windows
    /// only, if the range is unlocked and another process has taken something that was to stay.
    pub fn unlock(&self, range: impl Into<Range>) -> Result<()> {
        self.context.refuse_forked(self.path())?;
        let unlocked = self.owned.unlock(self.span(range.into())?, self.limit);
        match unlocked.map_err(|e| self.os(e))? {
            Tried::TooMany => Err(self.error(ErrorKind::LimitExceeded)),
            Tried::Lost => Err(self.error(ErrorKind::Lost(LostReason::Broken))),
            _ => Ok(()),
        }
    }

    /// A lock of another owner, in this process or elsewhere, that excludes `mode` in the range.
    ///
    /// # Errors
    ///
    /// [Unsupported](Error::is_unsupported) if the range is empty or ends beyond the largest offset of
    /// a file, or [another error](Error::is_io) of the system.
    pub fn query(&self, mode: Mode, range: impl Into<Range>) -> Result<Option<HeldRange>> {
        self.context.refuse_forked(self.path())?;
        let found = self.owned.query(self.span(range.into())?, mode);
        Ok(found.map_err(|e| self.os(e))?.map(HeldRange::new))
    }

    /// What the owner holds, in the order of the bytes.
    pub fn held(&self) -> Vec<HeldRange> {
        if self.context.forked() {
            return Vec::new();
        }
        self.owned.held().into_iter().map(HeldRange::new).collect()
    }

    /// Cancels the waits of the owner on this file: each fails with
    /// [canceled](Error::is_canceled). Later ones are not affected.
    pub fn cancel_waits(&self) {
        if !self.context.forked() {
            self.owned.cancel_waits();
        }
    }

    pub(crate) fn start(
        &self,
        mode: Mode,
        range: Range,
        timeout: Option<Duration>,
        meanwhile: Suspends,
    ) -> LockRange {
        let cancellations = self.cancellations();
        self.start_since(mode, range, timeout, meanwhile, cancellations)
    }

    /// With the cancellations that there were when the caller was admitted.
    pub(crate) fn start_since(
        &self,
        mode: Mode,
        range: Range,
        timeout: Option<Duration>,
        meanwhile: Suspends,
        cancellations: u64,
    ) -> LockRange {
        let span = Span::try_from(range).map_err(|_| ErrorKind::Unsupported);
        LockRange::new(self, span, mode, timeout, meanwhile, cancellations)
    }

    /// How often the waits of the owner on this file were canceled.
    pub(crate) fn cancellations(&self) -> u64 {
        let registry = &self.context.registry.cancel_generation;
        self.owned.cancellations() + registry.load(Ordering::SeqCst)
    }

    /// Whether the range is locked now. If not, [`start_since`](Self::start_since) finds out why.
    #[cfg(feature = "sandbox")]
    pub(crate) fn try_at_once(&self, mode: Mode, range: Range) -> bool {
        let span = Span::try_from(range);
        span.is_ok_and(|span| matches!(self.attempt(span, mode, None), Ok(true)))
    }

    fn attempt(&self, span: Span, mode: Mode, tentative: Option<u64>) -> Result<bool> {
        let attempt = || self.owned.attempt(span, mode, self.limit, tentative);
        let mut tried = attempt();
        if matches!(tried, Ok(Tried::ReadOnly)) && self.reopens {
            // Not by its path, which may lead to another file by now.
            self.owned.reopen_for_writing().map_err(|e| self.os(e))?;
            tried = attempt();
        }
        match tried.map_err(|e| self.os(e))? {
            Tried::Locked => Ok(true),
            Tried::Conflict => Ok(false),
            Tried::ReadOnly => Err(self.error(ErrorKind::Denied)),
            Tried::TooMany => Err(self.error(ErrorKind::LimitExceeded)),
            Tried::Lost => Err(self.error(ErrorKind::Lost(LostReason::Broken))),
        }
    }

    fn span(&self, range: Range) -> Result<Span> {
        Span::try_from(range).map_err(|e| self.os(e))
    }

    fn error(&self, kind: ErrorKind) -> Error {
        Error::new(kind, self.path())
    }

    fn os(&self, error: io::Error) -> Error {
        Error::os(error, self.path())
    }
}
