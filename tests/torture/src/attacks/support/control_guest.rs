//! A well-behaved guest, and how long it waits while others attack.

use std::thread;
use std::time::Duration;

use anyhow::{Result, anyhow};
use locket_tests::harness::Host;
use tokio::runtime;
use tokio::time::{Instant, sleep_until};

use crate::attacks::support::attacker::{Attacker, Call, INDEFINITELY};
use crate::attacks::support::stop::Stop;

/// The time from one acquire to the next.
const PACE: Duration = Duration::from_millis(1);

/// What was measured.
#[derive(Debug, Default)]
pub struct Waits {
    /// How long each acquire took.
    pub acquires: Vec<Duration>,
    /// How late a clock woke it each time, which shows how busy the machine was.
    pub late: Vec<Duration>,
}

/// Acquires and releases a lock nearly a thousand times a second while `act` runs; returns the waits and
/// the result of `act`.
///
/// # Errors
///
/// An acquire or release that fails.
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
        let waits = guest.join().expect("the control guest does not panic")?;
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
