//! A claim on a lock: the queue of the server, from its end to the lock.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use super::attempt::{Attempt, Place};
use super::core::Core;
use super::error::Failure;
use super::held::Held;
use super::key::LockKeys;
use super::shared::Shared;
use super::watch::Watch;
use crate::deadline::Deadline;
use crate::error::lost;
use crate::remote::{Changed, Seat, Standing, Stop, unavailable};
use crate::sync::{Mutex, lock};
use crate::types::{LostReason, Mode};

pub(super) struct EtcdSeat {
    // Before the remote, which is to see what is given back.
    held: Mutex<Option<Arc<Held>>>,
    lock: LockKeys,
    changed: Arc<Changed>,
    shared: Arc<Shared>,
}

impl EtcdSeat {
    pub(super) fn new(shared: &Arc<Shared>, lock: LockKeys, changed: &Arc<Changed>) -> Self {
        Self {
            held: Mutex::default(),
            lock,
            changed: Arc::clone(changed),
            shared: Arc::clone(shared),
        }
    }

    fn hold(&self, attempt: Attempt, token: u64, queued: bool) {
        let held = Held::new(attempt, token, queued, Arc::clone(&self.changed));
        *lock(&self.held) = Some(Arc::new(held));
    }
}

impl Seat for EtcdSeat {
    fn try_lock(&self, mode: Mode) -> io::Result<bool> {
        let core = self.shared.core()?;
        let (task, keys) = (Arc::clone(core), self.lock.clone());
        let tried = core.runtime.run(async move {
            let until = task.cluster.request_deadline();
            let tried = bounded(until, try_once(&task, &keys, mode, until)).await;
            tried.map_err(Failure::into_error)
        })?;
        let Some((attempt, token)) = tried else {
            return Ok(false);
        };
        self.hold(attempt, token, false);
        Ok(true)
    }

    fn wait(&self, mode: Mode, deadline: Deadline, stop: &Stop) -> io::Result<()> {
        let core = self.shared.core()?;
        let (task, keys, stopped) = (Arc::clone(core), self.lock.clone(), stop.stopped());
        // Whatever ends the wait drops its attempt, and so deletes its key.
        let (attempt, token) = core.runtime.run(async move {
            tokio::select! {
                biased;
                granted = queue(&task, &keys, mode) => granted.map_err(Failure::into_error),
                () = stopped => Err(io::ErrorKind::Interrupted.into()),
                () = passed(deadline) => Err(io::ErrorKind::TimedOut.into()),
            }
        })?;
        self.hold(attempt, token, true);
        Ok(())
    }

    fn unlock(&self) -> io::Result<()> {
        let core = self.shared.core()?;
        let Some(held) = lock(&self.held).take() else {
            return Ok(());
        };
        if let Standing::Lost(_) = held.standing() {
            return Ok(());
        }
        let until = core.cluster.request_deadline();
        let given_back = async move {
            let given_back = bounded(until, held.give_back(until)).await;
            given_back.map_err(Failure::into_error)
        };
        match core.runtime.run(given_back)? {
            true => Ok(()),
            false => Err(lost(LostReason::Broken)),
        }
    }

    fn renew(&self) -> io::Result<()> {
        let core = self.shared.core()?;
        let until = core.cluster.request_deadline();
        let Some(held) = lock(&self.held).clone() else {
            return Err(io::Error::other("the lock is not held"));
        };
        let renewed = async move {
            let renewed = bounded(until, held.renew(until)).await;
            renewed.map_err(Failure::into_error)
        };
        match core.runtime.run(renewed)? {
            true => Ok(()),
            false => Err(unavailable("the lock was lost")),
        }
    }

    fn standing(&self) -> Standing {
        let held = lock(&self.held);
        held.as_ref().map_or(Standing::Free, |held| held.standing())
    }

    fn token(&self) -> Option<u64> {
        lock(&self.held).as_ref().map(|held| held.token())
    }
}

impl Drop for EtcdSeat {
    fn drop(&mut self) {
        if self.shared.is_forked() {
            // The parent's.
            std::mem::forget(self.held.get_mut().map(Option::take));
        }
    }
}

impl fmt::Debug for EtcdSeat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdSeat")
            .field("lock", &self.lock)
            .field("standing", &self.standing())
            .finish_non_exhaustive()
    }
}

/// Holds the lock at once, or not at all.
async fn try_once(
    core: &Arc<Core>,
    lock: &LockKeys,
    mode: Mode,
    until: Option<Instant>,
) -> Result<Option<(Attempt, u64)>, Failure> {
    loop {
        let session = core.session(until).await?;
        let mut attempt = Attempt::new(core, &session, lock, mode);
        match attempt.try_once(until).await {
            Ok(Place::Holder(token)) if !session.is_lost() => return Ok(Some((attempt, token))),
            Ok(Place::Holder(_)) => {}
            Ok(Place::Behind { .. } | Place::Gone) => return Ok(None),
            Err(Failure::NoLease) => session.give_up(LostReason::Expired),
            Err(e) => return Err(e),
        }
    }
}

/// Waits in the queue. If the lease is lost meanwhile, it begins at the end with a new one.
async fn queue(core: &Arc<Core>, lock: &LockKeys, mode: Mode) -> Result<(Attempt, u64), Failure> {
    // Only at first is a server that cannot be reached an error.
    let mut until = core.cluster.request_deadline();
    loop {
        // Bounded, since others may wait for a server at last, and hold the lease up.
        let session = bounded(until, core.session(until)).await?;
        let mut attempt = Attempt::new(core, &session, lock, mode);
        let place = match attempt.enter(until).await {
            Err(Failure::NoLease) => {
                session.give_up(LostReason::Expired);
                continue;
            }
            place => place?,
        };
        until = None;
        let granted = tokio::select! {
            granted = advance(&attempt, place) => granted?,
            () = session.lost() => None,
        };
        // A grant that comes when the lease may have ended is none.
        if let Some(token) = granted.filter(|_| !session.is_lost()) {
            return Ok((attempt, token));
        }
    }
}

/// Watches the attempt that is next before this one, until there is none. Returns `None` if this
/// one is not in the queue any more.
async fn advance(attempt: &Attempt, mut place: Place) -> Result<Option<u64>, Failure> {
    let mut watch = Watch::default();
    loop {
        place = match place {
            Place::Holder(token) => return Ok(Some(token)),
            Place::Gone => return Ok(None),
            Place::Behind { key, revision } => {
                let keys = [&key[..], &attempt.key];
                let _ = watch
                    .deletion(&attempt.core.cluster, &keys, revision + 1)
                    .await;
                attempt.look(None).await?
            }
        };
    }
}

/// Ends a request even if what it waits for is not the server.
async fn bounded<T>(
    until: Option<Instant>,
    request: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let Some(until) = until else {
        return request.await;
    };
    let late = |_| {
        let why = "the servers do not answer in time";
        Failure::Unknown(io::Error::new(io::ErrorKind::TimedOut, why))
    };
    tokio::time::timeout_at(until.into(), request)
        .await
        .map_err(late)?
}

async fn passed(deadline: Deadline) {
    match deadline {
        Deadline::Now => {}
        Deadline::At(instant) => tokio::time::sleep_until(instant.into()).await,
        Deadline::Never => std::future::pending().await,
    }
}
