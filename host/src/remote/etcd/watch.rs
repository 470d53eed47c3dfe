//! Waiting until a key is deleted.
//!
//! A watch can end without a word, and servers have lost events. So none is waited for alone: those
//! who watch look for themselves whenever a watch ends, and from time to time.

use std::time::Duration;

use etcd_client::{Client, EventType, WatchFilterType, WatchOptions, WatchStream};
use tokio::time::{sleep, timeout};

use super::cluster::Cluster;
use super::pause::{Pause, between};

/// How long a watch is trusted that says nothing.
const TRUST: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(60));

/// Why a watch ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Ended {
    /// One of the keys was deleted.
    Deleted,
    /// Something else happened, or too long nothing.
    Look,
}

/// A watch that is begun again and again.
#[derive(Debug, Default)]
pub(super) struct Watch(Pause);

impl Watch {
    /// Watches `keys` from `revision` on.
    pub(super) async fn deletion(
        &mut self,
        cluster: &Cluster,
        keys: &[&[u8]],
        revision: i64,
    ) -> Ended {
        let mut moved = cluster.moved();
        let watching = cluster.once(Duration::MAX, |client| begin(client, keys, revision));
        let Ok(mut stream) = watching.await else {
            sleep(self.0.next()).await;
            return Ended::Look;
        };
        let trust = between(TRUST.0, TRUST.1);
        let ended = async {
            tokio::select! {
                ended = watch(&mut stream) => ended,
                _ = moved.changed() => Some(Ended::Look),
            }
        };
        match timeout(trust, ended).await {
            Ok(Some(ended)) => {
                self.0 = Pause::default();
                ended
            }
            // Not at once: a server that refuses the watch would be asked without end.
            Ok(None) => {
                sleep(self.0.next()).await;
                Ended::Look
            }
            Err(_) => Ended::Look,
        }
    }
}

async fn begin(
    client: Client,
    keys: &[&[u8]],
    revision: i64,
) -> Result<WatchStream, etcd_client::Error> {
    let options = WatchOptions::new()
        .with_start_revision(revision)
        .with_filters([WatchFilterType::NoPut]);
    let mut keys = keys.iter().map(|key| key.to_vec());
    let first = keys.next().unwrap_or_default();
    let mut client = client.watch_client();
    let mut stream = client.watch(first, Some(options.clone())).await?;
    for key in keys {
        stream.watch(key, Some(options.clone())).await?;
    }
    Ok(stream)
}

/// `None` if the stream broke, or the server gave the watch up.
async fn watch(stream: &mut WatchStream) -> Option<Ended> {
    loop {
        let message = stream.message().await.ok()??;
        let deleted = |event: &etcd_client::Event| event.event_type() == EventType::Delete;
        if message.events().iter().any(deleted) {
            return Some(Ended::Deleted);
        }
        if message.canceled() {
            return None;
        }
    }
}
