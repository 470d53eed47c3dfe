//! The deadline of one acquire.

use std::time::{Duration, Instant};

/// When an acquire gives up. Fixed once, at its start, on the monotonic clock.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Deadline {
    /// One try, no wait.
    Now,
    At(Instant),
    Never,
}

impl Deadline {
    /// A timeout too long for the clock to represent counts as none.
    pub(crate) fn after(timeout: Option<Duration>) -> Self {
        match timeout {
            None => Self::Never,
            Some(Duration::ZERO) => Self::Now,
            Some(timeout) => Instant::now()
                .checked_add(timeout)
                .map_or(Self::Never, Self::At),
        }
    }

    pub(crate) fn instant(self) -> Option<Instant> {
        match self {
            Self::At(instant) => Some(instant),
            Self::Now | Self::Never => None,
        }
    }

    /// The earlier one of this and `instant`.
    pub(crate) fn or_at(self, instant: Instant) -> Self {
        match self {
            Self::Now => Self::Now,
            Self::At(at) => Self::At(at.min(instant)),
            Self::Never => Self::At(instant),
        }
    }

    pub(crate) fn passed(self) -> bool {
        self.instant()
            .is_some_and(|instant| instant <= Instant::now())
    }
}
