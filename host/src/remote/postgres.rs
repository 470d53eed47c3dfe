//! Locks as session-level advisory locks of PostgreSQL.
//!
//! What users need to know is in `postgres.md`. This is what the code relies on.
//!
//! **One session, one claim.** A session can take an advisory lock again that it holds, so two
//! claims on one session would both hold the lock. Each [seat](claim) has a session to itself while it
//! holds or waits; [idle ones](pool) are kept for the next. A session never waits while it holds, so
//! it is part of no circle of waiters that the server could see.
//!
//! **Keys.** The server knows a lock by 64 bits: the first 8 bytes of the SHA-256 of its name, which
//! SQL can compute. Names with the same key exclude each other, which is more than they must. Within an
//! engine, too: they are different locks to it, but their sessions meet on the server. To find a
//! second name for a given key takes 2^64 tries, so a guest cannot block the lock of another one by its
//! choice of a name. The hash functions of the server are not made for that, and differ among systems.
//!
//! **A grant counts once it is confirmed.** The answer to a wait can have been under way for as long
//! as the server tolerates silence. So the session is asked once more, which also takes the token, and
//! the hold counts from when that question was sent. A try is its own question.
//!
//! **Losses.** A lock is lost with its session, and never without. There are three ways:
//! - An administrator ends the session, or the server ends, in order or not. The connection says so
//!   at once. The server frees the lock at that moment, so for the time that the message takes two clients
//!   hold it. Nothing can be done about that but to use tokens.
//! - The client is silent, because the network is cut. With `ttl` as T: [heartbeats](hold) are sent every
//!   T/3. If the last one that was answered was sent at S, the hold is uncertain at S + 2T/3 and lost at
//!   S + 9T/10. The server heard that heartbeat after S. From then on its kernel tolerates silence
//!   for T: `tcp_user_timeout` is T, the first keep-alive probe follows after about T/2, one a second
//!   after that, and their number alone would take longer than T. So the server lets the lock go at S + T at
//!   the earliest, and about T + 2 s after the cut at the latest.
//! - The client stops, or its clock does. Its kernel still answers the probes, so the server keeps the
//!   lock. When the client continues, the clock that also runs while the system is suspended shows
//!   that the hold is lost, and the session is closed.
//!
//! **Ends of waits.** The server ends a wait at its deadline (`lock_timeout`). A stop, and a
//! deadline that the server misses, are answered at once: a task asks the server to cancel
//! the statement and sees to its end. The request can come late and hit whatever the session does
//! next, and the server passes it on twice: to the process and to its group. So the session is closed,
//! whatever came of it. A session that waits reads nothing from its connection, but
//! looks every second whether that still exists (`client_connection_check_interval`).

mod check;
mod claim;
mod config;
mod error;
mod hold;
mod pool;
mod session;
mod tls;

use std::fmt;
use std::io::{Error, ErrorKind, Result};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use sha2::{Digest as _, Sha256};
use tokio::time::timeout;
use tokio_postgres::SimpleQueryRow;

use self::claim::Claim;
use self::config::{Config, Fencing};
use self::error::no_answer;
use self::hold::Place;
use self::pool::Pool;
use self::session::Session;
use super::{Changed, Origin, Runtime, Seat, Server, Settings, unavailable};
use crate::sync::{Mutex, lock};
use crate::types::{ForeignHolder, Guarantee, Mode, Scope};

/// The longest name, in bytes.
const LONGEST: usize = 1024;

/// A server, and the sessions with it.
#[derive(Debug)]
pub(crate) struct Postgres(Arc<Shared>);

struct Shared {
    this: Weak<Self>,
    origin: Origin,
    config: Config,
    pool: Pool,
    /// Whether the latest session has tokens.
    fencing: AtomicBool,
    /// If not, why.
    warning: Mutex<Option<String>>,
    /// Started by the first conversation.
    runtime: Mutex<Option<Runtime>>,
}

impl Postgres {
    /// Reads the URL. Asks no server.
    pub(crate) fn new(url: &str, settings: &Settings) -> Result<Self> {
        let config = Config::new(url, settings)?;
        Ok(Self(Arc::new_cyclic(|this| Shared {
            this: Weak::clone(this),
            origin: Origin::current(),
            fencing: AtomicBool::new(config.fencing == Fencing::Require),
            warning: Mutex::new(None),
            config,
            pool: Pool::default(),
            runtime: Mutex::new(None),
        })))
    }

    /// Asks the server something, through a session that is idle or a new one.
    fn ask<T: Send + 'static>(
        &self,
        sql: String,
        read: impl FnOnce(Vec<SimpleQueryRow>) -> T + Send + 'static,
    ) -> Result<T> {
        let shared = Arc::clone(&self.0);
        self.0.runtime()?.run(async move {
            let asked = async {
                let (session, _, rows) = shared.ask(|_| sql.clone()).await?;
                Ok((session, rows))
            };
            Ok(read(shared.within(asked).await?))
        })
    }

    /// Has the server do something that a second time would do more: through a new session, which
    /// cannot turn out to be broken beforehand, and without a repetition if the answer is lost.
    fn have_done<T: Send + 'static>(
        &self,
        sql: String,
        read: impl FnOnce(Vec<SimpleQueryRow>) -> T + Send + 'static,
    ) -> Result<T> {
        let shared = Arc::clone(&self.0);
        self.0.runtime()?.run(async move {
            let done = async {
                let session = shared.session(true).await?;
                let rows = session.ask(&sql).await?;
                Ok((session, rows))
            };
            Ok(read(shared.within(done).await?))
        })
    }
}

