//! A lock that is held, and how its loss becomes known.
//!
//! A heartbeat every third of the time to live shows that the session is alive, and with it the lock.
//! Each answer counts from the moment at which its question was sent. Without one for two thirds
//! of the time to live the lock is uncertain, and after nine tenths it is lost: the session is
//! closed. The server has been told, by `tcp_user_timeout` and its keep-alive, not to give up on the
//! connection before all of that time is over, counted from a later moment.

use std::io::Result;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::AbortHandle;

use super::super::{Changed, Grant, Moment, Runtime, Standing, timer};
use super::session::Session;
use crate::sync::{Mutex, lock};
use crate::types::{LostReason, Mode};

/// What a seat has, and what to tell if that changes.
#[derive(Debug)]
pub(super) struct Place {
    state: Mutex<State>,
    changed: Arc<Changed>,
    ttl: Duration,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Free,
    Held(Hold),
    Lost(LostReason),
}

/// A grant of the server.
#[derive(Debug)]
pub(super) struct Hold {
    pub(super) session: Arc<Session>,
    pub(super) mode: Mode,
    token: Option<u64>,
    /// When the last question was sent whose answer shows that the lock is held.
    confirmed: Moment,
    heartbeat: Option<AbortHandle>,
}

impl Drop for Hold {
    fn drop(&mut self) {
        if let Some(heartbeat) = &self.heartbeat {
            heartbeat.abort();
        }
    }
}

impl Hold {
    /// `sent` is when the question was sent that the grant is the answer to.
    pub(super) fn new(session: Arc<Session>, mode: Mode, token: Option<u64>, sent: Moment) -> Self {
        Self {
            session,
            mode,
            token,
            confirmed: sent,
            heartbeat: None,
        }
    }

    fn standing(&self, ttl: Duration) -> Standing {
        let lost = self.confirmed.after(ttl * 9 / 10);
        if let Some(reason) = self.session.why_gone() {
            Standing::Lost(reason)
        } else if lost.has_passed() {
            Standing::Lost(LostReason::Disconnected)
        } else if self.confirmed.after(ttl * 2 / 3).has_passed() {
            Standing::Uncertain(lost.left())
        } else {
            Standing::Held(Grant {
                token: self.token,
                valid_for: Some(lost.left()),
            })
        }
    }
}

impl State {
    /// What is known now. A loss stays one, and closes the session.
    fn look(&mut self, ttl: Duration) -> Standing {
        let hold = match self {
            Self::Free => return Standing::Free,
            Self::Lost(reason) => return Standing::Lost(*reason),
            Self::Held(hold) => hold,
        };
        let standing = hold.standing(ttl);
        if let Standing::Lost(reason) = standing {
            // It tells of the loss, and ends.
            hold.heartbeat = None;
            *self = Self::Lost(reason);
        }
        standing
    }
}

impl Place {
    pub(super) fn new(changed: &Arc<Changed>, ttl: Duration) -> Self {
        Self {
            state: Mutex::default(),
            changed: Arc::clone(changed),
            ttl,
        }
    }

    pub(super) fn token(&self) -> Option<u64> {
        match &*lock(&self.state) {
            State::Held(hold) => hold.token,
            State::Free | State::Lost(_) => None,
        }
    }

    pub(super) fn standing(&self) -> Standing {
        lock(&self.state).look(self.ttl)
    }

    /// From now on this is held, unless it is lost already.
    pub(super) fn hold(self: &Arc<Self>, mut hold: Hold, runtime: &Runtime) -> Standing {
        let session = Arc::clone(&hold.session);
        let mut state = lock(&self.state);
        let beat = runtime.spawn(beat(Arc::clone(self), session));
        hold.heartbeat = Some(beat.abort_handle());
        *state = State::Held(hold);
        state.look(self.ttl)
    }

    /// The session of the hold, if it is not lost.
    pub(super) fn session(&self) -> Option<Arc<Session>> {
        let mut state = lock(&self.state);
        state.look(self.ttl);
        match &*state {
            State::Held(hold) => Some(Arc::clone(&hold.session)),
            State::Free | State::Lost(_) => None,
        }
    }

