//! Guests that enter a queue and leave it, again and again, for a lock that another guest needs.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use locket::sandbox::Limits;
use locket_tests::harness::{Host, STUCK};
use tokio::time::timeout;

use super::{compare, in_runtime, millis};
use crate::attacks::support::attacker::{Attacker, Call, EXCLUSIVE, INDEFINITELY};
use crate::attacks::support::control_guest::beside;
use crate::attacks::support::stop::Stop;
use crate::stage::{Context, Outcome};

/// For how long.
const WHILE: Duration = Duration::from_secs(4);

/// How many guests do it.
const ATTACKERS: usize = 2;

/// For how long the host lets a guest hold a lock.
const LONGEST_HOLD: Duration = Duration::from_millis(100);

/// How many waits a guest may have, by default.
const WAITS: u32 = 16;

pub(super) fn run(_: &Context) -> Result<Outcome> {
    let host = Host::new();
    // First the same with another lock, because the cost of that is not the queue's fault.
    let (normal, elsewhere) = beside(&host, "/locks/shared", || storm(&host, "/locks/else"))?;
    let (attacked, begun) = beside(&host, "/locks/shared", || storm(&host, "/locks/shared"))?;
    let mut outcome = Outcome::default();
    outcome.did("acquires begun and abandoned", elsewhere? + begun?);
    compare(&mut outcome, normal, attacked);
    let time = in_runtime(1, never_polled())?;
    outcome.measured(
        "wait behind 16 holds of 100 ms that are never polled",
        millis(Some(time)),
    );
    let longest = LONGEST_HOLD * WAITS + Duration::from_secs(1);
    outcome.must(time < longest, || {
        format!("behind guests that never poll: {time:?}")
    });
    Ok(outcome)
}

/// Guests begin to acquire a lock and abandon that; returns how often.
fn storm(host: &Host, path: &str) -> Result<u64> {
    let (stop, begun) = (Stop::default(), AtomicU64::new(0));
    thread::scope(|scope| {
        let attacker = || in_runtime(1, begin_and_abandon(host, path, &stop, &begun));
        let end = stop.when_dropped();
        let attackers: Vec<_> = (0..ATTACKERS).map(|_| scope.spawn(attacker)).collect();
        thread::sleep(WHILE);
        drop(end);
        attackers
            .into_iter()
            .try_for_each(|thread| thread.join().expect("no attacker panics"))
    })?;
    Ok(begun.into_inner())
}

async fn begin_and_abandon(host: &Host, path: &str, stop: &Stop, begun: &AtomicU64) -> Result<()> {
    const BATCH: u32 = 100;
    let mut guest = Attacker::new(host).await?;
    let lock = guest.open(path).await?;
    let terms = [lock, EXCLUSIVE, INDEFINITELY[0], INDEFINITELY[1]];
    while !stop.is_due() {
        let storm = guest.storm(Call::StartAndAbandon, terms, BATCH).await?;
        anyhow::ensure!(storm.done() == BATCH, "a storm ended with {storm:?}");
        begun.fetch_add(BATCH.into(), Relaxed);
    }
    guest.keep_what_it_saw().await?;
    Ok(())
}

/// How long a guest waits behind all the waits that another guest may have and never polls. Each of these
/// is granted, and ends by the limit of the host.
async fn never_polled() -> Result<Duration> {
    let host = Host::new();
    let limits = Limits::new().longest_hold(Some(LONGEST_HOLD));
    let mut guest = Attacker::with(&host, host.ctx().limits(limits).build()).await?;
    let lock = guest.open("/locks/shared").await?;
    for _ in 0..WAITS {
        let terms = [lock, EXCLUSIVE, INDEFINITELY[0], INDEFINITELY[1]];
        let started = guest.call(Call::Start, terms).await?;
        started.map_err(|error| anyhow!("no wait: {error}"))?;
    }
    let mut other = Attacker::new(&host).await?;
    let lock = other.open("/locks/shared").await?;
    let start = Instant::now();
    let granted = timeout(STUCK, other.acquire(lock, INDEFINITELY)).await??;
    granted.map_err(|error| anyhow!("behind guests that never poll: {error}"))?;
    Ok(start.elapsed())
}
