//! A session: one connection, one process of the server, at most one lock.

use std::io::{Error, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, SimpleQueryMessage, SimpleQueryRow};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::config::Config;
use super::error::{failed, unsupported};
use crate::types::LostReason;

/// How long the last words to the server may take.
const FAREWELL: Duration = Duration::from_secs(1);

/// An open session. Dropping the last reference closes it, also if a statement is under way.
#[derive(Debug)]
pub(super) struct Session {
    client: Client,
    tls: Tls,
    server: Arc<str>,
    /// Why it is gone, once it is.
    gone: watch::Receiver<Option<LostReason>>,
    /// Whether an administrator ended it, according to the answer to a statement.
    ended: AtomicBool,
    /// The number of its process on the server. A pooler between may give it another one.
    backend: i32,
    /// Whether grants through it carry a token.
    pub(super) fenced: bool,
    _open: oneshot::Sender<()>,
}

struct Tls(MakeRustlsConnect);

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls")
    }
}

impl Session {
    /// Connects. Nothing is checked yet of what is at the other end.
    pub(super) async fn open(config: &Config) -> Result<Self> {
        let connected = config.client.connect(config.tls.clone()).await;
        let (client, connection) = connected.map_err(|e| failed(&e, &config.server))?;
        let (gone, is_gone) = watch::channel(None);
        let (open, closed) = oneshot::channel::<()>();
        tokio::spawn(async move {
            let mut connection = std::pin::pin!(connection);
            let end = tokio::select! {
                end = &mut connection => end,
                // What is under way does not end by itself, so it has only so long.
                _ = closed => match tokio::time::timeout(FAREWELL, connection).await {
                    Ok(end) => end,
                    Err(_) => return,
                },
            };
            gone.send_replace(Some(reason(end.err().as_ref())));
        });
        let mut session = Self {
            client,
            tls: Tls(config.tls.clone()),
            server: Arc::clone(&config.server),
            gone: is_gone,
            ended: AtomicBool::new(false),
            backend: 0,
            fenced: false,
            _open: open,
        };
        session.backend = session.ask_backend("").await?;
        Ok(session)
    }

    /// Runs SQL, and returns the rows of all its statements. They are one transaction, but locks
    /// survive its end.
    pub(super) async fn ask(&self, sql: &str) -> Result<Vec<SimpleQueryRow>> {
        let answer = self.client.simple_query(sql).await.map_err(|e| {
            if reason(Some(&e)) == LostReason::Broken {
                self.ended.store(true, Ordering::Relaxed);
            }
            failed(&e, &self.server)
        })?;
        let rows = answer.into_iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        Ok(rows.collect())
    }

    /// Runs SQL that returns one value at least, and returns the last one.
    pub(super) async fn ask_one(&self, sql: &str) -> Result<Option<String>> {
        let rows = self.ask(sql).await?;
        let row = rows.last().filter(|row| !row.is_empty());
        let row = row.ok_or_else(|| unsupported(&self.server, "it answers nothing"))?;
        Ok(row.get(0).map(str::to_owned))
    }

    /// Runs SQL before it asks for the number of the process on the server.
    async fn ask_backend(&self, sql: &str) -> Result<i32> {
        let sql = format!("{sql}; SELECT pg_catalog.pg_backend_pid()");
        let number = self.ask_one(&sql).await?.and_then(|text| text.parse().ok());
        number.ok_or_else(|| unsupported(&self.server, "its processes have no number"))
    }

    /// Whether the same process of the server still answers. `sql` is run before.
    pub(super) async fn is_same(&self, sql: &str) -> Result<bool> {
        Ok(self.ask_backend(sql).await? == self.backend)
    }

    /// Whether this session and `other` have one process of the server.
    pub(super) fn has_backend_of(&self, other: &Self) -> bool {
        self.backend == other.backend
    }

    /// Releases whatever it holds. Whether that is certain.
    pub(super) async fn clean(&self) -> bool {
        let sql = "SELECT pg_catalog.pg_advisory_unlock_all(); \
                   SELECT pg_catalog.count(*) FROM pg_catalog.pg_locks \
                   WHERE locktype = 'advisory' AND pid = pg_catalog.pg_backend_pid()";
        matches!(self.ask_one(sql).await, Ok(Some(count)) if count == "0")
    }

    /// Asks the server to end the statement that is under way. It may be over by then, and the
    /// request may reach the next one.
    pub(super) async fn cancel(&self) -> Result<()> {
        let cancel = self
            .client
            .cancel_token()
            .cancel_query(self.tls.0.clone())
            .await;
        cancel.map_err(|e| failed(&e, &self.server))
    }

    /// Completes when the session is gone.
    pub(super) async fn gone(&self) -> LostReason {
        // It fails if the task of the connection has ended, which says the same.
        let _ = self.gone.clone().wait_for(Option::is_some).await;
        self.why_gone().unwrap_or(LostReason::Disconnected)
    }

    /// Why it is gone, if it is.
    pub(super) fn why_gone(&self) -> Option<LostReason> {
        let gone = *self.gone.borrow();
        if self.ended.load(Ordering::Relaxed) {
            return Some(LostReason::Broken);
        }
        gone.or_else(|| self.client.is_closed().then_some(LostReason::Disconnected))
    }

    pub(super) fn refuse(&self, why: &str) -> Error {
        unsupported(&self.server, why)
    }
}

/// The server says it if an administrator ended the session, or the server.
fn reason(error: Option<&tokio_postgres::Error>) -> LostReason {
    match error.and_then(tokio_postgres::Error::code) {
        Some(&SqlState::ADMIN_SHUTDOWN) => LostReason::Broken,
        _ => LostReason::Disconnected,
    }
}
