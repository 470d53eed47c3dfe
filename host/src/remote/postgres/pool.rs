//! Sessions that are open and not in use, so that the next acquire need not connect.

use std::io::Result;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use tokio_postgres::SimpleQueryRow;

use super::super::Moment;
use super::Shared;
use super::check;
use super::error::is_broken;
use super::session::Session;
use crate::sync::{Mutex, lock};

/// How many are kept.
const MOST: usize = 8;
/// For how long.
const IDLE: Duration = Duration::from_secs(30);
/// After this long without a word, one is asked whether it is still there before it is used.
const SILENT: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(super) struct Pool(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// The one that was used last is at the end.
    idle: Vec<(Arc<Session>, Instant)>,
    /// Whether a task closes those that are idle for too long.
    tended: bool,
    /// Whether sessions have been shown to stay with their process of the server, and none has
    /// broken since.
    proven: bool,
}

impl Shared {
    /// A session that is not in use. With `new`, it has not been used before.
    pub(super) async fn session(&self, new: bool) -> Result<Arc<Session>> {
        if !new && let Some((session, since)) = self.pool.take() {
            let works = || async {
                let limit = self.config.request_timeout / 4;
                let same = tokio::time::timeout(limit, session.is_same("")).await;
                matches!(same, Ok(Ok(true)))
            };
            if session.why_gone().is_none() && (since.elapsed() < SILENT || works().await) {
                return Ok(session);
            }
            // What became of it may have become of the others.
            let mut state = lock(&self.pool.0);
            (state.proven, state.idle) = (false, Vec::new());
        }
        self.connect().await.map(Arc::new)
    }

    /// Runs SQL that leaves nothing behind if its answer is lost. A session that was idle may turn out
    /// to be broken; a new one decides. Also returns when the question was sent.
    pub(super) async fn ask(
        &self,
        sql: impl Fn(&Session) -> String,
    ) -> Result<(Arc<Session>, Moment, Vec<SimpleQueryRow>)> {
        let mut new = false;
        loop {
            let session = self.session(new).await?;
            let sent = Moment::now();
            match session.ask(&sql(&session)).await {
                Ok(rows) => return Ok((session, sent, rows)),
                Err(e) if is_broken(&e) && !new => new = true,
                Err(e) => return Err(e),
            }
        }
    }

    async fn connect(&self) -> Result<Session> {
        let mut session = Session::open(&self.config).await?;
        if lock(&self.pool.0).proven {
            check::seems_to_stay(&session).await?;
        } else {
            let mut second = Session::open(&self.config).await?;
            check::stay(&session, &second).await?;
            check::set_up(&mut second, &self.config).await?;
            lock(&self.pool.0).proven = true;
            self.give_back(Arc::new(second));
        }
        let warning = check::set_up(&mut session, &self.config).await?;
        self.note(session.fenced, warning);
        Ok(session)
    }

    /// Keeps a session that holds nothing, for the next conversation.
    pub(super) fn give_back(&self, session: Arc<Session>) {
        let mut state = lock(&self.pool.0);
        if session.why_gone().is_some() {
            state.proven = false;
            return;
        }
        if state.idle.len() == MOST {
            state.idle.remove(0);
        }
        state.idle.push((session, Instant::now()));
        if !std::mem::replace(&mut state.tended, true) {
            tokio::spawn(tend(Weak::clone(&self.this)));
        }
    }
}

impl Pool {
    fn take(&self) -> Option<(Arc<Session>, Instant)> {
        lock(&self.0).idle.pop()
    }
}

/// Closes sessions once they are idle for too long, until none is left.
async fn tend(shared: Weak<Shared>) {
    loop {
        tokio::time::sleep(IDLE / 2).await;
        let Some(shared) = shared.upgrade() else {
            return;
        };
        let mut state = lock(&shared.pool.0);
        let fresh = |(session, since): &(Arc<Session>, Instant)| {
            since.elapsed() < IDLE && session.why_gone().is_none()
        };
        state.idle.retain(fresh);
        if state.idle.is_empty() {
            state.tended = false;
            return;
        }
    }
}
