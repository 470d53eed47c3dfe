//! Each limit of a guest: the documented number succeeds, one more fails with the documented error, and
//! what the guest gives back no longer counts.

use std::time::Duration;

use anyhow::{Result, anyhow};
use locket::Mode;
use locket::sandbox::Limits;
use locket_tests::harness::Host;
use tokio::time::sleep;

use super::in_runtime;
use crate::attacks::support::attacker::{
    Answer, Attacker, Call, DEFAULT, EXCLUSIVE, INDEFINITELY, ONE_TRY, SHARED,
};
use crate::stage::{Context, Outcome};

/// The documented defaults.
const HANDLES: u32 = 64;
const HELD: u32 = 16;
const WAITERS: u32 = 16;

/// The longest wait and the longest hold of a guest that has such limits.
const LONGEST: Duration = Duration::from_millis(200);

/// How late an end may be on a busy machine.
const LATE: Duration = Duration::from_secs(1);

/// More than any limit, to switch off those that are not tested.
const PLENTY: usize = 10_000;

/// The error beyond a limit.
const EXCEEDED: &str = "limit-exceeded";

/// The answer of a pending acquire without a guard yet.
const WAITS: Answer = Ok(0);

mod others;

pub(super) fn run(_: &Context) -> Result<Outcome> {
    in_runtime(1, async {
        let mut quotas = Quotas::default();
        quotas.locks(Limits::new()).await?;
        quotas.pendings().await?;
        quotas.guards().await?;
        quotas.pollables().await?;
        quotas.both().await?;
        quotas.held().await?;
        quotas.waiters().await?;
        quotas.created().await?;
        quotas.path_length().await?;
        quotas.longest_wait().await?;
        quotas.longest_hold().await?;
        Ok(quotas.outcome)
    })
}

#[derive(Default)]
struct Quotas {
    host: Host,
    outcome: Outcome,
}

/// What a guest repeats until its limit is reached.
#[derive(Clone, Copy, Debug)]
struct Step {
    call: Call,
    words: [u32; 4],
    /// How often that must succeed.
    most: u32,
}

impl Quotas {
    async fn guest(&self, limits: Limits) -> Result<Attacker> {
        let ctx = self.host.ctx().limits(limits).label("guest");
        Attacker::with(&self.host, ctx.build()).await
    }

    fn must(&mut self, kept: bool, what: &str, came: impl std::fmt::Debug) {
        self.outcome.did("assertions", 1);
        self.outcome.must(kept, || format!("{what}: {came:?}"));
    }

    /// Repeats a step as often as it must succeed; returns the answers.
    async fn fill(&mut self, guest: &mut Attacker, step: Step) -> Result<Vec<u32>> {
        let mut all = Vec::new();
        for number in 1..=step.most {
            let answer = guest.call(step.call, step.words).await?;
            let what = format!("number {number} of {step:?}");
            self.must(answer.is_ok(), &what, answer);
            all.extend(answer.ok());
        }
        Ok(all)
    }

    /// Repeats a step as often as it must succeed, and once more, which must fail.
    async fn exhaust(&mut self, guest: &mut Attacker, step: Step) -> Result<Vec<u32>> {
        let all = self.fill(guest, step).await?;
        self.must_answer(guest, (step.call, step.words), Err(EXCEEDED))
            .await?;
        Ok(all)
    }

    /// Makes one call too many that cannot return an error, and so must trap.
    async fn must_trap(&mut self, guest: &mut Attacker, step: Step) {
        let beyond = guest.call(step.call, step.words).await;
        let told = beyond.as_ref().err().map(ToString::to_string);
        let limit = told.is_some_and(|told| told.contains("twice as many handles"));
        self.must(limit, &format!("one beyond {step:?}"), beyond);
    }

    /// Gives one back, by a call that must succeed; after that there is room for one.
    async fn give_back(
        &mut self,
        guest: &mut Attacker,
        (call, handle): (Call, u32),
        step: Step,
    ) -> Result<Vec<u32>> {
        self.must_answer(guest, (call, of(handle)), Ok(0)).await?;
        self.exhaust(guest, Step { most: 1, ..step }).await
    }

    async fn must_answer(
        &mut self,
        guest: &mut Attacker,
        (call, words): (Call, [u32; 4]),
        expected: Answer,
    ) -> Result<()> {
        let answer = guest.call(call, words).await?;
        let what = format!("{call:?} {words:?}, {expected:?} expected");
        self.must(answer == expected, &what, answer);
        Ok(())
    }

