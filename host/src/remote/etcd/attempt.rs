//! One attempt to hold a lock: its key, and the requests that decide about it.
//!
//! Each is safe to repeat, since no other attempt has the same key.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Instant, SystemTime};

use etcd_client::{
    Client, Compare, CompareOp, GetOptions, KeyValue, PutOptions, ResponseHeader, SortOrder,
    SortTarget, Txn, TxnOp, TxnOpResponse, TxnResponse,
};

use super::core::Core;
use super::error::Failure;
use super::key::LockKeys;
use super::session::Session;
use super::{pause::Pause, value};
use crate::types::Mode;

/// Where an attempt is in the queue of a lock.
#[derive(Debug)]
pub(super) enum Place {
    /// It holds the lock, with this token.
    Holder(u64),
    /// It is behind another attempt, whose key is watched from this revision on.
    Behind { key: Vec<u8>, revision: i64 },
    /// It is not in the queue: its lease has ended, or its key was deleted.
    Gone,
}

/// A key that may be on the server. Dropping it deletes it in the background.
pub(super) struct Attempt {
    pub(super) core: Arc<Core>,
    pub(super) session: Arc<Session>,
    pub(super) lock: LockKeys,
    pub(super) mode: Mode,
    pub(super) key: Vec<u8>,
    /// The revision that added the key: what tells it from a later one of the same name.
    pub(super) created: i64,
    /// How many copies of the request that adds the key were sent, and not answered.
    unanswered: AtomicU32,
    deleted: AtomicBool,
}

impl Attempt {
    pub(super) fn new(
        core: &Arc<Core>,
        session: &Arc<Session>,
        lock: &LockKeys,
        mode: Mode,
    ) -> Self {
        let key = lock.attempt(mode, session.lease, session.next_attempt());
        session.add(&key);
        Self {
            core: Arc::clone(core),
            session: Arc::clone(session),
            lock: lock.clone(),
            mode,
            key,
            created: 0,
            unanswered: AtomicU32::new(0),
            deleted: AtomicBool::new(false),
        }
    }

    /// Holds the lock if no other attempt is in the way, and leaves no key if one is.
    pub(super) async fn try_once(&mut self, until: Option<Instant>) -> Result<Place, Failure> {
        let (start, end) = self.lock.in_the_way_of(self.mode);
        let free =
            Compare::create_revision(start.clone(), CompareOp::Equal, 0).with_range(end.clone());
        // An earlier copy of the request may have added it, which is not in the way of one that shares.
        let absent = Compare::create_revision(self.key.clone(), CompareOp::Equal, 0);
        let oldest = one(end, SortOrder::Ascend);
        let txn = Txn::new()
            .when([free, absent])
            .and_then([self.put(Some(SystemTime::now()))])
            .or_else([
                TxnOp::get(self.key.clone(), None),
                TxnOp::get(start, Some(oldest)),
            ]);
        let (answer, revision) = self.add(txn, until).await?;
        if answer.succeeded() {
            self.created = revision;
            return Ok(holder(revision));
        }
        if let Some(own) = found(&answer, 0) {
            self.created = own.create_revision();
            return Ok(holder(self.created));
        }
        // No key was added, unless by a copy that is still on its way.
        *self.deleted.get_mut() = *self.unanswered.get_mut() == 0;
        let place = self.behind(found(&answer, 1), revision)?;
        Ok(place.unwrap_or(Place::Gone))
    }

