//! Databases of the host that another program has made or replaced, and guests that lock in them. No
//! call takes too long, nothing is created elsewhere, and no other tenant is disturbed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use locket::Engine;
use locket_tests::harness::Host;
use tempfile::TempDir;

use self::guest::{Guest, Timed};
use super::tenants::second::SecondTenant;
use super::{in_runtime, millis};
use crate::attacks::support::attacker::{Call, ONE_TRY};
use crate::attacks::support::canary::Canary;
use crate::attacks::support::database::{KINDS, make};
use crate::attacks::support::usage::{Usage, bytes};
use crate::stage::{Context, Outcome};

mod guest;
mod territory;

/// How long a call may take beyond its timeout, or at all if it has none.
const LATE: Duration = Duration::from_millis(100);

/// How often a database is tried if there are violations.
const TRIES: usize = 3;

/// Calls that take longer than this are no longer awaited.
const ENDLESS: Duration = Duration::from_secs(60);

/// By how much the memory may grow for one database.
const MEMORY: u64 = 64 << 20;

/// The timeouts of waits, in milliseconds.
const WAIT: u32 = 150;

/// For how long the other tenant is measured while nothing attacks.
const USUALLY: Duration = Duration::from_secs(2);

pub(super) fn run(_: &Context) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    territory::must_not_meet(&mut outcome, territory::one)?;
    territory::is_forgotten(&mut outcome)?;
    let host = Host::new();
    let second = SecondTenant::beside(&host);
    let (usual, ()) = second.watch(|| thread::sleep(USUALLY))?;
    let usual = usual.check(&mut outcome, "usually", None);
    let plain = tempfile::tempdir()?;
    // Kept, because an engine knows directories by their numbers, which the system uses again.
    let mut fixtures = Vec::new();
    let mut latest = Duration::ZERO;
    for kind in KINDS {
        let fixture = Arc::new(Fixture::new(&host.locks, kind, plain.path())?);
        let (late, attempt) = fixture.attempts(&second, usual.own)?;
        latest = latest.max(late);
        outcome.violations.extend(attempt.violations);
        for (what, times) in attempt.amounts {
            outcome.did(&what, times);
        }
        outcome.did("databases", 1);
        fixtures.push(fixture);
    }
    outcome.measured("a call was late by at most", millis(Some(latest)));
    Ok(outcome)
}

/// A database of a kind, a directory of guests, and a directory elsewhere.
struct Fixture {
    kind: &'static str,
    engine: Engine,
    root: TempDir,
    /// A harmless one.
    plain: PathBuf,
    elsewhere: Canary,
}

