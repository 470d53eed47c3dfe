//! The time between two attempts.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

const FIRST: Duration = Duration::from_millis(20);
const LONGEST: Duration = Duration::from_millis(640);

/// Grows from pause to pause, and differs among those who try at the same time.
#[derive(Debug)]
pub(super) struct Pause(Duration);

impl Default for Pause {
    fn default() -> Self {
        Self(FIRST)
    }
}

impl Pause {
    pub(super) fn next(&mut self) -> Duration {
        let pause = self.0;
        self.0 = (pause * 2).min(LONGEST);
        between(pause / 2, pause)
    }
}

/// A time between these two, by chance.
pub(super) fn between(shortest: Duration, longest: Duration) -> Duration {
    let chance = RandomState::new().hash_one(0) as u32;
    let spread = longest.saturating_sub(shortest);
    shortest + spread.mul_f64(f64::from(chance) / f64::from(u32::MAX))
}
