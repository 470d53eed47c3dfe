//! Processes are stopped for a while, every other time one that holds a lock. A stopped holder keeps its
//! lock. The other workers wait, at most until their timeouts, and none of them enters.

use std::thread;
use std::time::Duration;

use anyhow::Result;

use crate::stage::{Context, Outcome};
use crate::stress::history::{Attempt, Outcome as Answer};
use crate::stress::journal::{Time, Why, now};
use crate::stress::plan::Workload;
use crate::stress::process::Kind;
use crate::stress::workers::{Finished, WorkerGroup, process_of};

/// How long the stage lasts.
const TIME: Duration = Duration::from_secs(35);

/// How long a process is stopped, in milliseconds.
const STOP: std::ops::Range<u64> = 100..1000;

/// How long all processes run between two stops.
const BETWEEN: Duration = Duration::from_millis(20);

const PROCESSES: usize = 6;
const WORKERS: [Kind; 4] = [Kind::Blocking, Kind::Blocking, Kind::Task, Kind::Task];

/// A timeout that is later than this was lost.
const LATE: Duration = Duration::from_secs(5);

/// A process that was stopped, and when.
struct Stop {
    name: String,
    from: Time,
    to: Time,
}

pub(crate) fn run(context: &Context) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let mut chance = context.chance(0);
    let workload = Workload {
        shared: 20,
        limited: 50,
        abandoned: 5,
        lasting: 50,
        longest: Duration::from_millis(50),
        ..Workload::of_each_protocol()
    };
    let mut group = WorkerGroup::new()?;
    for number in 0..PROCESSES {
        group.start(&format!("p{number}"), chance.u64(..), &WORKERS, &workload)?;
    }
    let mut stops = Vec::new();
    context.pass(TIME, || {
        thread::sleep(BETWEEN);
        let chosen = match chance.bool() {
            true => group.any_holder(&workload.locks, &mut chance, |_| true)?,
            false => None,
        };
        let chosen = chosen.unwrap_or_else(|| chance.usize(..PROCESSES));
        group.stop(chosen)?;
        let from = now();
        thread::sleep(Duration::from_millis(chance.u64(STOP)));
        let to = now();
        group.resume(chosen)?;
        let name = group.name(chosen).to_owned();
        stops.push(Stop { name, from, to });
        Ok(())
    })?;
    let finished = group.finish()?;
    outcome.did("stops", stops.len() as u64);
    check(&finished, &stops, &mut outcome);
    finished.report(&mut outcome);
    Ok(outcome)
}

/// What the other processes did meanwhile. The history shows that none of them entered.
fn check(finished: &Finished, stops: &[Stop], outcome: &mut Outcome) {
    let attempts = &finished.history.attempts;
    let (mut holders, mut waiters, mut timeouts) = (0, 0, 0);
    for stop in stops {
        let held = attempts
            .iter()
            .filter(|attempt| stop.has_in_a_section(attempt));
        for holder in held {
            let others = attempts.iter().filter(|attempt| {
                attempt.lock == holder.lock && !stop.is_of(attempt) && stop.overlaps(attempt)
            });
            let timed_out = |attempt: &&Attempt| {
                let up = matches!(attempt.outcome, Answer::GaveUp(Why::Timeout, _));
                up && (stop.from..stop.to).contains(&attempt.answered())
            };
            holders += 1;
            waiters += others.clone().count() as u64;
            timeouts += others.filter(timed_out).count() as u64;
        }
    }
    outcome.did("locks held by stopped processes", holders);
    outcome.did("waits for them", waiters);
    outcome.did("timeouts meanwhile", timeouts);
    outcome.must(holders > 0 && waiters > 0 && timeouts > 0, || {
        "no stop hit a holder with waiters, one of which timed out".to_owned()
    });
    let latest = attempts
        .iter()
        .filter(|attempt| {
            !stops
                .iter()
                .any(|stop| stop.is_of(attempt) && stop.overlaps(attempt))
        })
        .filter_map(|attempt| Some((overdue(attempt)?, attempt)))
        .max_by_key(|(overdue, _)| *overdue);
    if let Some((overdue, attempt)) = latest {
        outcome.measured(
            "a timeout was late by at most",
            format_args!("{overdue:.1?}"),
        );
        outcome.must(overdue <= LATE, || {
            format!("{overdue:?} after its timeout: {attempt:?}")
        });
    }
}

/// How long after its timeout an attempt was answered.
pub(super) fn overdue(attempt: &Attempt) -> Option<Duration> {
    let due = attempt.asked + attempt.limit?;
    Some(Duration::from_nanos(attempt.answered().saturating_sub(due)))
}

impl Stop {
    fn is_of(&self, attempt: &Attempt) -> bool {
        process_of(&attempt.worker) == self.name
    }

    /// Whether the attempt waited in that time.
    fn overlaps(&self, attempt: &Attempt) -> bool {
        attempt.asked < self.to && attempt.answered() > self.from
    }

    /// Whether the process was stopped in the section of this attempt.
    fn has_in_a_section(&self, attempt: &Attempt) -> bool {
        let inside = |section: &crate::stress::history::Section| {
            section.enter < self.from && section.end.at() > self.to
        };
        self.is_of(attempt) && attempt.section().is_some_and(inside)
    }
}