    /// Enters the queue, or finds that an earlier copy of the request has.
    pub(super) async fn enter(&mut self, until: Option<Instant>) -> Result<Place, Failure> {
        let (start, end) = self.lock.in_the_way_of(self.mode);
        let newest = match self.mode {
            // The newest is its own, which the same transaction adds.
            Mode::Exclusive => one(end, SortOrder::Descend).with_limit(2),
            Mode::Shared => one(end, SortOrder::Descend),
        };
        let txn = Txn::new()
            .when([Compare::create_revision(
                self.key.clone(),
                CompareOp::Equal,
                0,
            )])
            .and_then([self.put(None), TxnOp::get(start, Some(newest))])
            .or_else([TxnOp::get(self.key.clone(), None)]);
        let (answer, revision) = self.add(txn, until).await?;
        if !answer.succeeded() {
            self.created = found(&answer, 0).map_or(0, |own| own.create_revision());
            return self.look(until).await;
        }
        self.created = revision;
        let mut others = all(&answer, 1).into_iter();
        let other = others.find(|other| other.key() != self.key);
        let place = self.behind(other, revision)?;
        Ok(place.unwrap_or(holder(revision)))
    }

    /// Looks who is before it. **The only way from the queue to the lock**: no older key is in the
    /// way, which stays so, and its own key is there at the same time or later.
    pub(super) async fn look(&self, until: Option<Instant>) -> Result<Place, Failure> {
        let (start, end) = self.lock.in_the_way_of(self.mode);
        let older = one(end, SortOrder::Descend)
            .with_max_create_revision(self.created)
            .with_limit(2);
        let (older, seen) = self.get(start, Some(older), until).await?;
        let is_own = |key: &KeyValue| key.create_revision() == self.created;
        let (own, revision) = match self.mode {
            Mode::Exclusive => (older.iter().any(is_own), seen),
            Mode::Shared => {
                let (own, revision) = self.get(self.key.clone(), None, until).await?;
                (own.iter().any(is_own), revision)
            }
        };
        if !own {
            return Ok(Place::Gone);
        }
        let place = self.behind(older.into_iter().find(|key| !is_own(key)), seen)?;
        Ok(place.unwrap_or(holder(revision)))
    }

    /// Writes since when the lock is held. Returns the revision, or `None` if the key is gone.
    pub(super) async fn sign(&self, until: Option<Instant>) -> Result<Option<u64>, Failure> {
        let txn = Txn::new()
            .when([self.is_there()])
            .and_then([self.put(Some(SystemTime::now()))]);
        let (answer, revision) = self.ask(txn, until).await?;
        Ok(answer.succeeded().then_some(revision.unsigned_abs()))
    }

    /// Deletes the key. Returns whether it was there, as far as the answer tells.
    pub(super) async fn delete(&self, until: Option<Instant>) -> Result<bool, Failure> {
        let found = delete(&self.core, &self.key, until).await?;
        self.deleted.store(true, Ordering::Relaxed);
        Ok(found)
    }

    /// Makes a request that adds the key.
    async fn add(&self, txn: Txn, until: Option<Instant>) -> Result<(TxnResponse, i64), Failure> {
        let request = |mut client: Client| {
            let txn = txn.clone();
            self.unanswered.fetch_add(1, Ordering::Relaxed);
            async move { with_revision(client.txn(txn).await?) }
        };
        let answer = self.core.cluster.ask(until, request).await;
        if !matches!(answer, Err(Failure::Unknown(_))) {
            self.unanswered.fetch_sub(1, Ordering::Relaxed);
        }
        answer
    }

    /// Reads keys. Not in a transaction: one that only reads crashes a server of 3.5.1 if its
    /// client gives it up.
    async fn get(
        &self,
        key: Vec<u8>,
        options: Option<GetOptions>,
        until: Option<Instant>,
    ) -> Result<(Vec<KeyValue>, i64), Failure> {
        let get = |mut client: Client| {
            let (key, options) = (key.clone(), options.clone());
            async move {
                let mut answer = client.get(key, options).await?;
                let revision = revision(answer.header())?;
                Ok((answer.take_kvs(), revision))
            }
        };
        self.core.cluster.ask(until, get).await
    }

    async fn ask(&self, txn: Txn, until: Option<Instant>) -> Result<(TxnResponse, i64), Failure> {
        let request = |mut client: Client| {
            let txn = txn.clone();
            async move { with_revision(client.txn(txn).await?) }
        };
        self.core.cluster.ask(until, request).await
    }

