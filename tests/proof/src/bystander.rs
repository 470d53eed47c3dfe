//! A guest that minds its own business, and how long it has to wait while others do not.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use locket_tests::harness::Host;
use tokio::runtime;
use tokio::time::interval;

use crate::attacker::{Attacker, Call, FOR_EVER};

/// From one acquire to the next.
const PACE: Duration = Duration::from_millis(1);

/// Acquires and releases the lock of a path about a thousand times a second for as long as something
/// takes; how long each acquire took, and what that came to.
///
/// # Errors
///
/// Where one was refused.
pub fn beside<T>(host: &Host, path: &str, act: impl FnOnce() -> T) -> Result<(Vec<Duration>, T)> {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let guest = scope.spawn(|| {
            let runtime = runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(acquire_until(host, path, &stop))
        });
        let done = act();
        stop.store(true, Relaxed);
        let waits = guest.join().expect("it does not panic")?;
        Ok((waits, done))
    })
}

async fn acquire_until(host: &Host, path: &str, stop: &AtomicBool) -> Result<Vec<Duration>> {
    let mut guest = Attacker::new(host).await?;
    let lock = guest.open(path).await?;
    let mut waits = Vec::new();
    let mut pace = interval(PACE);
    while !stop.load(Relaxed) {
        pace.tick().await;
        let start = Instant::now();
        let granted = guest.acquire(lock, FOR_EVER).await?;
        waits.push(start.elapsed());
        let released = guest.call(Call::Release, [lock, 0, 0, 0]).await?;
        granted
            .and(released)
            .map_err(|error| anyhow!("the bystander got {error}"))?;
    }
    guest.keep_what_it_saw().await?;
    Ok(waits)
}
