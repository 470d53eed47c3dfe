//! Guests that mean harm: a part for each threat.

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

/// Takes long and is not measured, so that others can go on beside it.
const SWAPS: Stage = Stage {
    name: "swaps",
    what: "what a path leads to is exchanged while it is opened",
    run: swaps::run,
};

/// What is not disturbed by that.
const PARTS: &[Stage] = &[
    Stage {
        name: "paths",
        what: "paths that lead out of the grant, and random ones",
        run: paths::run,
    },
    Stage {
        name: "files",
        what: "foreign files under the names of lock files",
        run: files::run,
    },
    Stage {
        name: "removal",
        what: "files that guests have removed on release",
        run: removal::run,
    },
    Stage {
        name: "takeover",
        what: "locks of living holders, taken over by removal and by false claims",
        run: takeover::run,
    },
    Stage {
        name: "probing",
        what: "what an open lock tells of outside, once its path leads there",
        run: probing::run,
    },
    Stage {
        name: "quotas",
        what: "every row of the table of limits",
        run: quotas::run,
    },
    Stage {
        name: "special files",
        what: "pipes, sockets, devices and directories",
        run: special::run,
    },
    Stage {
        name: "created",
        what: "new names without end, and names that are not the guest's to give",
        run: created::run,
    },
    Stage {
        name: "handles",
        what: "forged handles, dropped ones, and those of others",
        run: handles::run,
    },
    Stage {
        name: "children",
        what: "processes started while a lock is held",
        run: children::run,
    },
];

/// What is measured, and so has the machine for itself.
const MEASURED: &[Stage] = &[
    Stage {
        name: "exhaustion",
        what: "more of everything than there is",
        run: exhaustion::run,
    },
    Stage {
        name: "pollables",
        what: "pollables of locks that are opened and closed",
        run: pollables::run,
    },
    Stage {
        name: "waiting",
        what: "a thousand guests wait for one lock",
        run: exhaustion::crowd,
    },
    Stage {
        name: "holding",
        what: "holds without end, and traps",
        run: holding::run,
    },
    Stage {
        name: "storms",
        what: "acquires that are begun and abandoned",
        run: storms::run,
    },
    Stage {
        name: "databases",
        what: "databases that mean harm, and where none may be",
        run: databases::run,
    },
    Stage {
        name: "tenants",
        what: "a tenant goes on while another does all that its limits allow",
        run: tenants::run,
    },
    Stage {
        name: "deadlock",
        what: "guests that wait for one another in a circle",
        run: deadlock::run,
    },
];

/// What the guests of all the others got to see.
const SECRETS: Stage = Stage {
    name: "secrets",
    what: "what is the host's in the bytes that guests saw",
    run: secrets::run,
};

pub(crate) fn run(context: &Context) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let parts = PARTS.len() + MEASURED.len() + 2;
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

/// In milliseconds.
fn millis(time: Option<Duration>) -> String {
    time.map_or_else(
        || "none".to_owned(),
        |time| format!("{:.2} ms", time.as_secs_f64() * 1e3),
    )
}

/// One of these.
pub(super) fn one_of<T: Copy>(chance: &mut fastrand::Rng, of: &[T]) -> T {
    of[chance.usize(..of.len())]
}

/// A guest that has trapped is of no use any more: another one in its place.
async fn renew(host: &Host, guest: &mut Attacker) -> Result<()> {
    *guest = Attacker::new(host).await?;
    Ok(())
}

/// Comes back once somebody is in line for a lock.
async fn is_awaited(lock: &LockFile) -> Result<()> {
    let in_line = async {
        while waiters(lock) == 0 {
            tokio::task::yield_now().await;
        }
    };
    Ok(timeout(STUCK, in_line).await?)
}

/// Asks all there is to know about a lock.
async fn ask(guest: &mut Attacker, lock: u32) -> Result<()> {
    for question in [
        Call::Holder,
        Call::IsLocked,
        Call::State,
        Call::Guarantee,
        Call::Path,
    ] {
        // What is seen counts, not what is answered.
        let _ = guest.call(question, [lock, 0, 0, 0]).await?;
    }
    Ok(guest.keep_what_it_saw().await?)
}

/// The protocols of the kernel, whose lock is the file, by their number in the interface.
const KERNEL: Range<u32> = 0..3;

/// `link`, `symlink`, `mkdir`, `pid-file`, `soft` and `sqlite`, whose lock is a name or a row.
const EXISTENCE: Range<u32> = 3..9;

/// The number of a protocol in the interface.
fn number(protocol: Protocol) -> u32 {
    let mut all = (0..).zip(Protocol::ALL);
    let found = all.find_map(|(number, other)| (*other == protocol).then_some(number));
    found.expect("it is one of all")
}

/// What becomes of a lock file on release.
const KEEP: u32 = 0;
const REMOVE: u32 = 1;

/// Opens a lock in a protocol, tries to acquire it, releases it and closes it; what came of the open,
/// or else of the acquire.
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
    // What was not acquired cannot be released, and what was acquired may be lost by now.
    let _ = guest.call(Call::Release, [lock, 0, 0, 0]).await?;
    let closed = guest.call(Call::Close, [lock, 0, 0, 0]).await?;
    Ok(granted.and(closed))
}

/// Holds a lock by an engine, which to the guests of others is another process.
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

/// Opens a path and closes what comes of it: the error, if it was one of the interface.
async fn touch(guest: &mut Attacker, path: impl AsRef<[u8]>) -> Result<Option<&'static str>> {
    guest.name(path).await?;
    Ok(guest.call(Call::OpenAndClose, DEFAULT).await?.err())
}

/// What 99 % of the waits of a guest may take: they take microseconds, but a wait ends with a wake-up,
/// and that takes as long as the machine is busy.
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

/// How long a guest had to wait normally, and while others attacked.
fn compare(outcome: &mut Outcome, mut normal: Waits, mut attacked: Waits) {
    let acquires = normal.acquires.len() + attacked.acquires.len();
    outcome.did("acquires of another", acquires as u64);
    let normal = percentile(&mut normal.acquires, 99);
    outcome.measured("99 % of those normally within", millis(normal));
    let disturbed = percentile(&mut attacked.acquires, 99);
    outcome.measured("under attack", millis(disturbed));
    let late = percentile(&mut attacked.late, 99);
    outcome.measured("where a clock was late by", millis(late));
    let most = normal.max(late).map(|normal| UNDISTURBED.max(normal * 2));
    outcome.must(disturbed.is_some() && disturbed <= most, || {
        format!("another waited {disturbed:?} under attack, and {normal:?} normally")
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_held_up_is_noticed() {
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