impl Server for Postgres {
    fn guarantee(&self) -> Guarantee {
        Guarantee {
            scope: Scope::Cluster,
            ttl: Some(self.0.config.ttl),
            fifo: true,
            fencing: self.0.fencing.load(Ordering::Relaxed),
        }
    }

    fn check_name(&self, name: &str) -> Result<()> {
        let why = match name {
            "" => "it is empty".to_owned(),
            name if name.len() > LONGEST => format!("it is longer than {LONGEST} bytes"),
            name if name.contains('\0') => "it has a NUL in it".to_owned(),
            _ => return Ok(()),
        };
        Err(Error::new(ErrorKind::InvalidInput, why))
    }

    fn seat(&self, name: &str, changed: &Arc<Changed>) -> Arc<dyn Seat> {
        Arc::new(Claim {
            shared: Arc::clone(&self.0),
            key: key(name),
            place: Arc::new(Place::new(changed, self.0.config.ttl)),
        })
    }

    fn holder(&self, name: &str) -> Result<Option<ForeignHolder>> {
        let sql = format!(
            "SELECT l.mode, a.application_name FROM pg_locks l LEFT JOIN pg_stat_activity a \
             USING (pid) WHERE {} LIMIT 1",
            held(name)
        );
        self.ask(sql, |rows| {
            let row = rows.first()?;
            let mode = match row.get(0) {
                Some("ShareLock") => Mode::Shared,
                _ => Mode::Exclusive,
            };
            let label = row.get(1).filter(|name| !name.is_empty());
            Some(ForeignHolder {
                label: label.map(str::to_owned),
                elsewhere: true,
                ..ForeignHolder::new(mode)
            })
        })
    }

    fn break_lock(&self, name: &str) -> Result<bool> {
        // Within the time that the request has.
        let wait = (self.0.config.request_timeout / 2).as_millis().max(1);
        let held = held(name);
        let end = format!(
            "SELECT pid, pg_terminate_backend(pid, greatest({wait} / count(*) OVER (), 1)) FROM pg_locks l WHERE {held}"
        );
        let holders = self.have_done(end, |rows| {
            let number = rows.iter().filter_map(|row| row.get(0));
            number.map(str::to_owned).collect::<Vec<_>>()
        })?;
        if holders.is_empty() {
            return Ok(false);
        }
        let left = format!(
            "SELECT count(*) FROM pg_locks l WHERE {held} AND pid IN ({})",
            holders.join(", ")
        );
        let left = self.ask(left, |rows| rows.first()?.get(0).map(str::to_owned))?;
        match left.as_deref() {
            Some("0") => Ok(true),
            _ => Err(unavailable("the session that holds the lock does not end")),
        }
    }

    fn warnings(&self) -> Vec<String> {
        if self.0.origin.is_forked() {
            return Vec::new();
        }
        lock(&self.0.warning).iter().cloned().collect()
    }
}

/// In a forked child, everything stays as it is: the sessions are the parent's.
impl Drop for Postgres {
    fn drop(&mut self) {
        self.0.origin.keep(&self.0);
    }
}

impl Shared {
    /// The thread of the sessions. Fails in a forked child, which has none.
    fn runtime(&self) -> Result<Runtime> {
        self.origin.refuse_forked()?;
        let mut runtime = lock(&self.runtime);
        if let Some(runtime) = &*runtime {
            return Ok(runtime.clone());
        }
        let started = Runtime::start("locket-postgres")?;
        Ok(runtime.insert(started).clone())
    }

    /// The answer to a conversation, if it comes in time. Its session is kept for the next.
    async fn within<T>(&self, asked: impl Future<Output = Result<(Arc<Session>, T)>>) -> Result<T> {
        let limit = self.config.request_timeout;
        let answer = timeout(limit, asked).await;
        let answer = answer.map_err(|_| no_answer(&self.config.server, limit))?;
        let (session, read) = answer?;
        self.give_back(session);
        Ok(read)
    }

    /// Remembers whether there are tokens.
    fn note(&self, fenced: bool, warning: Option<String>) {
        self.fencing.store(fenced, Ordering::Relaxed);
        *lock(&self.warning) = warning;
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("server", &self.config.server)
            .field("pool", &self.pool)
            .finish_non_exhaustive()
    }
}

/// The key of a name: the first 8 bytes of its SHA-256, the sign first.
fn key(name: &str) -> i64 {
    let hash = Sha256::digest(name.as_bytes());
    let first = hash.first_chunk().expect("SHA-256 has 32 bytes");
    i64::from_be_bytes(*first)
}

/// The condition for the rows `l` of `pg_locks` by which the lock is held.
fn held(name: &str) -> String {
    let key = key(name).cast_unsigned();
    let (high, low) = (key >> 32, key & 0xffff_ffff);
    format!(
        "l.locktype = 'advisory' AND l.classid = {high} AND l.objid = {low} AND l.objsubid = 1 \
         AND l.granted AND l.database = \
         (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
}

/// The end of the names of functions for a mode.
fn literal_mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Exclusive => "",
        Mode::Shared => "_shared",
    }
}

#[cfg(all(test, target_os = "linux", not(any(loom, shuttle))))]
mod tests;
