//! Locks on an etcd cluster.
//!
//! A superset of `etcdctl lock`, which can hold and await the same locks. A key below the name of
//! the lock stands for each attempt, and the revision at which it was added for its place in the
//! queue:
//!
//! ```text
//! etcdctl lock /locks/a     →  /locks/a/694d7f…        exclusive, key of the lease
//! a process with lease 33f  →  /locks/a/33f.0          exclusive, its attempt 0
//! the same one              →  /locks/a/r33f.1         shared, its attempt 1
//!
//! exclusive: holds the lock if no older key is there
//! shared:    holds the lock if no older key of an exclusive attempt is there
//! otherwise: watches the newest of those that are in the way, and looks again when it is deleted
//! ```
//!
//! So grants follow the order of arrival, a release wakes one waiter, and readers do not overtake a
//! writer that waits. `try` adds its key only if that makes it the holder.
//!
//! # What this rests on
//!
//! Each rule is kept in one place.
//! - All keys hang on one lease, which one task renews ([`session`]). It counts as lost before the
//!   server can end it.
//! - A request that was not answered may have been carried out, and may still be. So each is safe
//!   to repeat, and is repeated ([`cluster`]). A key that is not needed is deleted until the server
//!   confirms it ([`attempt`]), and copies that arrive after that are swept away ([`session`]).
//! - One look leads from the queue to the lock: it finds that no one is before the attempt, and
//!   that the attempt's own key is there ([`attempt`]).
//! - The token is the revision of the store at the grant. It grows from holder to holder, among all
//!   clients.
//! - The holder watches its own key. Neither a watch nor a renewal is trusted alone ([`held`]).
//! - A lease that is given up is not renewed any more, and is then revoked ([`session`]).

mod attempt;
mod cluster;
mod config;
mod core;
mod error;
mod held;
mod key;
mod pause;
mod seat;
mod session;
mod shared;
#[cfg(test)]
mod tests;
mod value;
mod watch;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use etcd_client::{
    Client, Compare, CompareOp, GetOptions, KeyValue, SortOrder, SortTarget, Txn, TxnOp,
};

use self::config::Config;
use self::core::Core;
use self::error::Failure;
use self::key::LockKeys;
use self::seat::EtcdSeat;
use self::shared::Shared;
use super::{Changed, Seat, Server, Settings};
use crate::types::{ForeignHolder, Guarantee, Mode, Scope};

/// How long the end of a remote waits for the server, at most. Without an answer the lease ends
/// when its time is over.
const FAREWELL: Duration = Duration::from_secs(1);
/// How many keys of a lock are read at once to find those who hold it.
const PAGE: i64 = 128;

/// An etcd cluster that keeps locks.
pub(crate) struct Etcd {
    url: String,
    guarantee: Guarantee,
    shared: Arc<Shared>,
}

impl Etcd {
    /// Reads the URL and the files of certificates. Does not connect.
    pub(crate) fn new(url: &str, settings: &Settings) -> io::Result<Self> {
        let config = Config::new(url, settings)?;
        let guarantee = Guarantee {
            scope: Scope::Cluster,
            ttl: Some(config.ttl),
            fifo: true,
            fencing: true,
        };
        Ok(Self {
            url: url.to_owned(),
            guarantee,
            shared: Arc::new(Shared::new(Core::start(config)?)),
        })
    }
}

impl Server for Etcd {
    fn guarantee(&self) -> Guarantee {
        self.guarantee
    }

    fn check_name(&self, name: &str) -> io::Result<()> {
        key::check_name(name)
    }

    fn seat(&self, name: &str, changed: &Arc<Changed>) -> Arc<dyn Seat> {
        let root = self.shared.core().map_or("", |core| &core.root);
        let lock = LockKeys::new(root, name);
        Arc::new(EtcdSeat::new(&self.shared, lock, changed))
    }

    fn holder(&self, name: &str) -> io::Result<Option<ForeignHolder>> {
        let core = self.shared.core()?;
        let lock = LockKeys::new(&core.root, name);
        let task = Arc::clone(core);
        core.runtime.run(async move {
            let holders = holders(&task, &lock).await;
            let holders = holders.map_err(Failure::into_error)?;
            Ok(holders.first().map(|key| {
                let (label, since) = value::decode(key.value());
                ForeignHolder {
                    label,
                    since,
                    elsewhere: true,
                    ..ForeignHolder::new(lock.mode(key.key()))
                }
            }))
        })
    }

    fn break_lock(&self, name: &str) -> io::Result<bool> {
        let core = self.shared.core()?;
        let lock = LockKeys::new(&core.root, name);
        let task = Arc::clone(core);
        core.runtime.run(async move {
            let broken = break_lock(&task, &lock).await;
            broken.map_err(Failure::into_error)
        })
    }

    fn warnings(&self) -> Vec<String> {
        self.shared
            .core()
            .map_or_else(|_| Vec::new(), |core| core.warnings())
    }
}

impl fmt::Debug for Etcd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Etcd")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

/// The keys of those who hold the lock: the oldest one, and if it is shared, those that share it. As
/// many keys are read as it takes: any number of locks with a deeper name can be older, and any
/// number can share it.
async fn holders(core: &Core, lock: &LockKeys) -> Result<Vec<KeyValue>, Failure> {
    let mut holders: Vec<KeyValue> = Vec::new();
    let mut from = 0;
    loop {
        let (page, more) = oldest(core, lock, from).await?;
        // A request adds one key, so no other has the revision of the last one.
        from = page.last().map_or(0, KeyValue::create_revision) + 1;
        for key in page.into_iter().filter(|key| !lock.is_deeper(key.key())) {
            let shares = lock.mode(key.key()) == Mode::Shared;
            if shares || holders.is_empty() {
                holders.push(key);
            }
            if !shares {
                return Ok(holders);
            }
        }
        if !more {
            return Ok(holders);
        }
    }
}

/// The oldest keys that were added at revision `from` or later, and whether there are more.
async fn oldest(core: &Core, lock: &LockKeys, from: i64) -> Result<(Vec<KeyValue>, bool), Failure> {
    let (start, end) = lock.all();
    let until = core.cluster.request_deadline();
    let get = |mut client: Client| {
        let oldest = GetOptions::new()
            .with_range(end.clone())
            .with_sort(SortTarget::Create, SortOrder::Ascend)
            .with_min_create_revision(from)
            .with_limit(PAGE);
        let start = start.clone();
        async move { client.get(start, Some(oldest)).await }
    };
    let mut answer = core.cluster.ask(until, get).await?;
    let more = answer.more();
    Ok((answer.take_kvs(), more))
}

/// Deletes the keys of the holders, if they are still the ones that were seen.
async fn break_lock(core: &Core, lock: &LockKeys) -> Result<bool, Failure> {
    let holders = holders(core, lock).await?;
    for holder in &holders {
        let seen = holder.create_revision();
        let delete = |mut client: Client| {
            let key = holder.key().to_vec();
            let txn = Txn::new()
                .when([Compare::create_revision(
                    key.clone(),
                    CompareOp::Equal,
                    seen,
                )])
                .and_then([TxnOp::delete(key, None)]);
            async move { client.txn(txn).await }
        };
        let until = core.cluster.request_deadline();
        // If it does not succeed, the holder has gone.
        core.cluster.ask(until, delete).await?;
    }
    Ok(!holders.is_empty())
}
