//! All kinds of workers at once: processes with threads, tasks and component instances, and foreign
//! programs, in every protocol. No section overlaps one that it excludes, and no write is lost.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use anyhow::Result;
use locket::Protocol;

use crate::stage::{Context, Outcome};
use crate::stress::history::Attempt;
use crate::stress::plan::{Lock, Workload};
use crate::stress::process::Kind;
use crate::stress::workers::{Foreign, WorkerGroup, process_of};

/// How long the stage lasts.
const TIME: Duration = Duration::from_secs(45);

/// How often to update the progress.
const TICK: Duration = Duration::from_millis(200);

/// Which locks each process of ours uses. Existence locks take longer and would slow down the others,
/// so they have processes of their own.
const PROCESSES: [fn(Protocol) -> bool; 8] = [
    KERNEL, KERNEL, KERNEL, KERNEL, NAME, NAME, DATABASE, DATABASE,
];
const KERNEL: fn(Protocol) -> bool = |protocol| !protocol.is_existence_lock();
const NAME: fn(Protocol) -> bool = |protocol| protocol.is_existence_lock() && !DATABASE(protocol);
const DATABASE: fn(Protocol) -> bool = |protocol| protocol == Protocol::Sqlite;

/// The workers of one process.
#[cfg(feature = "components")]
const WITH_GUESTS: [Kind; 4] = [Kind::Blocking, Kind::Task, Kind::Guest, Kind::Guest];
const WITHOUT_GUESTS: [Kind; 4] = [Kind::Blocking, Kind::Blocking, Kind::Task, Kind::Task];

/// A `native` lock excludes users of both lock families, but these do not exclude one another. So each
/// family has a lock of its own.
const AT_FLOCK: &str = "native-flock";
const AT_FCNTL: &str = "native-fcntl";

pub(crate) fn run(context: &Context) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let mut chance = context.chance(0);
    let mut group = WorkerGroup::new()?;
    let workload = Workload {
        shared: 30,
        limited: 20,
        abandoned: 5,
        lasting: 5,
        longest: Duration::from_millis(5),
        ..Workload::of(locks())
    };
    for (number, takes_part) in PROCESSES.iter().enumerate() {
        let workers = workers(number, &mut outcome);
        let workload = workload.at(|lock| takes_part(lock.protocol()));
        group.start(&format!("p{number}"), chance.u64(..), workers, &workload)?;
    }
    let tools = workload.at(|lock| [AT_FLOCK, "flock"].contains(&lock.name.as_str()));
    group.start("tools", chance.u64(..), &[Kind::Tool; 2], &tools)?;
    for (number, (function, lock)) in FOREIGN.iter().enumerate() {
        let foreign = Foreign {
            function,
            locks: vec![(*lock).to_owned()],
            shared: if number < KERNELS { 30 } else { 0 },
            lasting: workload.lasting,
            longest: workload.longest.as_secs_f64(),
        };
        group.start_foreign(&format!("python{number}"), chance.u64(..), &foreign)?;
    }
    context.pass(TIME, || {
        thread::sleep(TICK);
        Ok(())
    })?;
    let finished = group.finish()?;
    let sections = finished.history.sections();
    outcome.measured(
        "upper bound of violations per section (95 %)",
        format!("{:.1e}", 3.0 / sections as f64),
    );
    for lock in &workload.locks {
        let mut holders = BTreeSet::new();
        let entered = |attempt: &&Attempt| attempt.lock == lock.name && attempt.section().is_some();
        let entered = finished.history.attempts.iter().filter(entered);
        holders.extend(entered.map(|attempt| process_of(&attempt.worker)));
        outcome.must(holders.len() > 1, || {
            format!("{} was held by too few processes: {holders:?}", lock.name)
        });
    }
    finished.report(&mut outcome);
    Ok(outcome)
}

/// What foreign programs lock with, and which lock; kernel locks first.
const FOREIGN: [(&str, &str); 6] = [
    ("flock", AT_FLOCK),
    ("lockf", AT_FCNTL),
    ("flock", "flock"),
    ("lockf", "fcntl"),
    ("link", "link"),
    ("mkdir", "mkdir"),
];
const KERNELS: usize = 4;

/// One lock of each protocol, two of `native`, and one that is broken now and then.
fn locks() -> Vec<Lock> {
    let mut locks = vec![
        Lock::named(AT_FLOCK, Protocol::Native),
        Lock::named(AT_FCNTL, Protocol::Native),
        Lock {
            broken: true,
            ..Lock::named("broken", Protocol::Symlink)
        },
    ];
    let others = Protocol::ALL
        .iter()
        .filter(|protocol| **protocol != Protocol::Native);
    locks.extend(others.copied().map(Lock::of));
    locks
}

#[cfg(feature = "components")]
fn workers(number: usize, _: &mut Outcome) -> &'static [Kind] {
    if number.is_multiple_of(2) {
        &WITH_GUESTS
    } else {
        &WITHOUT_GUESTS
    }
}

#[cfg(not(feature = "components"))]
fn workers(number: usize, outcome: &mut Outcome) -> &'static [Kind] {
    if number == 0 {
        let why = "guests, without the feature `components`";
        outcome.omitted.push(why.to_owned());
    }
    &WITHOUT_GUESTS
}
