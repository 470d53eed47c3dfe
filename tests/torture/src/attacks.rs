//! Hostile guests: a part for each threat.

use std::ops::Range;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::Result;
use locket::sandbox::Rights;
use locket::{Engine, Guard, LockFile, Mode, Options, Protocol};
use locket_tests::harness::{Host, STUCK, waiters};
use locket_wasmtime::LocketCtx;
use tokio::time::timeout;

use crate::attacks::support::attacker::{Answer, Attacker, Call, DEFAULT, ONE_TRY};
use crate::attacks::support::control_guest::{Waits, beside};
use crate::stage::{Context, Outcome, Stage, percentile};

mod children;
mod created;
mod databases;
mod deadlock;
mod exhaustion;
mod files;
mod handles;
mod holding;
mod paths;
mod pollables;
mod probing;
mod quotas;
mod removal;
mod secrets;
mod special;
mod storms;
pub mod support;
mod swaps;
mod takeover;
mod tenants;

/// Takes long and is not measured, so that others can run beside it.
static SWAPS: Stage = Stage {
    name: "swaps",
    what: "a path is exchanged for links that lead out while guests open it",
    promise: "nothing outside is opened or changed",
    run: swaps::run,
};

/// The parts that run beside it.
const PARTS: &[Stage] = &[
    Stage {
        name: "paths",
        what: "paths that lead out of the grant, and random strings",
        promise: "refused, or inside; nothing outside changes, and no file with content inside",
        run: paths::run,
    },
    Stage {
        name: "files",
        what: "foreign files under the names of lock files",
        promise: "content, size, mode and times stay",
        run: files::run,
    },
    Stage {
        name: "removal",
        what: "lock files that guests have removed on release",
        promise: "only empty, free lock files go, and only with the right",
        run: removal::run,
    },
    Stage {
        name: "takeover",
        what: "locks of living holders, attacked by removal and by false owner records",
        promise: "every holder keeps its lock",
        run: takeover::run,
    },
    Stage {
        name: "probing",
        what: "queries through an open lock whose path leads outside by now",
        promise: "answers do not depend on what is outside, and nothing there is opened",
        run: probing::run,
    },
    Stage {
        name: "quotas",
        what: "every limit of the table of limits, used up",
        promise: "exactly as many as documented, and the documented error",
        run: quotas::run,
    },
    Stage {
        name: "special files",
        what: "pipes, sockets, devices and directories as lock files",
        promise: "refused without blocking",
        run: special::run,
    },
    Stage {
        name: "created",
        what: "files without end, and reserved names",
        promise: "as many as the limit allows, no reserved name",
        run: created::run,
    },
    Stage {
        name: "handles",
        what: "forged, dropped and foreign handles",
        promise: "a trap or an error; no other guest loses its lock",
        run: handles::run,
    },
    Stage {
        name: "children",
        what: "processes started while a lock is held",
        promise: "no child inherits the lock",
        run: children::run,
    },
];

/// The parts that measure times, and so have the machine to themselves.
const MEASURED: &[Stage] = &[
    Stage {
        name: "exhaustion",
        what: "more handles, holds, waits and pollables than allowed",
        promise: "bounded descriptors, threads and memory; another guest is not disturbed",
        run: exhaustion::run,
    },
    Stage {
        name: "pollables",
        what: "pollables of locks that are closed",
        promise: "a trap at twice the limit on handles; bounded descriptors",
        run: pollables::run,
    },
    Stage {
        name: "waiting",
        what: "a thousand guests wait for one lock",
        promise: "one thread for all; another guest is not disturbed",
        run: exhaustion::crowd,
    },
    Stage {
        name: "holding",
        what: "holds without end, and traps",
        promise: "the next owner gets the lock after the limit on holds, or at once after a trap",
        run: holding::run,
    },
    Stage {
        name: "storms",
        what: "acquires that are begun and abandoned",
        promise: "another guest still gets the lock",
        run: storms::run,
    },
    Stage {
        name: "databases",
        what: "hostile databases, and databases inside of grants",
        promise: "calls end in time, nothing is created elsewhere, refused inside of grants",
        run: databases::run,
    },
    Stage {
        name: "tenants",
        what: "a tenant uses all that its limits allow",
        promise: "waits and free locks of another tenant are as fast as before",
        run: tenants::run,
    },
    Stage {
        name: "deadlock",
        what: "guests that wait for one another in a circle",
        promise: "exactly one of them gets the error `deadlock`",
        run: deadlock::run,
    },
];

