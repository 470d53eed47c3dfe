//! Guests end in every possible way, thousands of times: all that they used is given back.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Result, ensure};
use locket::{LockFile, Mode};
use locket_tests::harness::{Host, STUCK, descriptors, engine_threads, eventually, waiters};

use self::endings::{ENDINGS, Ending};
use crate::attacks::support::attacker::Attacker;
use crate::attacks::support::usage::{Usage, bytes};
use crate::attacks::{in_runtime, one_of};
use crate::stage::{Context, Outcome};

mod endings;

/// How many guests end.
const CYCLES: u64 = 20_000;

/// How many end before the first measurement, when everything that is kept has been allocated.
const WARM_UP: u64 = 5_000;

/// By how much the memory may have grown afterwards, because an allocator cannot give back gaps between
/// blocks in use. If each guest leaked a hundred bytes, it would be more.
const GROWTH: u64 = 1 << 20;

pub(crate) fn run(context: &Context) -> Result<Outcome> {
    in_runtime(1, leaks(context))
}

async fn leaks(context: &Context) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let mut chance = context.chance(0);
    let mut fixture = Fixture::new().await?;
    context.progress.set_length(WARM_UP + CYCLES);
    fixture.ends(context, &mut chance, WARM_UP).await?;
    let before = fixture.rest()?;
    let names = fixture.names()?;
    let endings = fixture.ends(context, &mut chance, CYCLES).await?;
    let after = fixture.rest()?;
    outcome.did("guests", CYCLES);
    outcome.did("ways to end", endings.len() as u64);
    outcome.must(endings.len() == ENDINGS.len(), || {
        format!("only {endings:?}")
    });
    let now = fixture.names()?;
    outcome.must(now == names, || {
        format!("there were {names:?}, and are {now:?}")
    });
    outcome.violations.extend(leaked(before, after));
    outcome.measured("descriptors", after.descriptors);
    outcome.measured("threads", after.threads);
    outcome.measured("memory", bytes(after.memory));
    let growth = after.memory.saturating_sub(before.memory);
    outcome.measured("growth of memory", bytes(growth));
    Ok(outcome)
}

/// What was not given back.
fn leaked(before: Usage, after: Usage) -> Option<String> {
    let kept = after.descriptors == before.descriptors
        && after.threads == before.threads
        && after.memory <= before.memory + GROWTH;
    (!kept).then(|| format!("{before:?} before, {after:?} afterwards"))
}

/// A host with the lock `a`, opened in the engine of the guests and in another one.
struct Fixture {
    host: Host,
    near: LockFile,
    far: LockFile,
    /// A guest that lives on and releases what it has.
    resident: Attacker,
    resources: usize,
}

impl Fixture {
    async fn new() -> Result<Self> {
        let host = Host::new();
        let mut resident = Attacker::new(&host).await?;
        Ok(Self {
            near: host.lock("a"),
            far: host.foreign("a"),
            resources: resident.store.data_mut().resources(),
            resident,
            host,
        })
    }

    /// What is used once all threads and descriptors of the engine are gone.
    fn rest(&self) -> Result<Usage> {
        eventually("the threads end", || engine_threads() == 0);
        // Those of `near` and `far`, and the one that the engine keeps for its next wait.
        eventually("the descriptors are closed", || {
            descriptors(self.host.dir.path()) == 3
        });
        Ok(Usage::now()?)
    }

    fn names(&self) -> Result<BTreeSet<String>> {
        let entries = fs::read_dir(self.host.dir.path())?;
        let name = |entry: std::io::Result<fs::DirEntry>| {
            Ok(entry?.file_name().to_string_lossy().into_owned())
        };
        entries.map(name).collect()
    }

    /// Ends so many guests; returns the ways in which they ended.
    async fn ends(
        &mut self,
        context: &Context,
        chance: &mut fastrand::Rng,
        times: u64,
    ) -> Result<BTreeSet<Ending>> {
        let mut endings = BTreeSet::new();
        for _ in 0..times {
            let ending = one_of(chance, &ENDINGS);
            endings.insert(ending);
            let ended = self.end(ending, chance).await;
            ended.map_err(|error| error.context(format!("{ending:?}")))?;
            let left = self.nothing_is_left();
            left.map_err(|error| error.context(format!("after {ending:?}")))?;
            context.progress.inc(1);
        }
        Ok(endings)
    }

    fn nothing_is_left(&mut self) -> Result<()> {
        let waiting = waiters(&self.near);
        ensure!(waiting == 0, "{waiting} wait");
        self.nothing_is_held()?;
        let left = self.resident.store.data_mut().resources();
        ensure!(left == self.resources, "{left} resources");
        Ok(())
    }

    /// A thread whose wait is canceled may be granted the lock at that moment, and then releases it at
    /// once. So this waits.
    fn nothing_is_held(&self) -> Result<()> {
        Ok(self.far.acquire(Mode::Exclusive, STUCK)?.release()?)
    }
}

#[cfg(test)]
mod tests {
    use super::endings::ok;
    use super::*;
    use crate::attacks::support::attacker::{Call, EXCLUSIVE, INDEFINITELY};

    #[test]
    fn a_leak_is_noticed() {
        let before = Usage::now().unwrap();
        assert_eq!(leaked(before, before), None);
        let file = fs::File::open("/dev/null").unwrap();
        let after = Usage::now().unwrap();
        assert!(
            leaked(
                Usage {
                    threads: before.threads,
                    memory: 0,
                    ..after
                },
                before
            )
            .is_some()
        );
        drop(file);
        let threads = before.threads + 1;
        assert!(leaked(before, Usage { threads, ..before }).is_some());
        let memory = before.memory + 2 * GROWTH;
        assert!(leaked(before, Usage { memory, ..before }).is_some());
    }

    #[test]
    fn a_guest_that_stays_in_line_is_noticed() {
        let left = async {
            let mut fixture = Fixture::new().await?;
            fixture.nothing_is_left()?;
            let held = fixture.far.acquire(Mode::Exclusive, None)?;
            let lock = fixture.resident.open("/locks/a").await?;
            let terms = [lock, EXCLUSIVE, INDEFINITELY[0], INDEFINITELY[1]];
            ok(fixture.resident.call(Call::Start, terms).await?)?;
            let left = fixture.nothing_is_left();
            drop(held);
            Ok(left)
        };
        assert!(in_runtime(1, left).unwrap().is_err());
    }
}
