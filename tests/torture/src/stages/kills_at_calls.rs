//! A process is killed at each system call of each operation, and the next owner acquires the lock.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::ensure;

use crate::faults::fixture::{Fixture, STUCK};
use crate::faults::oracle::{Leftovers, check_leftovers};
use crate::faults::strace::{Event, Strace, tail};
use crate::faults::{EVERY, Point, in_parallel, lock, operate, points, program, without_strace};
use crate::stage::{Context, Outcome, percentile};

/// How soon the next owner must have the lock after the killed process has ended.
const NEXT_OWNER: Duration = Duration::from_millis(100);

/// When to stop trying further calls, once those that are always tried are done.
const LIMIT: Duration = Duration::from_secs(60);

/// Runs it.
pub(crate) fn run(context: &Context) -> anyhow::Result<Outcome> {
    if !Strace::is_there() {
        return without_strace();
    }
    let start = Instant::now();
    let program = program()?;
    let mut points = points(&program, context)?;
    let all = points.len();
    let mut chance = context.chance(0);
    points.retain(|_| chance.u64(..context.one_in) == 0);
    chance.shuffle(&mut points);
    points.sort_by_key(|point| point.n > EVERY);
    let outcome = Mutex::new(Outcome::default());
    let times = Mutex::new(Vec::new());
    in_parallel(context, points, &|points| {
        for point in points {
            if point.n > EVERY && start.elapsed() > LIMIT {
                break;
            }
            let fixture = Fixture::new(&program, point.scenario)?;
            // Twice, because what the first leaves behind must not be in the way of the second.
            let killed = [kill(&fixture, &point)?, kill(&fixture, &point)?];
            let leftovers = Leftovers::of(&fixture)?;
            let mut outcome = lock(&outcome);
            outcome.did("kills", 2);
            outcome.did(
                "of them within the operation",
                killed.iter().filter(|(at, _)| *at).count() as u64,
            );
            lock(&times).extend(leftovers.next.as_ref().ok());
            let complaints = fixture.complained()?;
            let mut broken = check_leftovers(point.scenario, &leftovers);
            if !complaints.is_empty() {
                broken.push(format!("it said: {}", complaints.trim_end()));
            }
            for broken in broken {
                outcome.violations.push(format!(
                    "{}, killed twice at {} {}: {broken}\n    {}",
                    point.scenario, point.call, point.n, killed[1].1
                ));
            }
        }
        Ok(())
    })?;
    let mut outcome = outcome.into_inner().expect("no worker panicked");
    outcome.did("system calls", all as u64);
    let mut times = times.into_inner().expect("no worker panicked");
    if let Some(time) = percentile(&mut times, 99) {
        outcome.measured(
            "99th percentile of the time to the next owner",
            format!("{time:.1?}"),
        );
        outcome.must(time <= NEXT_OWNER, || {
            format!("for one in a hundred next owners it took {time:?} or more")
        });
    }
    Ok(outcome)
}

/// Runs the operation up to the call, or to its end if the call is not made. Returns whether the call
/// was made, and the last system calls.
fn kill(fixture: &Fixture, point: &Point) -> anyhow::Result<(bool, String)> {
    let mut subject = fixture.subject(None)?;
    let holds = point.scenario.operation.finds_it_held();
    let holder = holds.then(|| fixture.acquire(STUCK)).transpose()?;
    let injection = point.injection(Event::Kill, false);
    let strace = subject.trace(Some(&injection), &fixture.log())?;
    let (answer, holder) = operate(&mut subject, holder, point.scenario)?;
    let survived = answer?.is_some();
    subject.kill()?;
    strace.end()?;
    subject.end()?;
    // It may have been broken; that does not matter any more.
    drop(holder);
    let log = std::fs::read_to_string(fixture.log())?;
    ensure!(!log.is_empty(), "nothing was traced");
    Ok((!survived, tail(&log)))
}
