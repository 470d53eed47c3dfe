//! Guests that each hold a lock and want that of the next: one of them gets the error `deadlock`.

use std::time::{Duration, Instant};

use anyhow::Result;
use locket_tests::harness::{Host, STUCK};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{in_runtime, is_awaited, millis};
use crate::attacks::support::attacker::{Attacker, Ended, INDEFINITELY};
use crate::stage::{Context, Outcome, percentile};

/// Circles of each size.
const ROUNDS: usize = 100;

/// An error that is later than this was not immediate.
const LATE: Duration = Duration::from_secs(1);

pub(super) fn run(_: &Context) -> Result<Outcome> {
    in_runtime(2, circles())
}

async fn circles() -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let mut times = Vec::new();
    for size in [2, 3, 8] {
        for _ in 0..ROUNDS {
            times.push(circle(&mut outcome, size).await?);
            outcome.did("circles", 1);
        }
    }
    outcome.measured(
        "99th percentile of the time to the error",
        millis(percentile(&mut times, 99)),
    );
    let longest = times.last().copied().unwrap_or_default();
    outcome.must(longest < LATE, || {
        format!("an error came after {longest:?}")
    });
    Ok(outcome)
}

/// How long it takes from the last acquire to the error.
async fn circle(outcome: &mut Outcome, size: usize) -> Result<Duration> {
    let host = Host::new();
    let mut guests = Vec::new();
    for number in 0..size {
        let mut guest = Attacker::new(&host).await?;
        guest.hold(&format!("/locks/{number}")).await?;
        let next = guest
            .open(&format!("/locks/{}", (number + 1) % size))
            .await?;
        guests.push((guest, next));
    }
    let mut asking = JoinSet::new();
    let mut start = Instant::now();
    for (number, (mut guest, next)) in guests.into_iter().enumerate() {
        start = Instant::now();
        asking.spawn(async move {
            let answer = guest.acquire(next, INDEFINITELY).await?;
            // Dropping its store frees the lock that the guest before it waits for.
            let told = Instant::now();
            guest.keep_what_it_saw().await?;
            Ok::<_, Ended>((answer, told))
        });
        if number + 1 < size {
            is_awaited(&host.lock(&(number + 1).to_string())).await?;
        }
    }
    let mut told = Vec::new();
    while let Some(asked) = timeout(STUCK, asking.join_next()).await? {
        match asked?? {
            (Ok(_), _) => {}
            (Err("deadlock"), at) => told.push(at),
            (answer, _) => outcome.must(false, || format!("{size} in a circle: {answer:?}")),
        }
    }
    outcome.must(told.len() == 1, || {
        format!("{size} in a circle: {} got the error", told.len())
    });
    let told = told.first().map(|at| at.saturating_duration_since(start));
    Ok(told.unwrap_or_default())
}
