//! A hold on a lock.

use std::fmt;
#[cfg(unix)]
use std::fs::File;
use std::future::Future;
#[cfg(unix)]
use std::os::fd::{AsFd, BorrowedFd};
#[cfg(windows)]
use std::os::windows::io::{AsHandle, BorrowedHandle};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use crate::error::Result;
use crate::handle::Handle;
use crate::object::LockObject;
use crate::owner::Ticket;
use crate::queue::LockQueue;
use crate::types::{LostReason, Mode};

/// A hold on a lock. Dropping it releases the lock, in any thread.
#[must_use = "the lock is released as soon as the guard is dropped"]
pub struct Guard {
    pub(crate) handle: Arc<Handle>,
    pub(crate) queue: Arc<LockQueue>,
    pub(crate) ticket: Ticket,
    pub(crate) mode: Mode,
    pub(crate) released: bool,
    /// Rarely needed, so looked up on demand.
    object: OnceLock<Arc<LockObject>>,
    /// The same for what carries an existence lock.
    #[cfg(unix)]
    carrier: OnceLock<Option<File>>,
}

impl Guard {
    pub(crate) fn new(
        handle: &Arc<Handle>,
        queue: Arc<LockQueue>,
        ticket: Ticket,
        mode: Mode,
    ) -> Self {
        Self {
            handle: Arc::clone(handle),
            queue,
            ticket,
            mode,
            released: false,
            object: OnceLock::new(),
            #[cfg(unix)]
            carrier: OnceLock::new(),
        }
    }

    /// Gives back what was granted by mistake.
    pub(crate) fn undo(mut self) {
        self.released = true;
        self.queue.drop_hold(self.ticket, None);
    }

    /// The path of the lock, as it was opened.
    pub fn path(&self) -> &Path {
        self.handle.path()
    }

    /// The mode in which the lock is held.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Whether the lock is still held: neither lost nor released through a
    /// [`LockFile`](crate::LockFile). A holder that works for long asks before each step that
    /// another holder could spoil. Performs no I/O.
    ///
    /// ```
    /// use locket::{Engine, Mode, Options};
    /// use std::time::Duration;
    ///
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("app.lock");
    /// let options = Options::new().max_hold(Some(Duration::from_secs(60)));
    /// let guard = Engine::new().open_with(path, &options)?.acquire(Mode::Exclusive, None)?;
    /// for step in 0..3 {
    ///     if !guard.is_held() {
    ///         return Err(guard.release().unwrap_err().into());
    ///     }
    ///     // Step by step.
    ///     # let _ = step;
    /// }
    /// guard.release()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn is_held(&self) -> bool {
        !self.handle.context.forked() && self.queue.holds(self.ticket)
    }

    /// Completes when this hold is lost (see [`State::Lost`](crate::State::Lost)), whatever else
    /// this process holds. Never completes for a lock that cannot be lost, nor after the release.
    ///
    /// ```
    /// use locket::{Engine, LostReason, Mode, Options};
    /// use std::time::Duration;
    ///
    /// # async fn job(path: &std::path::Path) -> locket::Result<()> {
    /// let options = Options::new().max_hold(Some(Duration::from_secs(60)));
    /// let lock = Engine::new().open_with(path, &options)?;
    /// let guard = lock.acquire_async(Mode::Exclusive, None).await?;
    /// let reason: LostReason = guard.lost().await;
    /// eprintln!("stop working: {reason}");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no other effect.
    pub fn lost(&self) -> impl Future<Output = LostReason> + Send + use<> + 'static {
        self.handle.lost_hold(Arc::clone(&self.queue), self.ticket)
    }

    /// The fencing token of this hold: larger than that of every earlier exclusive grant of the
    /// lock, by whichever process. A holder sends it along with what it writes, and the store refuses
    /// a token smaller than the largest it has seen. So a holder that has lost the lock without
    /// noticing spoils nothing. A shared hold has the last token or a newer one, and must not use it
    /// for writes. `None` for a lock of a file, unless it was opened with
    /// [`Options::fencing`](crate::Options::fencing). Tokens of different locks, or different
    /// servers, say nothing of each other.
    pub fn token(&self) -> Option<u64> {
        if self.handle.context.forked() {
            return None;
        }
        self.queue.token(self.ticket)
    }

    /// When the hold expires, unless it does not, or has been lost: see
    /// [`Options::max_hold`](crate::Options::max_hold). For a lock on a server that is also the time
    /// until which the server granted it so far.
    pub fn expires_at(&self) -> Option<Instant> {
        if self.handle.context.forked() {
            return None;
        }
        self.queue.expires(self.ticket)
    }

    /// Releases the lock and reports errors. Dropping the guard releases it and ignores errors.
    ///
    /// # Errors
    ///
    /// [Lost](crate::Error::is_lost) if the hold was lost before, or the lock file was removed,
    /// moved or replaced during the hold; [not locked](crate::Error::is_not_locked) if it was
    /// released through a [`LockFile`](crate::LockFile); or an error of the system. A kernel lock
    /// is free in any case. An [existence lock](crate::Protocol::is_existence_lock) may remain if
    /// its entry could not be removed. This engine can then still acquire it; others see a stale
    /// lock once this process ends.
    pub fn release(mut self) -> Result<()> {
        self.released = true;
        self.handle.release(&self.queue, self.ticket)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if !self.released && !self.handle.context.forked() {
            self.queue
                .drop_hold(self.ticket, self.handle.remove().as_ref());
        }
    }
}

/// The descriptor that carries the lock. A child process that inherits it keeps the lock until it
/// is released here or all copies are closed. After the hold is lost, the descriptor carries no
/// lock, or that of the next hold.
///
/// An [existence lock](crate::Protocol::is_existence_lock) is passed on the same way to a child that uses
/// Locket, in the protocols `link`, `mkdir`, `pid-file` and `soft`, unless the file system can
/// neither lock a file before it has a name nor, in the last two, give it an extended attribute.
/// Otherwise the descriptor carries no lock.
#[cfg(unix)]
impl AsFd for Guard {
    fn as_fd(&self) -> BorrowedFd<'_> {
        let object = self.object.get_or_init(|| self.queue.object());
        let carrier = self.carrier.get_or_init(|| object.carrier());
        carrier.as_ref().unwrap_or(&object.file).as_fd()
    }
}

/// The handle that carries the lock, opened for overlapped operations. The lock belongs to the
/// process: a child that inherits the handle does not hold it.
#[cfg(windows)]
impl AsHandle for Guard {
    fn as_handle(&self) -> BorrowedHandle<'_> {
        self.object
            .get_or_init(|| self.queue.object())
            .file
            .as_handle()
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard")
            .field("path", &self.handle.path())
            .field("mode", &self.mode)
            .finish()
    }
}
