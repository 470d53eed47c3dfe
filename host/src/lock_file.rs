//! The handle on a lock that a program opens.

use std::fmt;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::acquire::{Acquire, AcquireState, Suspends, acquire_now};
use crate::deadline::Deadline;
use crate::error::{ErrorKind, Result};
use crate::guard::Guard;
use crate::handle::Handle;
use crate::protocol::Protocol;
use crate::types::{Guarantee, Holder, LostReason, Mode, Scope, State};

/// A handle on the lock of one file.
///
/// All handles that a process opens on one file through one [`Engine`](crate::Engine) are one lock:
/// any of them may [`release`](Self::release) what another acquired, from any thread. Clones are
/// the same handle. Dropping a handle releases nothing; dropping a [`Guard`] does.
#[derive(Clone)]
pub struct LockFile {
    pub(crate) handle: Arc<Handle>,
}

impl LockFile {
    /// The path, as it was opened.
    pub fn path(&self) -> &Path {
        self.handle.path()
    }

    /// The protocol in use.
    pub fn protocol(&self) -> Protocol {
        self.handle.options.protocol
    }

    /// Acquires the lock. If it is not free, waits for its turn for at most `timeout`. `None` waits
    /// indefinitely; zero tries once. The timeout covers the whole call and is measured on the
    /// monotonic clock. The wait blocks the calling thread and uses no processor time.
    ///
    /// The lock does not know which thread asks: a thread that waits for a lock that it holds
    /// itself waits until another thread releases it.
    ///
    /// ```
    /// use locket::{LockFile, Mode};
    /// use std::time::Duration;
    ///
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("app.lock");
    /// let lock = LockFile::open(path)?;
    /// match lock.acquire(Mode::Exclusive, Duration::from_secs(5)) {
    ///     Ok(guard) => guard.release()?,
    ///     Err(e) if e.is_timeout() => eprintln!("another holder has it: {e}"),
    ///     Err(e) => return Err(e.into()),
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [Would block](crate::Error::is_would_block) with a timeout of zero, otherwise
    /// [timeout](crate::Error::is_timeout); [canceled](crate::Error::is_canceled);
    /// [denied](crate::Error::is_denied) for an exclusive lock of a file that may only be read;
    /// [lost](crate::Error::is_lost) if the hold expired, or was revoked, before the caller learned
    /// of the grant; and the errors of [`Engine::open`](crate::Engine::open) if the file has been
    /// removed in the meantime.
    pub fn acquire(&self, mode: Mode, timeout: impl Into<Option<Duration>>) -> Result<Guard> {
        let began = self.handle.cancellations();
        self.acquire_as(mode, timeout.into(), Suspends::Nothing, began, || {})
    }

