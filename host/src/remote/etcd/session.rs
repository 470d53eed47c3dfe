//! The lease that all keys of a process hang on.
//!
//! ```text
//!  lease granted, or a renewal sent                        2/3          9/10          10/10
//!  |-------- renewed every third of the time --------------|-------------|-------------|--> time
//!  | held                                                  | uncertain   | lost        | server
//!                                                                                        deletes
//! ```
//!
//! The time counts from when a request was *sent*, which is before the server began to count, and
//! on the clock that also runs while the system is suspended. A lease that was lost stays lost,
//! whatever the server answers later: it is given back, and the next attempt begins with a new one.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use etcd_client::{Client, LeaseTimeToLiveOptions};
use tokio::sync::watch;

use super::cluster::Cluster;
use super::error::Failure;
use super::pause;
use crate::remote::{Moment, timer};
use crate::sync::{Mutex, lock};
use crate::types::LostReason;

/// How long copies of a request are looked for of which the fate is unknown. A server that was
/// stopped with one in its buffer carries it out when it continues.
const DOUBT: Duration = Duration::from_secs(600);

/// What is known of a lease.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Health {
    Certain,
    Uncertain,
    Lost(LostReason),
}

/// A lease, and what hangs on it.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) lease: i64,
    ttl: Duration,
    state: Mutex<State>,
    health: watch::Sender<Health>,
    /// Whether the server has confirmed the end of the lease, or it has ended by itself.
    ended: watch::Sender<bool>,
    attempts: AtomicU64,
}

#[derive(Debug)]
struct State {
    /// When the last request was sent by which the server prolonged the lease.
    renewed: Moment,
    /// Whether a renewal has failed since.
    failing: bool,
    lost: Option<LostReason>,
    /// The keys that may be on the server.
    keys: HashSet<Vec<u8>>,
    doubt: Option<Moment>,
}

impl Session {
    /// A lease of which the grant was asked for at `sent`.
    pub(super) fn new(lease: i64, ttl: Duration, sent: Moment) -> Self {
        Self {
            lease,
            ttl,
            state: Mutex::new(State {
                renewed: sent,
                failing: false,
                lost: None,
                keys: HashSet::new(),
                doubt: None,
            }),
            health: watch::Sender::new(Health::Certain),
            ended: watch::Sender::new(false),
            attempts: AtomicU64::new(0),
        }
    }

    /// How long a renewal lasts. The rest of the lease's time is for clocks that run at different
    /// speeds.
    fn lifetime(&self) -> Duration {
        self.ttl - self.ttl / 10
    }

    fn interval(&self) -> Duration {
        self.ttl / 3
    }

    /// Reads the clock. The time is what is left until the lease counts as lost.
    pub(super) fn health(&self) -> (Health, Duration) {
        let mut state = lock(&self.state);
        let left = state.renewed.after(self.lifetime()).left();
        if left.is_zero() && state.lost.is_none() {
            // Without a failure, this process was stopped for that long.
            state.lost = Some(match state.failing {
                true => LostReason::Disconnected,
                false => LostReason::Expired,
            });
        }
        let overdue = state.renewed.after(self.interval() * 2).has_passed();
        let health = match state.lost {
            Some(reason) => Health::Lost(reason),
            None if overdue => Health::Uncertain,
            None => Health::Certain,
        };
        // Under the mutex, so that no later view is overwritten by this one.
        self.health.send_if_modified(|told| {
            let changed = *told != health;
            *told = health;
            changed
        });
        (health, left)
    }

    pub(super) fn is_lost(&self) -> bool {
        matches!(self.health().0, Health::Lost(_))
    }

    /// Changes with the health.
    pub(super) fn watch_health(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }

    /// Completes when the lease is lost.
    pub(super) async fn lost(&self) {
        let lost = |health: &Health| matches!(health, Health::Lost(_));
        let _ = self.health.subscribe().wait_for(lost).await;
    }

    /// The server has prolonged the lease by the request that was sent at `sent`.
    fn renewed(&self, sent: Moment) {
        // A loss that was due before the answer came may have been told already.
        if self.is_lost() {
            return;
        }
        let mut state = lock(&self.state);
        state.renewed = state.renewed.max(sent);
        state.failing = false;
        drop(state);
        self.health();
    }

