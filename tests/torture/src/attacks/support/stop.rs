//! Ends what goes on beside a part, also if the part panics.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Whether to stop. A thread asks [`is_due`](Self::is_due) each time before it goes on.
#[derive(Debug, Default)]
pub struct Stop(AtomicBool);

/// Says so when it is dropped.
#[derive(Debug)]
#[must_use = "the others stop as soon as it is dropped"]
pub struct WhenDropped<'a>(&'a Stop);

impl Stop {
    /// What makes the others stop. A scope waits for its threads even if a panic ends it, so threads
    /// that are told at the end of the scope would never stop then.
    pub fn when_dropped(&self) -> WhenDropped<'_> {
        WhenDropped(self)
    }

    /// Whether to stop now.
    pub fn is_due(&self) -> bool {
        self.0.load(Relaxed)
    }
}

impl Drop for WhenDropped<'_> {
    fn drop(&mut self) {
        self.0.0.store(true, Relaxed);
    }
}
