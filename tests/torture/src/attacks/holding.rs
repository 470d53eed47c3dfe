//! Guests that never release a lock, and guests that trap: how soon the next owner has the lock.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use locket::sandbox::Limits;
use locket_tests::harness::{Host, STUCK, runtime};
use tokio::task::{JoinHandle, spawn};
use tokio::time::timeout;
use wasmtime::Trap;

use super::{in_runtime, is_awaited, millis};
use crate::attacks::support::attacker::{Answer, Attacker, Call, EXCLUSIVE, Ended, INDEFINITELY};
use crate::stage::{Context, Outcome, percentile};

/// For how long the host lets a guest hold a lock.
const LONGEST_HOLD: Duration = Duration::from_millis(200);

/// How long after that, or after a trap, the next owner must have the lock.
const LATE: Duration = Duration::from_secs(1);

/// How often each way to hold a lock is tried.
const ROUNDS: usize = 5;

/// How many guests trap.
const TRAPS: usize = 500;

/// Ways to hold a lock without releasing it.
#[derive(Clone, Copy, Debug)]
enum Method {
    /// By a plain acquire.
    Plain,
    /// By a pending acquire that was finished.
    Finished,
    /// By a pending acquire that is never polled.
    NeverPolled,
    /// By an acquire of WASI 0.3.
    Async,
}

pub(super) fn run(_: &Context) -> Result<Outcome> {
    in_runtime(2, holding())
}

async fn holding() -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let mut times = Vec::new();
    for method in [
        Method::Plain,
        Method::Finished,
        Method::NeverPolled,
        Method::Async,
    ] {
        for spins in [false, true] {
            for _ in 0..ROUNDS {
                times.push(endless(&mut outcome, method, spins).await?);
                outcome.did("endless holds", 1);
            }
        }
    }
    let longest = percentile(&mut times, 100);
    outcome.measured("a hold limited to 200 ms ended within", millis(longest));
    let mut times = Vec::new();
    for _ in 0..TRAPS {
        times.push(trap(&mut outcome).await?);
        outcome.did("traps", 1);
    }
    outcome.measured(
        "99th percentile of the time from a trap to the next owner",
        millis(percentile(&mut times, 99)),
    );
    let longest = times.last().copied().unwrap_or_default();
    outcome.must(longest < LATE, || {
        format!("the lock was free {longest:?} after a trap")
    });
    Ok(outcome)
}

/// Another guest that acquires the lock `a`; returns when, and the answer.
async fn next(host: &Host) -> Result<JoinHandle<Result<(Instant, Answer)>>> {
    let mut guest = Attacker::new(host).await?;
    let lock = guest.open("/locks/a").await?;
    Ok(spawn(async move {
        let answer = guest.acquire(lock, INDEFINITELY).await?;
        Ok((Instant::now(), answer))
    }))
}

/// How long a guest held a lock that it never releases.
async fn endless(outcome: &mut Outcome, method: Method, spins: bool) -> Result<Duration> {
    let host = Host::new();
    let limits = Limits::new().longest_hold(Some(LONGEST_HOLD));
    let mut guest = Attacker::with(&host, host.ctx().limits(limits).build()).await?;
    guest.store.set_epoch_deadline(1);
    let start = Instant::now();
    let lock = guest.open("/locks/a").await?;
    take(&mut guest, lock, method).await?;
    let mut idle = Some(guest);
    let spinning = idle.take_if(|_| spins).map(|mut guest| {
        thread::spawn(move || {
            let spun = in_runtime(1, async { Ok(guest.call(Call::Spin, [0; 4]).await) });
            (guest, spun)
        })
    });
    let (had, answer) = timeout(STUCK, next(&host).await?).await???;
    let time = had - start;
    outcome.must(answer.is_ok(), || {
        format!("{method:?}: the next owner got {answer:?}")
    });
    outcome.must(time >= LONGEST_HOLD, || {
        format!("{method:?}: held for {time:?} only")
    });
    outcome.must(time < LONGEST_HOLD + LATE, || {
        format!("{method:?}: held for {time:?}")
    });
    if let Some(thread) = spinning {
        outcome.must(!thread.is_finished(), || {
            "the guest does not loop".to_owned()
        });
        runtime().increment_epoch();
        let (_, spun) = thread.join().expect("the thread does not panic");
        let end = spun?;
        let trap = end.as_ref().err().and_then(Ended::trap);
        let interrupted = trap == Some(Trap::Interrupt);
        outcome.must(interrupted, || format!("the loop ended with {end:?}"));
    }
    Ok(time)
}

async fn take(guest: &mut Attacker, lock: u32, method: Method) -> Result<()> {
    let terms = [lock, EXCLUSIVE, INDEFINITELY[0], INDEFINITELY[1]];
    let call = match method {
        Method::Plain => Call::Acquire,
        Method::Finished | Method::NeverPolled => Call::Start,
        Method::Async => Call::AcquireAsync,
    };
    let had = guest.call(call, terms).await?;
    let had = had.map_err(|error| anyhow!("{method:?}: {error}"))?;
    if let Method::Finished = method {
        let finished = guest.finish(had).await?;
        finished.map_err(|error| anyhow!("{method:?}: {error}"))?;
    }
    Ok(())
}

/// How long it takes from the trap of a holder until the next owner has the lock.
async fn trap(outcome: &mut Outcome) -> Result<Duration> {
    let host = Host::new();
    let mut guest = Attacker::new(&host).await?;
    guest.hold("/locks/a").await?;
    let next = next(&host).await?;
    is_awaited(&host.lock("a")).await?;
    let start = Instant::now();
    let result = guest.call(Call::Trap, [0; 4]).await;
    outcome.must(result.is_err(), || format!("a trap ended with {result:?}"));
    drop(guest);
    let (had, answer) = timeout(STUCK, next).await???;
    outcome.must(answer.is_ok(), || {
        format!("after a trap the next owner got {answer:?}")
    });
    Ok(had - start)
}