    fn put(&self, since: Option<SystemTime>) -> TxnOp {
        let value = value::encode(self.core.label.as_deref(), since);
        let options = PutOptions::new().with_lease(self.session.lease);
        TxnOp::put(self.key.clone(), value, Some(options))
    }

    fn is_there(&self) -> Compare {
        Compare::create_revision(self.key.clone(), CompareOp::Equal, self.created)
    }

    /// The place behind another attempt, if there is one.
    fn behind(&self, other: Option<KeyValue>, revision: i64) -> Result<Option<Place>, Failure> {
        let Some(other) = other else { return Ok(None) };
        // Their holder may be waiting for this lock: the two could wait for each other for all
        // time, and no server would know.
        if self.lock.is_deeper(other.key()) {
            let why = "there are locks below this name";
            let why = std::io::Error::new(std::io::ErrorKind::InvalidInput, why);
            return Err(Failure::Refused(why));
        }
        Ok(Some(Place::Behind {
            key: other.key().to_vec(),
            revision,
        }))
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if *self.unanswered.get_mut() > 0 {
            self.session.doubt();
        }
        if *self.deleted.get_mut() {
            self.session.remove(&self.key);
            return;
        }
        let (core, session) = (Arc::clone(&self.core), Arc::clone(&self.session));
        let key = std::mem::take(&mut self.key);
        self.core.runtime.spawn(async move {
            tokio::select! {
                () = purge(&core, &key) => session.remove(&key),
                // The keys end with their lease, or with the clients that have it revoked.
                () = session.lost() => {}
            }
        });
    }
}

/// Deletes a key for certain: with one left behind on a lease that is renewed, no one would ever
/// get the lock again.
async fn purge(core: &Core, key: &[u8]) {
    let mut pause = Pause::default();
    while delete(core, key, None).await.is_err() {
        tokio::time::sleep(pause.next()).await;
    }
}

/// Returns whether the key was there. If the request was repeated, it may have been gone by then.
async fn delete(core: &Core, key: &[u8], until: Option<Instant>) -> Result<bool, Failure> {
    let requests = AtomicU32::new(0);
    let delete = |mut client: Client| {
        requests.fetch_add(1, Ordering::Relaxed);
        let key = key.to_vec();
        async move { client.delete(key, None).await }
    };
    let deleted = core.cluster.ask(until, delete).await?.deleted();
    Ok(deleted > 0 || requests.into_inner() > 1)
}

/// The first key of a range by age, from the old or from the new end.
fn one(end: Vec<u8>, order: SortOrder) -> GetOptions {
    GetOptions::new()
        .with_range(end)
        .with_sort(SortTarget::Create, order)
        .with_limit(1)
        .with_keys_only()
}

fn holder(revision: i64) -> Place {
    Place::Holder(revision.unsigned_abs())
}

fn with_revision(answer: TxnResponse) -> Result<(TxnResponse, i64), etcd_client::Error> {
    let revision = revision(answer.header())?;
    Ok((answer, revision))
}

/// **The token is the revision of the whole store at the moment of the grant.** That at which the
/// key was added would be smaller than the token of one that came earlier and was granted later.
fn revision(header: Option<&ResponseHeader>) -> Result<i64, etcd_client::Error> {
    let none = || etcd_client::Error::Internal("an answer has no header".into());
    header.map(ResponseHeader::revision).ok_or_else(none)
}

/// The key that the operation of this number has found.
fn found(answer: &TxnResponse, number: usize) -> Option<KeyValue> {
    all(answer, number).into_iter().next()
}

fn all(answer: &TxnResponse, number: usize) -> Vec<KeyValue> {
    match answer.op_responses().into_iter().nth(number) {
        Some(TxnOpResponse::Get(mut answer)) => answer.take_kvs(),
        _ => Vec::new(),
    }
}
