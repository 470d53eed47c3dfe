//! What the handles and the tasks of one remote share.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use etcd_client::Client;

use super::cluster::Cluster;
use super::config::Config;
use super::error::Failure;
use super::session::Session;
use crate::remote::{Moment, Runtime};
use crate::sync::{Mutex, lock};
use crate::types::LostReason;

/// The connections to a cluster, and the lease of this process.
pub(super) struct Core {
    pub(super) cluster: Arc<Cluster>,
    pub(super) runtime: Runtime,
    pub(super) root: String,
    pub(super) label: Option<String>,
    pub(super) ttl: Duration,
    request_timeout: Duration,
    /// Held while a lease is granted, so that all who need one wait for the same.
    session: tokio::sync::Mutex<Option<Arc<Session>>>,
    warnings: Mutex<Vec<String>>,
}

impl Core {
    pub(super) fn start(config: Config) -> io::Result<Self> {
        Ok(Self {
            cluster: Arc::new(Cluster::new(&config)),
            runtime: Runtime::start("locket-etcd")?,
            root: config.root,
            label: config.label,
            ttl: config.ttl,
            request_timeout: config.request_timeout,
            session: tokio::sync::Mutex::default(),
            warnings: Mutex::default(),
        })
    }

    /// The lease of this process: the one that it has, or a new one if that is lost. Cancel safe: a
    /// lease that is granted to no one ends by itself, without a key on it.
    pub(super) async fn session(
        self: &Arc<Self>,
        until: Option<Instant>,
    ) -> Result<Arc<Session>, Failure> {
        let mut session = self.session.lock().await;
        if let Some(session) = session.as_ref().filter(|session| !session.is_lost()) {
            return Ok(Arc::clone(session));
        }
        let ttl = i64::try_from(self.ttl.as_secs()).unwrap_or(i64::MAX);
        let grant = |client: Client| async move {
            let sent = Moment::now();
            let lease = client.lease_client().grant(ttl, None).await?;
            self.cluster.check(lease.header())?;
            Ok((lease, sent))
        };
        let (lease, sent) = self.cluster.ask(until, grant).await?;
        // The server may have a larger least.
        let ttl = Duration::from_secs(lease.ttl().unsigned_abs());
        let new = Arc::new(Session::new(lease.id(), ttl, sent));
        let (cluster, runtime) = (Arc::clone(&self.cluster), self.runtime.clone());
        let life = Arc::clone(&new);
        self.runtime.spawn(async move {
            life.live(&cluster).await;
            // The thread does not end before the lease is given back.
            drop(runtime);
        });
        if session.is_none() {
            let core = Arc::downgrade(self);
            let cluster = Arc::clone(&self.cluster);
            self.runtime.spawn(async move {
                let mut warnings = cluster.strangers().await;
                warnings.extend(version_warning(&cluster).await);
                if let Some(core) = core.upgrade() {
                    lock(&core.warnings).extend(warnings);
                }
            });
        }
        *session = Some(Arc::clone(&new));
        Ok(new)
    }

    /// Gives the lease back, and all keys with it. Waits for the server for a moment.
    pub(super) fn end(&self) {
        // It is held only within calls of handles, of which there are none any more.
        let Some(session) = self.session.try_lock().ok().and_then(|mut s| s.take()) else {
            return;
        };
        session.give_up(LostReason::Expired);
        if self.runtime.is_current() {
            return;
        }
        let limit = self.request_timeout.min(super::FAREWELL);
        let ended = async move { Ok(tokio::time::timeout(limit, session.ended()).await) };
        let _ = self.runtime.run(ended);
    }

    /// What the user should know of the cluster.
    pub(super) fn warnings(&self) -> Vec<String> {
        lock(&self.warnings).clone()
    }
}

/// Up to 3.4, `etcdctl lock` does not look whether its lease has ended while it waited, and then
/// holds the lock beside its next holder. The server's version is the hint at hand.
async fn version_warning(cluster: &Cluster) -> Option<String> {
    let until = cluster.request_deadline();
    let status = |client: Client| async move { client.maintenance_client().status().await };
    let status = cluster.ask(until, status).await.ok()?;
    let version = status.version();
    let mut parts = version
        .split('.')
        .map_while(|part| part.parse::<u32>().ok());
    let (major, minor) = (parts.next()?, parts.next()?);
    ((major, minor) < (3, 5)).then(|| {
        format!(
            "the server has version {version}: `etcdctl lock` of versions before 3.5 can hold a \
             lock at the same time as its next holder"
        )
    })
}