    /// The lease is not to be used any more.
    pub(super) fn give_up(&self, reason: LostReason) {
        lock(&self.state).lost.get_or_insert(reason);
        self.health();
    }

    /// The number of the next attempt.
    pub(super) fn next_attempt(&self) -> u64 {
        self.attempts.fetch_add(1, Ordering::Relaxed)
    }

    /// The key may be on the server from here on.
    pub(super) fn add(&self, key: &[u8]) {
        lock(&self.state).keys.insert(key.to_vec());
    }

    /// The server has confirmed that the key is gone.
    pub(super) fn remove(&self, key: &[u8]) {
        lock(&self.state).keys.remove(key);
    }

    /// A copy of a request that adds a key may still be carried out, even after the key was
    /// deleted.
    pub(super) fn doubt(&self) {
        lock(&self.state).doubt = Some(Moment::now().after(DOUBT));
    }

    /// Completes when the server has confirmed the end of the lease, or it has ended by itself.
    pub(super) async fn ended(&self) {
        let _ = self.ended.subscribe().wait_for(|ended| *ended).await;
    }

    /// Lives as long as the lease. **The only place that renews it and gives it back**: the
    /// renewals have ended before it is given back, so that none can keep it alive after that, with
    /// keys on it that no one looks after.
    pub(super) async fn live(&self, cluster: &Cluster) {
        tokio::select! {
            () = self.keep_alive(cluster) => {}
            () = self.watch_the_clock() => {}
            () = self.sweep(cluster) => {}
            () = self.lost() => {}
        }
        let lease = self.lease;
        let revoke = cluster.ask(None, |client| async move {
            client.lease_client().revoke(lease).await
        });
        // It ends by itself if no server can be reached; later than its time if leaders change.
        let _ = tokio::time::timeout(self.ttl * 3, revoke).await;
        self.ended.send_replace(true);
    }

    /// Renews the lease until that is refused.
    async fn keep_alive(&self, cluster: &Cluster) {
        loop {
            let renewed = lock(&self.state).renewed;
            timer::at(renewed.after(self.interval())).await;
            let sent = Moment::now();
            let lease = self.lease;
            let renewal = cluster.once(self.ttl / 6, |client| async move {
                client.lease_client().keep_alive(lease).await
            });
            match renewal.await {
                Ok(_) => self.renewed(sent),
                Err(Failure::NoLease) => return self.give_up(LostReason::Expired),
                Err(Failure::Refused(_) | Failure::Unknown(_)) => {
                    lock(&self.state).failing = true;
                    let soon = self.ttl / 40;
                    tokio::time::sleep(pause::between(soon, soon * 2)).await;
                }
            }
        }
    }

    /// Tells changes of the health that no answer brings about.
    async fn watch_the_clock(&self) {
        loop {
            let renewed = lock(&self.state).renewed;
            timer::at(match self.health().0 {
                Health::Certain => renewed.after(self.interval() * 2),
                Health::Uncertain => renewed.after(self.lifetime()),
                Health::Lost(_) => return,
            })
            .await;
        }
    }

    /// Deletes keys that no attempt knows of: late copies of requests. Such a key would keep every
    /// one out for as long as the lease is renewed.
    async fn sweep(&self, cluster: &Cluster) {
        loop {
            timer::at(Moment::now().after(self.interval())).await;
            let in_doubt = |until: Moment| !until.has_passed();
            if !lock(&self.state).doubt.is_some_and(in_doubt) {
                continue;
            }
            let lease = self.lease;
            let keys = |client: Client| async move {
                let mut client = client.lease_client();
                let keys = LeaseTimeToLiveOptions::new().with_keys();
                client.time_to_live(lease, Some(keys)).await
            };
            let Ok(found) = cluster.once(self.interval(), keys).await else {
                continue;
            };
            for key in found.keys() {
                // Looked up after the server listed it: a key is added here before it is there.
                if lock(&self.state).keys.contains(key) {
                    continue;
                }
                let key = key.to_vec();
                let delete = |mut client: Client| async move { client.delete(key, None).await };
                let _ = cluster.once(self.interval(), delete).await;
            }
        }
    }
}