impl Fixture {
    fn new(engine: &Engine, kind: &'static str, plain: &Path) -> Result<Self> {
        let root = tempfile::tempdir()?;
        for dir in ["granted", "elsewhere", "kept", "hostile"] {
            fs::create_dir(root.path().join(dir))?;
        }
        let key = root
            .path()
            .join("granted")
            .canonicalize()?
            .join("lock.lock");
        if !plain.join("db").exists() {
            make(KINDS[0], &plain.join("db"), &key)?;
        }
        make(kind, &root.path().join("hostile/db"), &key)?;
        Ok(Self {
            elsewhere: Canary::of(&root.path().join("elsewhere"), &[])?,
            engine: engine.clone(),
            plain: plain.to_owned(),
            kind,
            root,
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Replaces the database of the host by a copy of what was made.
    fn put(&self, made: &Path) -> Result<()> {
        for old in fs::read_dir(self.path("kept"))? {
            let old = old?.path();
            match fs::symlink_metadata(&old)?.is_dir() {
                true => fs::remove_dir_all(&old)?,
                false => fs::remove_file(&old)?,
            }
        }
        // Copies the journal as well, and links and pipes as such.
        let copied = Command::new("cp")
            .args(["-R", "--no-dereference", "--"])
            .args([made.join("."), self.path("kept")])
            .status()?;
        ensure!(copied.success(), "{} cannot be copied", made.display());
        Ok(())
    }

    /// Runs the guests and measures the other tenant. Violations may be the fault of the machine, so it
    /// tries again; returns how late a call was at most, and the outcome of the best attempt.
    fn attempts(
        self: &Arc<Self>,
        second: &SecondTenant,
        usual: Option<Duration>,
    ) -> Result<(Duration, Outcome)> {
        let mut best: Option<(Duration, Outcome)> = None;
        for _ in 0..TRIES {
            let mut attempt = Outcome::default();
            let memory = Usage::now()?.memory;
            let fixture = Arc::clone(self);
            let (observed, calls) = second.watch(|| within(ENDLESS, move || fixture.calls()))?;
            let calls = calls.with_context(|| self.kind)?;
            observed.check(&mut attempt, self.kind, usual);
            self.check(&mut attempt, &calls, memory)?;
            let latest = calls.iter().map(|call| call.late).max();
            let latest = latest.unwrap_or_default();
            let broken = attempt.violations.len();
            if best
                .as_ref()
                .is_none_or(|(_, best)| broken < best.violations.len())
            {
                best = Some((latest, attempt));
            }
            if broken == 0 {
                break;
            }
        }
        best.context("no attempt")
    }

    /// Checks the calls; `memory` is what was used before.
    fn check(&self, outcome: &mut Outcome, calls: &[Timed], memory: u64) -> Result<()> {
        outcome.did("calls", calls.len() as u64);
        let late: Vec<_> = calls.iter().filter(|call| call.late > LATE).collect();
        outcome.must(late.is_empty(), || {
            let told = late
                .iter()
                .map(|call| format!("{} by {:?}", call.what, call.late));
            let told = told.collect::<Vec<_>>().join(", ");
            format!("{}: calls were late: {told}", self.kind)
        });
        // Everything works with a harmless one.
        if self.kind == KINDS[0] {
            let works = |call: &&Timed| ["open", "acquire", "wait"].contains(&call.what);
            let failed = calls.iter().filter(works).find(|call| call.answer.is_err());
            outcome.must(failed.is_none(), || format!("{}: {failed:?}", self.kind));
        }
        let grown = Usage::now()?.memory.saturating_sub(memory);
        outcome.must(grown <= MEMORY, || {
            format!("{}: the memory grew by {}", self.kind, bytes(grown))
        });
        let elsewhere = Canary::of(&self.path("elsewhere"), &[])?.changes(&self.elsewhere);
        let elsewhere = elsewhere
            .into_iter()
            .map(|what| format!("{}: {what}", self.kind));
        outcome.violations.extend(elsewhere);
        Ok(())
    }

    async fn guest(&self) -> Result<Guest> {
        Guest::new(&self.engine, &self.path("granted"), &self.path("kept/db")).await
    }

    /// Makes all calls of guests, before and after the database is replaced.
    fn calls(&self) -> Result<Vec<Timed>> {
        in_runtime(1, async {
            self.put(&self.path("hostile"))?;
            let mut guest = self.guest().await?;
            if guest.open().await? {
                guest.ask().await?;
                guest.acquire("acquire", ONE_TRY).await?;
                guest.call("release", Call::Release).await?;
                guest.acquire("wait", [1, WAIT]).await?;
                guest.ask().await?;
                guest.call("release", Call::Release).await?;
                guest.call("close", Call::Close).await?;
            }
            guest.call("break", Call::Break).await?;
            let mut calls = guest.calls;
            // The lock is held and awaited when the database is replaced.
            self.put(&self.plain)?;
            let mut guest = self.guest().await?;
            ensure!(guest.open().await?, "{:?}", guest.calls);
            guest.acquire("acquire", ONE_TRY).await?;
            let mut waiter = self.guest().await?;
            ensure!(waiter.open().await?, "{:?}", waiter.calls);
            waiter.begin_to_wait().await?;
            self.put(&self.path("hostile"))?;
            waiter.end_wait().await?;
            guest.ask().await?;
            guest.call("release", Call::Release).await?;
            guest.acquire("acquire again", ONE_TRY).await?;
            guest.acquire("wait again", [1, WAIT]).await?;
            guest.call("release", Call::Release).await?;
            guest.call("close", Call::Close).await?;
            waiter.call("close", Call::Close).await?;
            calls.extend(guest.calls);
            calls.extend(waiter.calls);
            Ok(calls)
        })
    }
}

/// Does something on a thread of its own, which is abandoned if it does not end.
fn within<T: Send + 'static>(
    limit: Duration,
    act: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let (sender, done) = mpsc::channel();
    thread::spawn(move || sender.send(act()));
    let done = done.recv_timeout(limit);
    done.map_err(|_| anyhow!("the calls have not returned after {limit:?}"))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_is_late_is_noticed() {
        let plain = tempfile::tempdir().unwrap();
        let fixture = Fixture::new(&Engine::new(), KINDS[0], plain.path()).unwrap();
        let noticed = |late, answer| {
            let mut outcome = Outcome::default();
            let what = "acquire";
            let call = Timed { what, answer, late };
            let memory = Usage::now().unwrap().memory;
            fixture.check(&mut outcome, &[call], memory).unwrap();
            outcome.violations.len()
        };
        assert_eq!(noticed(LATE, Ok(0)), 0);
        assert_eq!(noticed(LATE * 2, Ok(0)), 1);
        assert_eq!(noticed(LATE, Err("io")), 1);
        fs::write(fixture.path("elsewhere/made"), "").unwrap();
        assert_eq!(noticed(LATE, Ok(0)), 1);
        let endless = within(LATE, || {
            thread::sleep(LATE * 2);
            Ok(())
        });
        assert!(endless.is_err());
    }
}
