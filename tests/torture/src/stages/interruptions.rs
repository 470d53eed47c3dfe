//! Something that locks depend on stops for a while, at random: a file system, or a database. Locks that
//! do not depend on it go on as if nothing had happened.

use std::ops::Range;
use std::thread;
use std::time::Duration;

use anyhow::Result;

use super::stopped::overdue;
use crate::stage::{Context, Outcome};
use crate::stress::history::{Attempt, Outcome as Answer};
use crate::stress::journal::{Time, Why, now};
use crate::stress::plan::{Lock, Workload};
use crate::stress::process::Kind;

/// How long it is stopped, and how long it runs in between, in milliseconds.
const STOP: Range<u64> = 600..1500;
const BETWEEN: Range<u64> = 10..200;

/// How much later than its timeout a wait for another lock may end on a busy machine. Less than any stop,
/// so that a wait that ends with the stop is noticed.
const LATE: Duration = Duration::from_millis(500);

/// What runs in each process. There are several, so that the locks are contended between engines too.
pub(super) const WORKERS: [Kind; 8] = [
    Kind::Blocking,
    Kind::Blocking,
    Kind::Blocking,
    Kind::Blocking,
    Kind::Task,
    Kind::Task,
    Kind::Task,
    Kind::Task,
];
pub(super) const PROCESSES: usize = 3;

/// How many times as often as one of the locks that depend on it a worker uses the others. Otherwise all
/// workers would soon wait for what is stopped.
const TIMES: usize = 12;

/// A time in which it was stopped.
pub(super) type Stop = Range<Time>;

/// Brief holds of locks that something stops, `there`, and far more often of those `elsewhere`.
pub(super) fn brief(elsewhere: &[Lock], there: &[Lock]) -> Workload {
    let often = elsewhere.iter().cycle().take(elsewhere.len() * TIMES);
    Workload {
        shared: 20,
        limited: 60,
        abandoned: 10,
        lasting: 50,
        longest: Duration::from_millis(30),
        ..Workload::of(often.chain(there).cloned().collect())
    }
}

/// Calls `stop` with `true`, and after a while with `false`, again and again.
pub(super) fn at_random(
    context: &Context,
    chance: &mut fastrand::Rng,
    time: Duration,
    mut stop: impl FnMut(bool) -> Result<()>,
) -> Result<Vec<Stop>> {
    let mut stops = Vec::new();
    context.pass(time, || {
        thread::sleep(Duration::from_millis(chance.u64(BETWEEN)));
        stop(true)?;
        let from = now();
        thread::sleep(Duration::from_millis(chance.u64(STOP)));
        let to = now();
        stop(false)?;
        stops.push(from..to);
        Ok(())
    })?;
    Ok(stops)
}

/// What happened during the stops. `depends` tells which locks depend on what was stopped, and `on_time`
/// which of them have waits that end on time all the same. Returns the latest end of a wait.
pub(super) fn check(
    attempts: &[Attempt],
    stops: &[Stop],
    depends: impl Fn(&str) -> bool,
    on_time: impl Fn(&str) -> bool,
    outcome: &mut Outcome,
) -> Duration {
    let meanwhile = |attempt: &Attempt| {
        stops
            .iter()
            .any(|stop| attempt.asked < stop.end && attempt.answered() > stop.start)
    };
    let timed_out = |attempt: &Attempt| {
        let up = matches!(attempt.outcome, Answer::GaveUp(Why::Timeout, _));
        up && stops.iter().any(|stop| stop.contains(&attempt.answered()))
    };
    let (there, elsewhere): (Vec<_>, Vec<_>) =
        attempts.iter().partition(|attempt| depends(&attempt.lock));
    let count = |attempts: &[&Attempt], test: &dyn Fn(&Attempt) -> bool| {
        attempts.iter().filter(|attempt| test(attempt)).count() as u64
    };
    let counts = [
        ("stops", stops.len() as u64),
        ("acquires there meanwhile", count(&there, &meanwhile)),
        (
            "acquires elsewhere meanwhile",
            count(&elsewhere, &meanwhile),
        ),
        (
            "timeouts elsewhere meanwhile",
            count(&elsewhere, &timed_out),
        ),
    ];
    for (what, times) in counts {
        outcome.did(what, times);
        outcome.must(times > 0, || format!("there were no {what}"));
    }
    let judged = elsewhere
        .into_iter()
        .chain(there.into_iter().filter(|attempt| on_time(&attempt.lock)));
    let late = judged.filter_map(|attempt| Some((overdue(attempt)?, attempt)));
    let Some((latest, attempt)) = late.max_by_key(|(overdue, _)| *overdue) else {
        return Duration::ZERO;
    };
    outcome.must(latest <= LATE, || {
        format!("{latest:?} after its timeout: {attempt:?}")
    });
    latest
}

/// Reports the latest end of a wait.
pub(super) fn measured(latest: Duration, outcome: &mut Outcome) {
    outcome.measured(
        "a timeout was late by at most",
        format_args!("{latest:.1?}"),
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stress::journal::Mode;

    const MS: Time = 1_000_000;

    /// A wait with a timeout of 10 ms that ended after so many.
    fn timeout(lock: &str, after: Time) -> Attempt {
        Attempt {
            worker: "p0.0-task".to_owned(),
            number: 1,
            lock: lock.to_owned(),
            mode: Mode::Exclusive,
            asked: 100 * MS,
            limit: Some(10 * MS),
            outcome: Answer::GaveUp(Why::Timeout, (100 + after) * MS),
        }
    }

    fn violations(attempts: &[Attempt]) -> usize {
        let mut outcome = Outcome::default();
        let stop = 0..1000 * MS;
        check(
            attempts,
            &[stop],
            |lock| lock == "there",
            |_| false,
            &mut outcome,
        );
        outcome.violations.len()
    }

    #[test]
    fn a_wait_elsewhere_that_ends_late_is_noticed() {
        let there = timeout("there", 899);
        assert_eq!(violations(&[there.clone(), timeout("near", 11)]), 0);
        assert_eq!(violations(&[there, timeout("near", 899)]), 1);
    }

    #[test]
    fn a_run_in_which_nothing_happened_is_noticed() {
        assert!(violations(&[timeout("near", 11)]) > 0);
        assert!(violations(&[timeout("there", 11)]) > 0);
    }
}