/// Looks through what the guests of all other parts saw.
static SECRETS: Stage = Stage {
    name: "secrets",
    what: "all bytes that the guests of the other attacks saw",
    promise: "no path, number, name or message of the host",
    run: secrets::run,
};

/// Every part, in the order of the reports.
pub fn parts() -> impl Iterator<Item = &'static Stage> {
    PARTS
        .iter()
        .chain([&SWAPS])
        .chain(MEASURED)
        .chain([&SECRETS])
}

pub(crate) fn run(context: &Context) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let parts = parts().count();
    context.progress.set_length(parts as u64);
    let report = |stage: &Stage| {
        context.progress.set_message(stage.name);
        let report = stage.report(context);
        context.progress.inc(1);
        report
    };
    thread::scope(|scope| {
        let swaps = scope.spawn(|| report(&SWAPS));
        PARTS.iter().for_each(|part| outcome.take(report(part)));
        outcome.take(swaps.join().expect("a part does not panic"));
    });
    for part in MEASURED.iter().chain([&SECRETS]) {
        outcome.take(report(part));
    }
    outcome.did("threats", parts as u64);
    Ok(outcome)
}

/// Runs guests on a thread or two of their own.
pub(super) fn in_runtime<T>(threads: usize, guests: impl Future<Output = Result<T>>) -> Result<T> {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(threads).enable_all().build()?;
    runtime.block_on(guests)
}

/// A time in milliseconds.
fn millis(time: Option<Duration>) -> String {
    time.map_or_else(
        || "none".to_owned(),
        |time| format!("{:.2} ms", time.as_secs_f64() * 1e3),
    )
}

/// A random one of these.
pub(super) fn one_of<T: Copy>(chance: &mut fastrand::Rng, of: &[T]) -> T {
    of[chance.usize(..of.len())]
}

/// Replaces a guest that has trapped, which cannot be called any more.
async fn renew(host: &Host, guest: &mut Attacker) -> Result<()> {
    *guest = Attacker::new(host).await?;
    Ok(())
}

/// Returns once a waiter is in line for a lock.
async fn is_awaited(lock: &LockFile) -> Result<()> {
    let in_line = async {
        while waiters(lock) == 0 {
            tokio::task::yield_now().await;
        }
    };
    Ok(timeout(STUCK, in_line).await?)
}

/// Makes all queries about a lock.
async fn ask(guest: &mut Attacker, lock: u32) -> Result<()> {
    for question in [
        Call::Holder,
        Call::IsLocked,
        Call::State,
        Call::Guarantee,
        Call::Path,
    ] {
        // What the guest sees counts, not whether a query succeeds.
        let _ = guest.call(question, [lock, 0, 0, 0]).await?;
    }
    Ok(guest.keep_what_it_saw().await?)
}

/// The protocols of kernel locks, by their number in the interface.
const KERNEL: Range<u32> = 0..3;

/// Those of existence locks: `link`, `symlink`, `mkdir`, `pid-file`, `soft` and `sqlite`.
const EXISTENCE: Range<u32> = 3..9;

/// The number of a protocol in the interface.
fn number(protocol: Protocol) -> u32 {
    let mut all = (0..).zip(Protocol::ALL);
    let found = all.find_map(|(number, other)| (*other == protocol).then_some(number));
    found.expect("each protocol is in the list of all")
}

/// What happens to a lock file on release.
const KEEP: u32 = 0;
const REMOVE: u32 = 1;

