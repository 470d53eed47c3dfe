//! A guest that minds its own business, and how long it has to wait while others do not.

use std::thread;
use std::time::Duration;

use anyhow::{Result, anyhow};
use locket_tests::harness::Host;
use tokio::runtime;
use tokio::time::{Instant, sleep_until};

use crate::attacks::support::attacker::{Attacker, Call, INDEFINITELY};
use crate::attacks::support::stop::Stop;

/// From one acquire to the next.
const PACE: Duration = Duration::from_millis(1);

/// How it fared.
#[derive(Debug, Default)]
pub struct Waits {
    /// How long each acquire took.
    pub acquires: Vec<Duration>,
    /// How late it was woken each time by a clock, which says how busy the machine was.
    pub late: Vec<Duration>,
}

/// Acquires and releases the lock of a path nearly a thousand times a second for as long as something
/// takes; how it fared, and what that came to.
///
/// # Errors
///
/// Where one was refused.
pub fn beside<T>(host: &Host, path: &str, act: impl FnOnce() -> T) -> Result<(Waits, T)> {
    let stop = Stop::default();
    thread::scope(|scope| {
        let guest = scope.spawn(|| {
            let runtime = runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(acquire_until(host, path, &stop))
        });
        let end = stop.when_dropped();
        let done = act();
        drop(end);
        let waits = guest.join().expect("it does not panic")?;
        Ok((waits, done))
    })
}

async fn acquire_until(host: &Host, path: &str, stop: &Stop) -> Result<Waits> {
    let mut guest = Attacker::new(host).await?;
    let lock = guest.open(path).await?;
    let mut waits = Waits::default();
    while !stop.is_due() {
        let due = Instant::now() + PACE;
        sleep_until(due).await;
        waits.late.push(due.elapsed());
        let start = Instant::now();
        let granted = guest.acquire(lock, INDEFINITELY).await?;
        waits.acquires.push(start.elapsed());
        let released = guest.call(Call::Release, [lock, 0, 0, 0]).await?;
        granted
            .and(released)
            .map_err(|error| anyhow!("the control guest got {error}"))?;
    }
    guest.keep_what_it_saw().await?;
    Ok(waits)
}
