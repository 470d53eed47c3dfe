//! Ending a wait from another thread.

use std::future::{self, Future};

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

    /// Completes when the wait is to end; never, if it cannot be ended any more.
    pub(crate) fn stopped(&self) -> impl Future<Output = ()> + Send + use<> + 'static {
        let mut stopped = self.0.subscribe();
        async move {
            if stopped.wait_for(|stopped| *stopped).await.is_err() {
                future::pending::<()>().await;
            }
        }
    }
}
