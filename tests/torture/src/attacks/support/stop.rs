//! Stops the threads that run beside a part, also if the part panics.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Whether to stop. A thread checks [`is_due`](Self::is_due) before each step.
#[derive(Debug, Default)]
pub struct Stop(AtomicBool);

/// Stops the threads when it is dropped.
#[derive(Debug)]
#[must_use = "the others stop as soon as it is dropped"]
pub struct WhenDropped<'a>(&'a Stop);

impl Stop {
    /// A value that stops the threads when it is dropped. A scope waits for its threads even if a panic
    /// ends it, so threads that are only stopped at the end of the scope would then never stop.
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