    async fn locks(&mut self, limits: Limits) -> Result<()> {
        let mut guest = self.guest(limits).await?;
        guest.name("/locks/a").await?;
        let step = step(Call::Open, DEFAULT, HANDLES);
        let locks = self.exhaust(&mut guest, step).await?;
        self.give_back(&mut guest, (Call::Close, last(&locks)?), step)
            .await?;
        Ok(())
    }

    async fn pendings(&mut self) -> Result<()> {
        let mut guest = self.guest(Limits::new()).await?;
        let held = self.host.foreign("busy").acquire(Mode::Exclusive, None)?;
        let lock = guest.open("/locks/busy").await?;
        let step = step(
            Call::Start,
            acquire(lock, EXCLUSIVE, INDEFINITELY),
            HANDLES - 1,
        );
        let pendings = self.exhaust(&mut guest, step).await?;
        // The last ones have no wait, but count as well.
        for pending in [pendings.first(), pendings.last()].into_iter().flatten() {
            self.give_back(&mut guest, (Call::Abandon, *pending), step)
                .await?;
        }
        held.release()?;
        Ok(())
    }

    /// Those of WASI 0.3, each of which is a handle and a hold.
    async fn guards(&mut self) -> Result<()> {
        let mut guest = self.guest(Limits::new().held(PLENTY)).await?;
        let lock = guest.open("/locks/a").await?;
        let step = step(
            Call::AcquireAsync,
            acquire(lock, SHARED, ONE_TRY),
            HANDLES - 1,
        );
        let guards = self.exhaust(&mut guest, step).await?;
        for (call, guard) in [Call::GuardDrop, Call::GuardRelease].iter().zip(guards) {
            self.give_back(&mut guest, (*call, guard), step).await?;
        }
        Ok(())
    }

    /// Up to twice the limit.
    async fn pollables(&mut self) -> Result<()> {
        let held = self.host.foreign("busy").acquire(Mode::Exclusive, None)?;
        for call in [Call::Lost, Call::LostAsync, Call::Subscribe] {
            let mut guest = self.guest(Limits::new()).await?;
            let lock = guest.open("/locks/busy").await?;
            let (handle, others) = match call {
                Call::Subscribe => {
                    let terms = acquire(lock, EXCLUSIVE, INDEFINITELY);
                    (started(&mut guest, terms).await?, 2)
                }
                _ => (lock, 1),
            };
            let step = step(call, of(handle), 2 * HANDLES - others);
            let pollables = self.fill(&mut guest, step).await?;
            let one = last(&pollables)?;
            match call {
                Call::LostAsync => guest.cancel(one).await?,
                _ => {
                    let drop = (Call::PollableDrop, of(one));
                    self.must_answer(&mut guest, drop, Ok(0)).await?;
                }
            }
            // They take room from handles that are limited to half of it.
            guest.name("/locks/a").await?;
            let open = (Call::Open, DEFAULT);
            self.must_answer(&mut guest, open, Err(EXCEEDED)).await?;
            let step = Step { most: 1, ..step };
            self.fill(&mut guest, step).await?;
            self.must_trap(&mut guest, step).await;
        }
        held.release()?;
        Ok(())
    }

    /// Pollables, and guards of pending acquires that are finished: together, up to twice the limit.
    async fn both(&mut self) -> Result<()> {
        const FEW: u32 = 4;
        let limits = Limits::new().handles(FEW as usize);
        let mut guest = self.guest(limits).await?;
        let lock = guest.open("/locks/a").await?;
        let start = step(Call::Start, acquire(lock, SHARED, INDEFINITELY), FEW - 1);
        let pendings = self.exhaust(&mut guest, start).await?;
        let pending = last(&pendings)?;
        let subscribe = step(Call::Subscribe, of(pending), FEW - 1);
        let pollables = self.fill(&mut guest, subscribe).await?;
        let mut came = Vec::new();
        for pending in &pendings[..2] {
            came.push(guest.finish(*pending).await?);
        }
        let kept = matches!(came[..], [Ok(guard), Err(EXCEEDED)] if guard != 0);
        self.must(kept, "two are finished where one has room", came);
        let drop = (Call::PollableDrop, of(last(&pollables)?));
        self.must_answer(&mut guest, drop, Ok(0)).await?;
        let finished = guest.finish(pending).await?;
        let kept = finished.is_ok_and(|guard| guard != 0);
        self.must(kept, "one is finished in its place", finished);
        self.must_trap(&mut guest, subscribe).await;
        Ok(())
    }

