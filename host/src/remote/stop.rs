//! Ending a wait from another thread.

use tokio::sync::watch;

/// Ends a wait, once.
#[derive(Debug)]
pub(crate) struct Stop(watch::Sender<bool>);

impl Default for Stop {
    fn default() -> Self {
        Self(watch::Sender::new(false))
    }
}

impl Stop {
    /// Ends the wait, now or as soon as it begins.
    pub(crate) fn stop(&self) {
        self.0.send_replace(true);
    }

    /// Completes when the wait is to end.
    pub(crate) fn stopped(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut stop = self.0.subscribe();
        // It fails if there is no one left to end the wait, and then it ends, too.
        async move { _ = stop.wait_for(|stopped| *stopped).await }
    }
}