/// Opens a lock in a protocol, tries to acquire it, releases it and closes it; returns the answer to the
/// open if that failed, and otherwise to the acquire.
async fn cycle(
    guest: &mut Attacker,
    path: &str,
    protocol: u32,
    on_release: u32,
    mode: u32,
) -> Result<Answer> {
    guest.name(path).await?;
    let opened = guest.call(Call::Open, [1, protocol, on_release, 0]).await?;
    let Ok(lock) = opened else { return Ok(opened) };
    let terms = [lock, mode, ONE_TRY[0], ONE_TRY[1]];
    let granted = guest.call(Call::Acquire, terms).await?;
    // Fails if the lock was not acquired, or is lost by now.
    let _ = guest.call(Call::Release, [lock, 0, 0, 0]).await?;
    let closed = guest.call(Call::Close, [lock, 0, 0, 0]).await?;
    Ok(granted.and(closed))
}

/// Acquires a lock through an engine; to the guests of other engines, that is another process.
fn hold(engine: &Engine, path: &Path, protocol: Protocol, mode: Mode) -> Result<Guard> {
    let lock = engine.open_with(path, &Options::new().protocol(protocol))?;
    Ok(lock.acquire(mode, Duration::ZERO)?)
}

/// A guest that has these rights in the directory of the host.
async fn with_rights(host: &Host, rights: Rights) -> Result<Attacker> {
    guest_in(&host.locks, host.dir.path(), rights).await
}

/// A guest of the engine that has these rights in a directory.
async fn guest_in(engine: &Engine, dir: &Path, rights: Rights) -> Result<Attacker> {
    let ctx = LocketCtx::builder(engine).label("guest");
    let ctx = ctx.grant_dir(dir, "/locks", rights)?;
    Attacker::in_dir(dir, ctx.build()).await
}

/// Opens a path and closes the lock; returns the error, if there was one.
async fn touch(guest: &mut Attacker, path: impl AsRef<[u8]>) -> Result<Option<&'static str>> {
    guest.name(path).await?;
    Ok(guest.call(Call::OpenAndClose, DEFAULT).await?.err())
}

/// How long 99 % of the waits of a guest may take. They take microseconds, but each ends with a wake-up,
/// which can take long on a busy machine.
const UNDISTURBED: Duration = Duration::from_millis(250);

/// For how long the control guest is measured while nothing attacks.
const QUIET: Duration = Duration::from_secs(2);

/// Measures the control guest while nothing happens, then runs an attack beside it, and compares.
fn attack_beside(
    host: &Host,
    threads: usize,
    attack: impl Future<Output = Result<Outcome>>,
) -> Result<Outcome> {
    let (normal, ()) = beside(host, "/locks/own", || thread::sleep(QUIET))?;
    let (attacked, outcome) = beside(host, "/locks/own", || in_runtime(threads, attack))?;
    let mut outcome = outcome?;
    compare(&mut outcome, normal, attacked);
    Ok(outcome)
}

/// Compares how long a guest waited before an attack and during it.
fn compare(outcome: &mut Outcome, mut normal: Waits, mut attacked: Waits) {
    let acquires = normal.acquires.len() + attacked.acquires.len();
    outcome.did("acquires by another guest", acquires as u64);
    let normal = percentile(&mut normal.acquires, 99);
    outcome.measured("99th percentile of its waits before", millis(normal));
    let disturbed = percentile(&mut attacked.acquires, 99);
    outcome.measured("and under attack", millis(disturbed));
    let late = percentile(&mut attacked.late, 99);
    outcome.measured("and of the delays of a clock under attack", millis(late));
    let most = normal.max(late).map(|normal| UNDISTURBED.max(normal * 2));
    outcome.must(disturbed.is_some() && disturbed <= most, || {
        format!("another guest waited {disturbed:?} under attack, and {normal:?} before")
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_of_another_guest_is_noticed() {
        let waits = |times: &[Duration]| Waits {
            acquires: times.to_vec(),
            late: times.iter().map(|_| Duration::from_micros(10)).collect(),
        };
        let quick = || waits(&[Duration::from_micros(10); 100]);
        let slow = || waits(&[Duration::from_secs(1); 100]);
        for (attacked, kept) in [(quick(), true), (slow(), false), (waits(&[]), false)] {
            let mut outcome = Outcome::default();
            compare(&mut outcome, quick(), attacked);
            assert_eq!(outcome.violations.is_empty(), kept, "{outcome:?}");
        }
    }
}
