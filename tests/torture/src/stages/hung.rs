//! A file system stops answering for a while, again and again. Locks on it exclude as ever, and waits for
//! locks elsewhere, in the same engines, end on time.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use locket::Protocol;
use locket_test_support::fuse::{FileSystem, Switches};

use super::interruptions::{self, PROCESSES, WORKERS, at_random, brief};
use crate::stage::{Context, Outcome};
use crate::stress::plan::Lock;
use crate::stress::workers::WorkerGroup;

/// How long the stage lasts with each behaviour of the file system.
const TIME: Duration = Duration::from_secs(12);

/// How the locks on it are called.
const THERE: &str = "there-";

pub(crate) fn run(context: &Context) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let mut latest = Duration::ZERO;
    for (number, switches) in (0..).zip(Switches::ALL) {
        let mut command = Command::new(std::env::current_exe()?);
        match FileSystem::mount(command.arg("file-system"), switches) {
            Ok(files) => {
                let late = round(context, &mut context.chance(number), files, &mut outcome)?;
                latest = latest.max(late);
            }
            Err(reason) => {
                outcome
                    .omitted
                    .push(format!("no file system of FUSE: {reason}"));
                return Ok(outcome);
            }
        }
    }
    interruptions::measured(latest, &mut outcome);
    Ok(outcome)
}

/// Returns the latest end of a wait elsewhere.
fn round(
    context: &Context,
    chance: &mut fastrand::Rng,
    mut files: FileSystem,
    outcome: &mut Outcome,
) -> Result<Duration> {
    let there = [Protocol::Native, Protocol::Flock, Protocol::Fcntl]
        .map(|protocol| Lock::named(&format!("{THERE}{protocol}"), protocol));
    let elsewhere = [Protocol::Native, Protocol::Soft].map(Lock::of);
    let workload = brief(&elsewhere, &there);
    let mut group = WorkerGroup::new()?;
    for lock in &there {
        fs::write(files.path(&lock.name), "")?;
        symlink(files.path(&lock.name), group.layout().lock(lock))?;
    }
    for number in 0..PROCESSES {
        group.start(&format!("p{number}"), chance.u64(..), &WORKERS, &workload)?;
    }
    let stops = at_random(context, chance, TIME, |stopped| {
        match stopped {
            true => files.stop(),
            false => files.resume(),
        }
        Ok(())
    })?;
    let finished = group.finish()?;
    let is_there = |lock: &str| lock.starts_with(THERE);
    let latest = interruptions::check(
        &finished.history.attempts,
        &stops,
        is_there,
        |_| false,
        outcome,
    );
    finished.report(outcome);
    // Not once for each round.
    outcome.figures.clear();
    Ok(latest)
}
