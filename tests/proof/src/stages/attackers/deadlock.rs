//! Guests that hold a lock each and want that of the next: the last one to ask is told.

use std::time::{Duration, Instant};

use anyhow::Result;
use locket_tests::harness::{Host, STUCK, waiters};
use tokio::time::timeout;

use super::{in_runtime, millis};
use crate::attacker::{Attacker, FOR_EVER};
use crate::stage::{Context, Outcome, percentile};

/// Circles of each size.
const ROUNDS: usize = 100;

/// Who is told later than that had to wait.
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
    outcome.measured("99 % told within", millis(percentile(&mut times, 99)));
    let longest = times.last().copied().unwrap_or_default();
    outcome.must(longest < LATE, || format!("one was told after {longest:?}"));
    Ok(outcome)
}

/// How long it takes until the guest is told that closes the circle.
async fn circle(outcome: &mut Outcome, size: usize) -> Result<Duration> {
    let host = Host::new();
    let mut waiting = Vec::new();
    let mut last = None;
    for number in 0..size {
        let mut guest = Attacker::new(&host).await?;
        guest.hold(&format!("/locks/{number}")).await?;
        let next = (number + 1) % size;
        let wanted = guest.open(&format!("/locks/{next}")).await?;
        if next == 0 {
            last = Some((guest, wanted));
        } else {
            waiting.push((guest, wanted));
        }
    }
    let mut tasks = Vec::new();
    for (number, (mut guest, wanted)) in waiting.into_iter().enumerate() {
        tasks.push(tokio::spawn(async move {
            let answer = guest.acquire(wanted, FOR_EVER).await;
            // The lock that the next one waits for is free once this store is dropped.
            drop(guest);
            answer
        }));
        let lock = host.lock(&(number + 1).to_string());
        let in_line = async {
            while waiters(&lock) == 0 {
                tokio::task::yield_now().await;
            }
        };
        timeout(STUCK, in_line).await?;
    }
    let (mut guest, wanted) = last.expect("somebody closes the circle");
    let start = Instant::now();
    let answer = timeout(STUCK, guest.acquire(wanted, FOR_EVER)).await??;
    let time = start.elapsed();
    outcome.must(answer == Err("deadlock"), || {
        format!("{size} in a circle: {answer:?}")
    });
    guest.keep_what_it_saw().await?;
    drop(guest);
    for task in tasks {
        let answer = timeout(STUCK, task).await???;
        outcome.must(answer.is_ok(), || {
            format!("{size} in a circle: another got {answer:?}")
        });
    }
    Ok(time)
}
