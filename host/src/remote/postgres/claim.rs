//! A seat: at most one session that holds the lock, or waits for it.

use std::io::{Error, ErrorKind, Result};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout, timeout_at};

use super::super::{Moment, Runtime, Seat, Standing, Stop, unavailable};
use super::check::{next_token, token};
use super::error::{is_broken, no_answer};
use super::hold::{Hold, Place, in_time};
use super::session::Session;
use super::{Shared, literal_mode};
use crate::deadline::Deadline;
use crate::error::lost;
use crate::types::{LostReason, Mode};

/// The server ends a wait at its deadline. If it does not, this much later it is canceled.
const GRACE: Duration = Duration::from_millis(25);
/// Between tries to connect anew, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// A claim on the lock of one key.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) shared: Arc<Shared>,
    pub(super) key: i64,
    pub(super) place: Arc<Place>,
}

impl Seat for Claim {
    fn try_lock(&self, mode: Mode) -> Result<bool> {
        let (shared, key) = (Arc::clone(&self.shared), self.key);
        let (runtime, place) = (self.shared.runtime()?, Arc::clone(&self.place));
        runtime.clone().run(async move {
            let limit = shared.config.request_timeout;
            let tried = timeout(limit, attempt(&shared, key, mode)).await;
            let tried = tried.map_err(|_| no_answer(&shared.config.server, limit))?;
            match tried? {
                Some(hold) => settle(&shared, &place, hold, &runtime).map(|()| true),
                None => Ok(false),
            }
        })
    }

    fn wait(&self, mode: Mode, deadline: Deadline, stop: &Stop) -> Result<()> {
        let deadline = match deadline {
            Deadline::Now if self.try_lock(mode)? => return Ok(()),
            Deadline::Now => return Err(ErrorKind::TimedOut.into()),
            Deadline::At(_) | Deadline::Never => deadline.instant(),
        };
        let (shared, key) = (Arc::clone(&self.shared), self.key);
        let (runtime, place) = (self.shared.runtime()?, Arc::clone(&self.place));
        let stopped = stop.stopped();
        runtime.clone().run(async move {
            let mut wait = Wait {
                shared: Arc::clone(&shared),
                key,
                mode,
                deadline,
                runtime: runtime.clone(),
            };
            let hold = tokio::select! {
                biased;
                () = stopped => Err(ErrorKind::Interrupted.into()),
                hold = wait.run() => hold,
            };
            settle(&shared, &place, hold?, &runtime)
        })
    }

    fn unlock(&self) -> Result<()> {
        let runtime = self.shared.runtime()?;
        let Some(hold) = self.place.take() else {
            return Ok(());
        };
        let (shared, key) = (Arc::clone(&self.shared), self.key);
        runtime.run(async move {
            let session = Arc::clone(&hold.session);
            let shared_mode = literal_mode(hold.mode);
            let sql = format!("SELECT pg_catalog.pg_advisory_unlock{shared_mode}({key})");
            let limit = shared.config.request_timeout;
            let answer = timeout(limit, session.ask_one(&sql)).await;
            drop(hold);
            match answer.unwrap_or_else(|_| Err(no_answer(&shared.config.server, limit))) {
                Ok(Some(unlocked)) if unlocked == "t" => {
                    shared.give_back(session);
                    Ok(())
                }
                // A session that lost its lock by other means is not to be trusted again.
                Ok(_) => Err(lost(LostReason::Broken)),
                Err(e) => Err(session.why_gone().map_or(e, lost)),
            }
        })
    }

    fn renew(&self) -> Result<()> {
        let runtime = self.shared.runtime()?;
        let Some(session) = self.place.session() else {
            return Err(unavailable("the lock is lost"));
        };
        let (shared, place) = (Arc::clone(&self.shared), Arc::clone(&self.place));
        runtime.run(async move {
            let (server, limit) = (&shared.config.server, shared.config.request_timeout);
            let confirmed = timeout(limit, confirm(&session)).await;
            let (sent, token) = confirmed.map_err(|_| no_answer(server, limit))??;
            match place.confirm(&session, sent, token) {
                true => Ok(()),
                false => Err(unavailable("the lock is lost")),
            }
        })
    }

    fn standing(&self) -> Standing {
        self.place.standing()
    }

    fn token(&self) -> Option<u64> {
        self.place.token()
    }
}

/// The session is closed, and so the lock is given up. In a forked child it is the parent's.
impl Drop for Claim {
    fn drop(&mut self) {
        let origin = &self.shared.origin;
        origin.keep(&self.place);
        origin.keep(&self.shared);
        if !origin.is_forked() {
            drop(self.place.take());
        }
    }
}

/// Begins a hold.
fn settle(shared: &Shared, place: &Arc<Place>, hold: Hold, runtime: &Runtime) -> Result<()> {
    let standing = place.hold(hold, runtime);
    in_time(standing, &shared.config.server).inspect_err(|_| drop(place.take()))
}

/// Tries once.
async fn attempt(shared: &Shared, key: i64, mode: Mode) -> Result<Option<Hold>> {
    let shared_mode = literal_mode(mode);
    let lock = format!("pg_catalog.pg_try_advisory_lock{shared_mode}({key})");
    let sql = |session: &Session| {
        let next_token = next_token(session);
        format!("SELECT CASE WHEN {lock} THEN {next_token} END")
    };
    let (session, sent, rows) = shared.ask(sql).await?;
    match rows.first().and_then(|row| row.get(0)) {
        Some(answer) => {
            let token = token(&session, answer);
            Ok(Some(Hold::new(session, mode, token, sent)))
        }
        None => {
            shared.give_back(session);
            Ok(None)
        }
    }
}