    /// Tries once; returns `None` if the lock is held. A wait that is canceled just as it is
    /// granted can hold the lock for a few microseconds.
    ///
    /// ```
    /// use locket::{LockFile, Mode};
    ///
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("app.lock");
    /// let lock = LockFile::open(path)?;
    /// let first = lock.try_acquire(Mode::Shared)?.expect("no program has locked it");
    /// let second = lock.try_acquire(Mode::Shared)?.expect("readers share it");
    /// assert!(lock.try_acquire(Mode::Exclusive)?.is_none());
    /// # drop((first, second));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`acquire`](Self::acquire), except that it does not wait.
    pub fn try_acquire(&self, mode: Mode) -> Result<Option<Guard>> {
        match self.acquire(mode, Duration::ZERO) {
            Ok(guard) => Ok(Some(guard)),
            Err(e) if e.is_would_block() => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Like [`acquire`](Self::acquire), for tasks. It works in any runtime, and the thread that polls
    /// it never waits for another holder. The first poll makes one try. For an existence lock that
    /// reads a directory, or a database whose other transactions it waits for at most 20 ms. On a
    /// file system not known to be local, or on a server, a thread of the engine makes the try, which
    /// is answered within the [request timeout](crate::RemoteBuilder::request_timeout) of the server.
    ///
    /// ```
    /// use locket::{LockFile, Mode};
    /// use std::time::Duration;
    ///
    /// async fn run_alone(lock: &LockFile) -> locket::Result<()> {
    ///     let guard = lock.acquire_async(Mode::Exclusive, Duration::from_secs(5)).await?;
    ///     // This task runs alone.
    ///     guard.release()
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`acquire`](Self::acquire).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the place in the queue and leaves nothing behind. If the lock
    /// has just been granted, it goes to the next waiter. A try under way at that moment may still
    /// take it, and gives it back.
    pub fn acquire_async(&self, mode: Mode, timeout: impl Into<Option<Duration>>) -> Acquire {
        let began = self.handle.cancellations();
        let deadline = Deadline::after(timeout.into());
        Acquire::new(&self.handle, mode, deadline, Suspends::Nothing, began)
    }

    /// Acquires on the calling thread. `began` are the handle's cancellations when it began to.
    pub(crate) fn acquire_as(
        &self,
        mode: Mode,
        timeout: Option<Duration>,
        meanwhile: Suspends,
        began: u64,
        waiting: impl FnOnce(),
    ) -> Result<Guard> {
        let handle = &self.handle;
        if let Some(result) = acquire_now(handle, mode, timeout != Some(Duration::ZERO)) {
            return result;
        }
        let deadline = Deadline::after(timeout);
        AcquireState::new(handle, mode, deadline, meanwhile, began, true).block(handle, waiting)
    }

    /// Runs `body` with the lock held exclusively, and releases it however `body` ends.
    ///
    /// ```
    /// use locket::LockFile;
    ///
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("count");
    /// # std::fs::write(&path, "41")?;
    /// let lock = LockFile::open(&path)?;
    /// let count = lock.with_lock(None, || -> std::io::Result<i32> {
    ///     let count: i32 = std::fs::read_to_string(&path)?.parse().unwrap_or(0);
    ///     std::fs::write(&path, (count + 1).to_string())?;
    ///     Ok(count + 1)
    /// })??;
    /// assert_eq!(count, 42);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`acquire`](Self::acquire), before `body` runs, and those of [`Guard::release`],
    /// after it has run.
    pub fn with_lock<R>(
        &self,
        timeout: impl Into<Option<Duration>>,
        body: impl FnOnce() -> R,
    ) -> Result<R> {
        let guard = self.acquire(Mode::Exclusive, timeout)?;
        let result = body();
        guard.release()?;
        Ok(result)
    }

    /// Releases one hold of this process on this file: one that was acquired through this handle if
    /// there is one, otherwise any. The corresponding guard no longer holds anything.
    ///
    /// # Errors
    ///
    /// [Not locked](crate::Error::is_not_locked) if the lock is free, [not
    /// owner](crate::Error::is_not_owner) if another process or guest holds it,
    /// [lost](crate::Error::is_lost) if the hold was lost before, or the lock file was removed,
    /// moved or replaced during the hold.
    pub fn release(&self) -> Result<()> {
        let handle = &self.handle;
        handle.refuse_forked()?;
        let queue = handle.queue();
        match queue.find(handle.requester()) {
            Some(ticket) => handle.release(&queue, ticket),
            // What is being given back has no owner any more.
            None if !queue.is_releasing() && self.is_locked()? => {
                Err(handle.error(ErrorKind::NotOwner))
            }
            None => Err(handle.error(ErrorKind::NotLocked)),
        }
    }

    /// Whether the lock is held, by this process or another. On Windows, and if no process uses
    /// record locks on the file, this has to try the lock for a moment, and can make another
    /// program's try fail in that moment.
    ///
    /// # Errors
    ///
    /// Those of the system, with [`is_io`](crate::Error::is_io); and [invalid
    /// path](crate::Error::is_invalid_path) if something other than a lock has the lock's name.
    pub fn is_locked(&self) -> Result<bool> {
        Ok(self.holder()?.is_some())
    }

    /// One of the holders of the lock; the caller itself if it is one of them.
    ///
    /// ```
    /// use locket::{LockFile, Mode};
    ///
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("app.lock");
    /// let lock = LockFile::open(path)?;
    /// assert_eq!(lock.holder()?, None);
    /// let guard = lock.acquire(Mode::Exclusive, None)?;
    /// let holder = lock.holder()?.expect("it is held");
    /// assert!(holder.is_self);
    /// assert_eq!(holder.pid, Some(std::process::id()));
    /// # drop(guard);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`is_locked`](Self::is_locked).
    pub fn holder(&self) -> Result<Option<Holder>> {
        self.find_holder(true)
    }

    /// With the label of a holder elsewhere only if `all`: it may name processes and hosts, which a
    /// guest must not see.
    pub(crate) fn find_holder(&self, all: bool) -> Result<Option<Holder>> {
        let handle = &self.handle;
        let Some(queue) = handle.current()? else {
            return Ok(None);
        };
        let me = handle.requester().owner;
        let holder = queue.holder(me, handle.options.protocol);
        Ok(holder.map_err(|e| handle.os(e))?.map(|holder| Holder {
            label: holder
                .owner
                .and_then(|owner| handle.context.registry.profile(owner)?.label.clone())
                .or(holder.found.label.filter(|_| all)),
            is_self: holder.owner == Some(me),
            mode: holder.found.mode,
            pid: holder.found.pid,
            host: holder.found.host,
            elsewhere: holder.found.elsewhere,
            since: holder.found.since,
        }))
    }

    /// The state of this process's own hold on the file. Performs no I/O.
    ///
    /// ```
    /// use locket::{LockFile, Mode, State};
    ///
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("app.lock");
    /// let lock = LockFile::open(path)?;
    /// assert_eq!(lock.state(), State::Unlocked);
    /// let _guard = lock.acquire(Mode::Shared, None)?;
    /// assert_eq!(lock.state(), State::Held);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn state(&self) -> State {
        if self.handle.context.forked() {
            return State::Unlocked;
        }
        let owner = self.handle.requester().owner;
        self.handle.queue().standing(owner)
    }