    async fn held(&mut self) -> Result<()> {
        let mut guest = self.guest(Limits::new()).await?;
        let lock = guest.open("/locks/a").await?;
        let step = step(Call::Acquire, acquire(lock, SHARED, ONE_TRY), HELD);
        self.exhaust(&mut guest, step).await?;
        self.give_back(&mut guest, (Call::Release, lock), step)
            .await?;
        let other = guest.open("/locks/b").await?;
        let words = acquire(other, SHARED, ONE_TRY);
        let another = (Call::Acquire, words);
        self.must_answer(&mut guest, another, Err(EXCEEDED)).await?;
        // What is held through it is released with it.
        let close = (Call::Close, of(lock));
        self.must_answer(&mut guest, close, Ok(0)).await?;
        self.exhaust(&mut guest, Step { words, ..step }).await?;
        // Lost holds no longer count, although the guest has not released them.
        let mut guest = self
            .guest(Limits::new().longest_hold(Some(LONGEST)))
            .await?;
        let lock = guest.open("/locks/c").await?;
        for _ in 0..2 {
            let words = acquire(lock, SHARED, ONE_TRY);
            self.exhaust(&mut guest, Step { words, ..step }).await?;
            sleep(LONGEST + LATE / 2).await;
        }
        Ok(())
    }

    async fn waiters(&mut self) -> Result<()> {
        let mut guest = self.guest(Limits::new()).await?;
        let held = self.host.foreign("busy").acquire(Mode::Exclusive, None)?;
        let lock = guest.open("/locks/busy").await?;
        let terms = acquire(lock, EXCLUSIVE, INDEFINITELY);
        let mut pendings = Vec::new();
        for _ in 0..WAITERS {
            let pending = started(&mut guest, terms).await?;
            self.must_answer(&mut guest, (Call::Finish, of(pending)), WAITS)
                .await?;
            pendings.push(pending);
        }
        for given_back in pendings {
            let beyond = started(&mut guest, terms).await?;
            for too_many in [(Call::Finish, of(beyond)), (Call::Acquire, terms)] {
                self.must_answer(&mut guest, too_many, Err(EXCEEDED))
                    .await?;
            }
            // A free lock can still be acquired.
            let free = guest.hold("/locks/free").await?;
            for back in [
                (Call::Close, of(free)),
                (Call::Abandon, of(beyond)),
                (Call::Abandon, of(given_back)),
            ] {
                self.must_answer(&mut guest, back, Ok(0)).await?;
            }
            let another = started(&mut guest, terms).await?;
            self.must_answer(&mut guest, (Call::Finish, of(another)), WAITS)
                .await?;
        }
        held.release()?;
        Ok(())
    }
}

fn step(call: Call, words: [u32; 4], most: u32) -> Step {
    Step { call, words, most }
}

/// The arguments of a call that takes a handle alone.
fn of(handle: u32) -> [u32; 4] {
    [handle, 0, 0, 0]
}

/// The arguments of an acquire.
fn acquire(lock: u32, mode: u32, timeout: [u32; 2]) -> [u32; 4] {
    [lock, mode, timeout[0], timeout[1]]
}

async fn started(guest: &mut Attacker, terms: [u32; 4]) -> Result<u32> {
    let started = guest.call(Call::Start, terms).await?;
    started.map_err(|error| anyhow!("no acquire is started: {error}"))
}

fn last(handles: &[u32]) -> Result<u32> {
    let last = handles.last().copied();
    last.ok_or_else(|| anyhow!("there is no handle"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_is_one_off_is_noticed() {
        for (limit, noticed) in [(HANDLES, false), (HANDLES - 1, true), (HANDLES + 1, true)] {
            let mut quotas = Quotas::default();
            let limits = Limits::new().handles(limit as usize);
            in_runtime(1, quotas.locks(limits)).unwrap();
            let violations = quotas.outcome.violations;
            assert_eq!(!violations.is_empty(), noticed, "{violations:?}");
        }
    }
}