    /// Ends the hold, and returns it if it was not lost.
    pub(super) fn take(&self) -> Option<Hold> {
        let mut state = lock(&self.state);
        state.look(self.ttl);
        match std::mem::take(&mut *state) {
            State::Held(hold) => Some(hold),
            State::Free | State::Lost(_) => None,
        }
    }

    /// The question that was sent through `session` at `sent` is answered: the lock is held. Whether
    /// that came in time. `token` is a new one.
    pub(super) fn confirm(&self, session: &Arc<Session>, sent: Moment, token: Option<u64>) -> bool {
        let mut state = lock(&self.state);
        let before = state.look(self.ttl);
        let held = match &mut *state {
            State::Held(hold) if Arc::ptr_eq(&hold.session, session) => {
                hold.confirmed = hold.confirmed.max(sent);
                hold.token = hold.token.max(token);
                true
            }
            _ => false,
        };
        drop(state);
        if held && matches!(before, Standing::Uncertain(_)) {
            self.changed.tell();
        }
        held
    }

    /// The hold of `session` is lost, unless it is released. Tells of it.
    fn lose(&self, session: &Arc<Session>, reason: LostReason) {
        let mut state = lock(&self.state);
        let lost = match &mut *state {
            State::Held(hold) if Arc::ptr_eq(&hold.session, session) => {
                hold.heartbeat = None;
                std::mem::replace(&mut *state, State::Lost(reason))
            }
            State::Lost(_) => State::Free,
            State::Held(_) | State::Free => return,
        };
        drop(state);
        drop(lost);
        self.changed.tell();
    }

    /// Tells when the hold of `session` becomes uncertain. Completes when it is lost.
    async fn watch(&self, session: &Arc<Session>) {
        let mut told = false;
        loop {
            let next = match self.standing_of(session) {
                Standing::Held(Grant { valid_for, .. }) => {
                    told = false;
                    let until_lost = valid_for.unwrap_or(self.ttl);
                    // When it becomes uncertain, which is earlier by this.
                    until_lost.saturating_sub(self.ttl * 9 / 10 - self.ttl * 2 / 3)
                }
                Standing::Uncertain(left) => {
                    if !std::mem::replace(&mut told, true) {
                        self.changed.tell();
                    }
                    left
                }
                Standing::Lost(_) | Standing::Free => return,
            };
            timer::at(Moment::now().after(next)).await;
        }
    }

    fn standing_of(&self, session: &Arc<Session>) -> Standing {
        let mut state = lock(&self.state);
        match &*state {
            State::Held(hold) if !Arc::ptr_eq(&hold.session, session) => Standing::Free,
            _ => state.look(self.ttl),
        }
    }

    /// When the next heartbeat of the hold of `session` is due, if it is not lost or released.
    fn next_beat(&self, session: &Arc<Session>) -> Option<Moment> {
        match &*lock(&self.state) {
            State::Held(hold) if Arc::ptr_eq(&hold.session, session) => {
                Some(hold.confirmed.after(self.ttl / 3))
            }
            _ => None,
        }
    }
}

/// Keeps the standing of a hold up to date, until it is over.
async fn beat(place: Arc<Place>, session: Arc<Session>) {
    let asks = async {
        while let Some(due) = place.next_beat(&session) {
            timer::at(due).await;
            let sent = Moment::now();
            match session.is_same("").await {
                Ok(true) => _ = place.confirm(&session, sent, None),
                // Something between has connected anew.
                Ok(false) => return LostReason::Broken,
                // Such as a statement that was canceled. A session that is gone says so itself.
                Err(_) => tokio::time::sleep(place.ttl / 20).await,
            }
        }
        LostReason::Disconnected
    };
    let reason = tokio::select! {
        reason = asks => reason,
        reason = session.gone() => reason,
        () = place.watch(&session) => LostReason::Disconnected,
    };
    place.lose(&session, reason);
}

/// The error for a grant that came too late to count.
pub(super) fn in_time(standing: Standing, server: &str) -> Result<()> {
    match standing {
        Standing::Held(_) | Standing::Uncertain(_) => Ok(()),
        Standing::Lost(_) | Standing::Free => {
            let why = format!("{server}: its grant came too late to rely on");
            Err(super::super::unavailable(why))
        }
    }
}