    /// The guarantees that this lock provides.
    pub fn guarantee(&self) -> Guarantee {
        #[cfg(feature = "remote")]
        if let Some(remote) = self.handle.remote() {
            let fifo = !self.handle.context.services.fair_shares;
            let all = remote.guarantee();
            let ttl = all
                .ttl
                .into_iter()
                .chain(self.handle.options.max_hold)
                .min();
            let fifo = fifo && all.fifo;
            return Guarantee { ttl, fifo, ..all };
        }
        let network = self.handle.queue().network;
        Guarantee {
            scope: match network {
                true => Scope::ClusterFileSystem,
                false => Scope::Host,
            },
            ttl: self.handle.options.max_hold,
            fifo: !self.handle.options.protocol.is_existence_lock()
                && !self.handle.context.services.fair_shares,
            fencing: self.handle.options.fencing,
        }
    }

    /// Whether `guard` is a hold on the file that this handle is open on.
    #[cfg(feature = "sandbox")]
    pub(crate) fn is_held_by(&self, guard: &Guard) -> bool {
        Arc::ptr_eq(&guard.queue, &self.handle.queue())
    }

    /// Cancels every wait through this handle, in any thread or task: each fails with
    /// [canceled](crate::Error::is_canceled). Later acquires are not affected.
    ///
    /// ```
    /// use locket::{Engine, Mode};
    ///
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("app.lock");
    /// let engine = Engine::new();
    /// let guard = engine.open(&path)?.acquire(Mode::Exclusive, None)?;
    /// let lock = engine.open(&path)?;
    /// std::thread::scope(|scope| {
    ///     let waiter = scope.spawn(|| lock.acquire(Mode::Exclusive, None));
    ///     while !waiter.is_finished() {
    ///         lock.cancel_waits();
    ///     }
    ///     assert!(waiter.join().unwrap().unwrap_err().is_canceled());
    /// });
    /// # drop(guard);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn cancel_waits(&self) {
        let number = self.handle.number;
        self.handle
            .revoke(None, |requester| requester.handle == number);
    }

    /// Revokes every hold that was acquired through this handle, and cancels its waits.
    #[cfg(feature = "sandbox")]
    pub(crate) fn revoke(&self) {
        let number = self.handle.number;
        self.handle.revoke(Some(LostReason::Broken), |requester| {
            requester.handle == number
        });
    }

    /// Takes the lock away from its holders. Holders in this engine see [`State::Lost`]. So do
    /// holders of an [existence lock](Protocol::is_existence_lock) in other processes that use
    /// Locket. Nothing checks whether the holders are dead: call this only if you know that no
    /// program relies on the lock any more.
    ///
    /// # Errors
    ///
    /// [Not locked](crate::Error::is_not_locked) if the lock is free;
    /// [unsupported](crate::Error::is_unsupported) if another process holds a kernel lock, which
    /// never becomes stale, since the kernel frees it when that process ends; [invalid
    /// path](crate::Error::is_invalid_path) for something that is not a lock of this protocol, or
    /// contains more than a lock does. Nothing is removed in that case.
    pub fn break_lock(&self) -> Result<()> {
        if self.break_if(false)? {
            Ok(())
        } else {
            Err(self.handle.error(ErrorKind::NotLocked))
        }
    }

    /// Returns `false` if the lock is free; with `require_owner`, also if it does not name its
    /// holder.
    pub(crate) fn break_if(&self, require_owner: bool) -> Result<bool> {
        let handle = &self.handle;
        let Some(queue) = handle.current()? else {
            return Ok(false);
        };
        let broken = queue.break_lock(handle.options.protocol, require_owner);
        broken.map_err(|e| handle.os(e))
    }

    /// Completes when this process loses a hold on the file (see [`State::Lost`]). Never completes
    /// for a lock that cannot be lost. [`Guard::lost`] is about one hold alone.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no other effect.
    pub fn lost(&self) -> impl Future<Output = LostReason> + Send + use<> + 'static {
        self.handle.lost(self.handle.requester().owner)
    }
}

impl fmt::Debug for LockFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.handle.fmt(f)
    }
}
