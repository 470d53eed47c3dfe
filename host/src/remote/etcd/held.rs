//! A lock that is held.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use etcd_client::Client;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::attempt::Attempt;
use super::error::Failure;
use super::session::Health;
use super::watch::{Ended, Watch};
use crate::remote::{Changed, Grant, Standing};
use crate::types::LostReason;

/// Holds that are shorter cost no watch. What happens to the key meanwhile is told when it begins.
const SHORT: Duration = Duration::from_millis(50);
/// How long a lock is held before it is written down since when.
const LONG: Duration = Duration::from_secs(1);

/// A lock that is held. Dropping it gives it back in the background.
pub(super) struct Held {
    attempt: Arc<Attempt>,
    token: AtomicU64,
    broken: Arc<AtomicBool>,
    guard: JoinHandle<()>,
}

impl Held {
    /// Begins to look after the lock.
    pub(super) fn new(attempt: Attempt, token: u64, queued: bool, changed: Arc<Changed>) -> Self {
        let attempt = Arc::new(attempt);
        let broken = Arc::new(AtomicBool::new(false));
        let guard = look_after(Arc::clone(&attempt), queued, Arc::clone(&broken), changed);
        let guard = attempt.core.runtime.spawn(guard);
        Self {
            attempt,
            token: AtomicU64::new(token),
            broken,
            guard,
        }
    }

    pub(super) fn standing(&self) -> Standing {
        if self.broken.load(Ordering::Acquire) {
            return Standing::Lost(LostReason::Broken);
        }
        match self.attempt.session.health() {
            (Health::Certain, left) => Standing::Held(Grant {
                token: Some(self.token()),
                valid_for: Some(left),
            }),
            (Health::Uncertain, left) => Standing::Uncertain(left),
            (Health::Lost(reason), _) => Standing::Lost(reason),
        }
    }

    pub(super) fn token(&self) -> u64 {
        self.token.load(Ordering::Acquire)
    }

    /// Takes a new token. Returns `false` if the lock is lost.
    pub(super) async fn renew(&self, until: Option<Instant>) -> Result<bool, Failure> {
        match self.attempt.sign(until).await {
            Ok(Some(token)) => _ = self.token.fetch_max(token, Ordering::AcqRel),
            Ok(None) => self
                .broken
                .store(!self.attempt.session.is_lost(), Ordering::Release),
            Err(Failure::NoLease) => self.attempt.session.give_up(LostReason::Expired),
            Err(e) => return Err(e),
        }
        Ok(matches!(self.standing(), Standing::Held(_)))
    }

    /// Gives the lock back. Returns `false` if the server did not have it as held any more, unless
    /// that was known. If it fails, dropping it tries again.
    pub(super) async fn give_back(&self, until: Option<Instant>) -> Result<bool, Failure> {
        // Its own deletion is not to be taken for a loss.
        self.guard.abort();
        if let Standing::Lost(_) = self.standing() {
            return Ok(true);
        }
        self.attempt.delete(until).await
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.guard.abort();
    }
}

/// Tells what becomes of a lock that is held.
async fn look_after(
    attempt: Arc<Attempt>,
    queued: bool,
    broken: Arc<AtomicBool>,
    changed: Arc<Changed>,
) {
    let mut health = attempt.session.watch_health();
    // It may have changed since the lock was granted.
    health.mark_changed();
    let told = async {
        while health.changed().await.is_ok() {
            let now = *health.borrow_and_update();
            changed.tell();
            if let Health::Lost(_) = now {
                return;
            }
        }
    };
    let signed = async {
        if queued {
            sleep(LONG).await;
            // For the curious. A loss is found by others.
            let _ = attempt.sign(None).await;
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = told => {}
        () = signed => {}
        () = until_deleted(&attempt) => {
            // By the server, if the clock says that the lease has ended.
            broken.store(!attempt.session.is_lost(), Ordering::Release);
            changed.tell();
        }
    }
}

/// Completes when the key is deleted. **The lease does not tell that**: servers have confirmed the
/// renewal of leases that did not exist any more.
async fn until_deleted(attempt: &Attempt) {
    sleep(SHORT).await;
    let mut watch = Watch::default();
    let cluster = &attempt.core.cluster;
    let mut from = attempt.created + 1;
    while watch.deletion(cluster, &[&attempt.key], from).await == Ended::Look {
        let get = |mut client: Client| {
            let key = attempt.key.clone();
            async move { client.get(key, None).await }
        };
        let Ok(mut answer) = cluster.ask(None, get).await else {
            continue;
        };
        let is_own = |key: &etcd_client::KeyValue| key.create_revision() == attempt.created;
        if !answer.kvs().iter().any(is_own) {
            return;
        }
        from = answer
            .take_header()
            .map_or(from, |header| header.revision() + 1);
    }
}
