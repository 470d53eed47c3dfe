use crate::bindings::api;
use crate::time::from_millis;
use crate::{LostReason, OnRelease, Options, Scope};
use core::time::Duration;

/// A granted hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Grant {
    /// The fencing token: strictly increasing over the exclusive grants of one
    /// lock. `None` if the lock does not provide tokens (see
    /// [`Guarantee::fencing`]).
    pub token: Option<u64>,
    /// How long the hold lasts, counted from the call. `None` if it lasts until
    /// it is released.
    pub valid_for: Option<Duration>,
}

impl From<api::Grant> for Grant {
    fn from(grant: api::Grant) -> Self {
        Self {
            token: grant.token,
            valid_for: grant.valid_for.map(from_millis),
        }
    }
}

/// The state of this guest's own hold on a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// This guest does not hold the lock.
    Unlocked,
    /// This guest holds the lock.
    Held(Grant),
    /// The host cannot determine whether this guest still holds the lock. The
    /// value is the time left before the lock counts as lost.
    Uncertain(Duration),
    /// This guest held the lock, did not release it, and no longer holds it.
    Lost(LostReason),
}

impl From<api::State> for State {
    fn from(state: api::State) -> Self {
        match state {
            api::State::Unlocked => Self::Unlocked,
            api::State::Held(grant) => Self::Held(grant.into()),
            api::State::Uncertain(left) => Self::Uncertain(from_millis(left)),
            api::State::Lost(reason) => Self::Lost(reason),
        }
    }
}

/// The guarantees that a lock provides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Guarantee {
    /// Which other programs the lock can exclude.
    pub scope: Scope,
    /// The time after which a hold can be lost without a release. `None` if it
    /// cannot be lost this way.
    pub ttl: Option<Duration>,
    /// Whether grants follow the order of arrival.
    pub fifo: bool,
    /// Whether grants carry a fencing token.
    pub fencing: bool,
}

impl From<api::Guarantee> for Guarantee {
    fn from(guarantee: api::Guarantee) -> Self {
        Self {
            scope: guarantee.scope,
            ttl: guarantee.ttl.map(from_millis),
            fifo: guarantee.fifo,
            fencing: guarantee.fencing,
        }
    }
}

/// Lets the host choose the protocol, and keeps the file.
impl Default for Options {
    fn default() -> Self {
        Self {
            protocol: None,
            on_release: OnRelease::Keep,
        }
    }
}
