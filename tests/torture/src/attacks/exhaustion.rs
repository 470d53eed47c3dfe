//! One guest takes all that it can get, while another keeps working.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use locket::{Engine, Guard, Mode};
use locket_tests::harness::{Host, STUCK, descriptors, engine_threads, eventually, waiters};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::pollables::{HANDLES, before_the_trap};
use super::{ask, attack_beside, millis};
use crate::attacks::support::attacker::{
    Attacker, Call, DEFAULT, EXCLUSIVE, INDEFINITELY, ONE_TRY, SHARED,
};
use crate::attacks::support::usage::{Usage, bytes};
use crate::stage::{Context, Outcome};

/// How many holds and waits a guest may have by default.
const HOLDS: u32 = 16;
const WAITS: u32 = 16;

/// For how long the crowd waits.
const WHILE: Duration = Duration::from_secs(2);

/// By how much the memory of the host may grow for one guest.
const MEMORY: u64 = 128 << 20;

/// How often a guest repeats a call that is refused.
const OFTEN: u32 = 1_000_000;

/// How often it repeats other calls.
const SELDOM: u32 = 100_000;

/// How many guests wait for one lock.
const CROWD: usize = 1_000;

pub(super) fn run(_: &Context) -> Result<Outcome> {
    let host = Host::new();
    attack_beside(&host, 1, attack(&host))
}

/// What the attacks have used so far.
struct Attack<'a> {
    host: &'a Host,
    outcome: Outcome,
    most: Usage,
}

async fn attack(host: &Host) -> Result<Outcome> {
    let mut attack = Attack::new(host);
    attack.handles().await?;
    attack.holds().await?;
    attack.waits().await?;
    attack.pollables().await?;
    let Attack {
        mut outcome, most, ..
    } = attack;
    outcome.measured("descriptors at most", most.descriptors);
    outcome.measured("threads at most", most.threads);
    outcome.measured("memory at most", bytes(most.memory));
    Ok(outcome)
}

impl<'a> Attack<'a> {
    fn new(host: &'a Host) -> Self {
        Self {
            host,
            outcome: Outcome::default(),
            most: Usage::default(),
        }
    }

    async fn handles(&mut self) -> Result<()> {
        let mut guest = Attacker::new(self.host).await?;
        guest.name("/locks/a").await?;
        self.storm("opens", guest, Call::Open, DEFAULT, OFTEN, HANDLES)
            .await?;
        let mut guest = Attacker::new(self.host).await?;
        guest.name("/locks/a").await?;
        self.storm(
            "opens and closes",
            guest,
            Call::OpenAndClose,
            DEFAULT,
            SELDOM,
            SELDOM,
        )
        .await
    }

    async fn holds(&mut self) -> Result<()> {
        let mut guest = Attacker::new(self.host).await?;
        let lock = guest.open("/locks/a").await?;
        let terms = [lock, SHARED, ONE_TRY[0], ONE_TRY[1]];
        self.storm("acquires", guest, Call::Acquire, terms, 3 * SELDOM, HOLDS)
            .await
    }

    /// Waits for locks of another process, which take a thread for each file.
    async fn waits(&mut self) -> Result<()> {
        let busy = self.busy()?;
        for call in [Call::Start, Call::AcquireAsync] {
            let mut guest = Attacker::new(self.host).await?;
            let lock = guest.open("/locks/busy-0").await?;
            ask(&mut guest, lock).await?;
            let terms = [lock, EXCLUSIVE, INDEFINITELY[0], INDEFINITELY[1]];
            self.storm("waits", guest, call, terms, SELDOM, HANDLES - 1)
                .await?;
        }
        let mut guest = Attacker::new(self.host).await?;
        for number in 0..WAITS {
            let lock = guest.open(&format!("/locks/busy-{number}")).await?;
            let terms = [lock, EXCLUSIVE, INDEFINITELY[0], INDEFINITELY[1]];
            let started = guest.call(Call::Start, terms).await?;
            started.map_err(|error| anyhow!("wait {number}: {error}"))?;
        }
        let lock = guest.open("/locks/busy-0").await?;
        let terms = [lock, EXCLUSIVE, INDEFINITELY[0], INDEFINITELY[1]];
        let left = HANDLES - 2 * WAITS - 1;
        self.storm("waits", guest, Call::Start, terms, SELDOM, left)
            .await?;
        drop(busy);
        Ok(())
    }

    /// Calls that cannot fail count as well, and trap at twice the limit on handles.
    async fn pollables(&mut self) -> Result<()> {
        let busy = self.busy()?;
        for call in [Call::Lost, Call::LostAsync, Call::Subscribe] {
            let mut guest = Attacker::new(self.host).await?;
            let lock = guest.open("/locks/busy-0").await?;
            let terms = [lock, EXCLUSIVE, INDEFINITELY[0], INDEFINITELY[1]];
            let (of, handles) = match call {
                Call::Subscribe => (guest.call(Call::Start, terms).await?, 2),
                _ => (Ok(lock), 1),
            };
            let of = of.map_err(|error| anyhow!("no wait: {error}"))?;
            let before = Usage::now()?.memory;
            let got = before_the_trap(&mut guest, call, of).await?;
            self.account(call, before)?;
            let outcome = &mut self.outcome;
            outcome.must(got == Some(2 * HANDLES - handles), || {
                format!("{call:?} succeeded {got:?} times beside {handles} handles")
            });
            outcome.did("traps at the limit", 1);
        }
        drop(busy);
        Ok(())
    }