/// Shows that the session is alive. Returns since when that is certain, and a token.
async fn confirm(session: &Session) -> Result<(Moment, Option<u64>)> {
    let sent = Moment::now();
    let sql = format!("SELECT {}", next_token(session));
    let answer = session.ask_one(&sql).await?;
    Ok((sent, token(session, &answer.unwrap_or_default())))
}

/// One wait. Dropping it ends the wait in the background.
struct Wait {
    shared: Arc<Shared>,
    key: i64,
    mode: Mode,
    deadline: Option<Instant>,
    runtime: Runtime,
}

impl Wait {
    async fn run(&mut self) -> Result<Hold> {
        let mut retry = RETRY.0;
        // Whether the server has answered so far.
        let mut known = false;
        loop {
            match self.once(&mut known).await {
                Err(e) if known && is_broken(&e) => {
                    self.until_deadline(sleep(retry)).await?;
                    retry = (retry * 2).min(RETRY.1);
                }
                // The server's wall clock was set: it measures `lock_timeout` by that.
                Err(e) if e.kind() == ErrorKind::TimedOut && self.has_time() => {}
                result => return result,
            }
        }
    }

    /// Queues in one session.
    async fn once(&self, known: &mut bool) -> Result<Hold> {
        let limit = self.shared.config.request_timeout;
        let connected = timeout(limit, self.shared.session(false));
        let connected = self.until_deadline(connected).await?;
        let session = connected.map_err(|_| no_answer(&self.shared.config.server, limit))??;
        *known = true;
        // From here on it is canceled rather than dropped, so it is a task of its own.
        let turn = turn(Arc::clone(&session), self.key, self.mode, self.deadline);
        let mut turn = Turn {
            task: Some(self.runtime.spawn(turn)),
            session: Arc::clone(&session),
            shared: Arc::clone(&self.shared),
            runtime: self.runtime.clone(),
        };
        self.until_deadline(turn.end())
            .await?
            .map_err(|e| match e.kind() {
                ErrorKind::TimedOut | ErrorKind::Deadlock => {
                    let shared = Arc::clone(&self.shared);
                    self.runtime
                        .spawn(async move { reuse(&shared, session).await });
                    e
                }
                // Canceled, but not by this process.
                ErrorKind::Interrupted => Error::other(e),
                _ => e,
            })
    }

    fn has_time(&self) -> bool {
        self.deadline.is_none_or(|at| Instant::now() < at)
    }

    async fn until_deadline<T>(&self, future: impl Future<Output = T>) -> Result<T> {
        match self.deadline {
            None => Ok(future.await),
            Some(at) => {
                let at = tokio::time::Instant::from_std(at) + GRACE;
                let ended = timeout_at(at, future).await;
                ended.map_err(|_| ErrorKind::TimedOut.into())
            }
        }
    }
}

/// Waits in the queue of the server. A grant only counts once the server confirms it: the answer may
/// have been under way for long.
async fn turn(
    session: Arc<Session>,
    key: i64,
    mode: Mode,
    deadline: Option<Instant>,
) -> Result<Hold> {
    let shared_mode = literal_mode(mode);
    let limit = match deadline.map(|at| at.saturating_duration_since(Instant::now())) {
        // Not a part of a millisecond too early; and zero would be none.
        Some(left) => (left.as_millis() + 1).min(i32::MAX as u128),
        None => 0,
    };
    let sql = format!(
        "SET LOCAL lock_timeout = {limit}; SELECT pg_catalog.pg_advisory_lock{shared_mode}({key})"
    );
    session.ask(&sql).await?;
    let (sent, token) = confirm(&session).await?;
    Ok(Hold::new(session, mode, token, sent))
}

/// A statement under way. If it is dropped before its end, the server is asked to cancel it.
struct Turn {
    task: Option<tokio::task::JoinHandle<Result<Hold>>>,
    session: Arc<Session>,
    shared: Arc<Shared>,
    runtime: Runtime,
}

impl Turn {
    async fn end(&mut self) -> Result<Hold> {
        let task = self.task.as_mut().expect("it ends once");
        let ended = task.await;
        self.task = None;
        ended.unwrap_or_else(|e| Err(Error::other(e)))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let Some(task) = self.task.take() else {
            return;
        };
        let (shared, session) = (Arc::clone(&self.shared), Arc::clone(&self.session));
        self.runtime.spawn(async move {
            let limit = shared.config.request_timeout;
            let abort = task.abort_handle();
            let _ = timeout(limit, session.cancel()).await;
            // The session is not used again, and a grant goes with it: the server sends the signal to
            // the process and to its group, and the second one may hit what comes next.
            if timeout(limit, task).await.is_err() {
                abort.abort();
            }
        });
    }
}

/// Keeps a session in which a statement failed, if it holds nothing for certain.
async fn reuse(shared: &Shared, session: Arc<Session>) {
    let clean = timeout(shared.config.request_timeout, session.clean()).await;
    if clean == Ok(true) {
        shared.give_back(session);
    }
}