    /// Locks that another engine holds.
    fn busy(&self) -> Result<Vec<Guard>> {
        let another = Engine::new();
        let hold = |number| {
            let path = self.host.path(&format!("busy-{number}"));
            Ok(another.open(path)?.acquire(Mode::Exclusive, None)?)
        };
        (0..WAITS).map(hold).collect()
    }

    /// Repeats a call, which may succeed only so many times; then drops the guest.
    async fn storm(
        &mut self,
        what: &str,
        mut guest: Attacker,
        call: Call,
        words: [u32; 4],
        times: u32,
        at_most: u32,
    ) -> Result<()> {
        let before = Usage::now()?.memory;
        let storm = guest.storm(call, words, times).await?;
        self.account(call, before)?;
        let refused = storm.failed_with("limit-exceeded");
        let outcome = &mut self.outcome;
        outcome.did(what, storm.all().into());
        let kept = storm.done() <= at_most && storm.done() + refused == times;
        outcome.must(kept, || {
            format!("{call:?} may succeed {at_most} times: {storm:?}")
        });
        guest.keep_what_it_saw().await?;
        Ok(())
    }

    /// Checks what the guest uses once it has all that it can get.
    fn account(&mut self, call: Call, memory_before: u64) -> Result<()> {
        let now = Usage {
            descriptors: descriptors(self.host.dir.path()),
            threads: engine_threads(),
            memory: Usage::now()?.memory.saturating_sub(memory_before),
        };
        // Those of the control guest, and of the locks of the other engine, are among them.
        let descriptors = (HANDLES + 2 * WAITS + 2) as usize;
        let kept =
            now.descriptors <= descriptors && now.threads <= WAITS as usize && now.memory <= MEMORY;
        self.outcome
            .must(kept, || format!("after {call:?} a guest uses {now:?}"));
        self.most.descriptors = self.most.descriptors.max(now.descriptors);
        self.most.threads = self.most.threads.max(now.threads);
        self.most.memory = self.most.memory.max(now.memory);
        Ok(())
    }
}

/// A thousand guests wait for one lock of another process. That takes one thread, and no other guest is
/// disturbed.
pub(super) fn crowd(_: &Context) -> Result<Outcome> {
    let host = Host::new();
    attack_beside(&host, 2, wait_in_line(&host))
}

async fn wait_in_line(host: &Host) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let held = Engine::new()
        .open(host.path("one"))?
        .acquire(Mode::Exclusive, None)?;
    let lock = host.lock("one");
    let before = Usage::now()?;
    let mut guests = JoinSet::new();
    for _ in 0..CROWD {
        let mut guest = Attacker::new(host).await?;
        let one = guest.open("/locks/one").await?;
        // A guest that gets the lock is dropped at once, so that the next one gets it.
        guests.spawn(async move { guest.acquire(one, INDEFINITELY).await });
    }
    let waiting = tokio::task::block_in_place(|| {
        eventually("all are in line", || waiters(&lock) == CROWD);
        thread::sleep(WHILE);
        engine_threads()
    });
    let now = Usage::now()?;
    outcome.must(waiting == 1, || {
        format!("{waiting} threads wait for one lock")
    });
    outcome.did("guests", CROWD as u64);
    outcome.measured("threads", now.threads - before.threads);
    let each = now.memory.saturating_sub(before.memory) / CROWD as u64;
    outcome.measured("memory of each guest", bytes(each));
    let start = Instant::now();
    held.release()?;
    while let Some(granted) = timeout(STUCK, guests.join_next()).await? {
        let granted = granted??;
        outcome.must(granted.is_ok(), || format!("one in line got {granted:?}"));
    }
    outcome.measured("all served within", millis(Some(start.elapsed())));
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attacks::in_runtime;
    use locket::sandbox::Limits;

    #[test]
    fn a_guest_that_gets_more_than_its_share_is_noticed() {
        let host = Host::new();
        let more = Limits::new().handles(HANDLES as usize + 40);
        for (limits, noticed) in [(Limits::new(), false), (more, true)] {
            let ctx = host.ctx().limits(limits).build();
            let mut attack = Attack::new(&host);
            let tried = async {
                let mut guest = Attacker::with(&host, ctx).await?;
                guest.name("/locks/a").await?;
                let times = 2 * HANDLES;
                attack
                    .storm("opens", guest, Call::Open, DEFAULT, times, HANDLES)
                    .await
            };
            in_runtime(1, tried).unwrap();
            assert_eq!(!attack.outcome.violations.is_empty(), noticed);
        }
    }
}
