//! Each system call of each operation fails with various errors, once or from then on.

use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::faults::oracle::check;
use crate::faults::strace::{Event, Injection, Strace, tail};
use crate::faults::{
    Delayed, EVERY, Point, Trial, in_parallel, lock, points, program, without_strace,
};
use crate::stage::{Context, Outcome};

/// The errors.
const ERRORS: [&str; 10] = [
    "EINTR", "ENOLCK", "EIO", "ENOSPC", "EDQUOT", "EMFILE", "ENFILE", "EACCES", "EROFS", "ESTALE",
];

/// Calls that are not made to fail, because nothing can be learned from it.
#[rustfmt::skip]
const EXEMPT: [&str; 26] = [
    // They free a resource, which would leak if they were skipped.
    "close", "munmap", "timer_delete",
    // A Rust program aborts without memory.
    "brk", "madvise", "mmap", "mprotect", "mremap",
    // They fail only for wrong arguments, and libraries rely on that.
    "clock_gettime", "clock_nanosleep", "exit", "futex", "getpid", "gettid", "getrandom", "prctl",
    "restart_syscall", "rseq", "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sched_getaffinity", "sched_yield",
    "set_robust_list", "sigaltstack", "uname",
];

/// When to stop trying further errors, once each call has failed with one.
const LIMIT: Duration = Duration::from_secs(45);

/// Runs it: each call fails at least once with some error, then with the others while time is left.
pub(crate) fn run(context: &Context) -> anyhow::Result<Outcome> {
    if !Strace::is_there() {
        return without_strace();
    }
    let start = Instant::now();
    let program = program()?;
    let mut points = points(&program, context)?;
    points.retain(|point| !EXEMPT.contains(&point.call.as_str()));
    let (first, others) = cases(&points, &mut context.chance(0));
    let all = first.len() + others.len();
    let outcome = Mutex::new(Outcome::default());
    try_all(&program, context, first, None, &outcome)?;
    try_all(&program, context, others, Some(start + LIMIT), &outcome)?;
    let mut outcome = outcome.into_inner().expect("no worker panicked");
    outcome.did("system calls", points.len() as u64);
    outcome.did("possible faults", all as u64);
    Ok(outcome)
}

/// Tries one case after the other until all are done or the time is up.
fn try_all(
    program: &Path,
    context: &Context,
    cases: Vec<Case>,
    until: Option<Instant>,
    outcome: &Mutex<Outcome>,
) -> anyhow::Result<()> {
    in_parallel(context, cases, &|cases| {
        let mut delayed = Delayed::default();
        while until.is_none_or(|until| Instant::now() < until)
            && let Some((point, injection)) = cases.next()
        {
            let trial = Trial::begin(program, point.scenario, Some(&injection), None)?;
            if let Some((injection, trial)) = delayed.push((injection, trial)) {
                settle(&injection, trial, outcome)?;
            }
        }
        for (injection, trial) in delayed.rest() {
            settle(&injection, trial, outcome)?;
        }
        Ok(())
    })
}

type Case = (Point, Injection);

/// All cases: first one error for each call, then the others.
fn cases(points: &[Point], chance: &mut fastrand::Rng) -> (Vec<Case>, Vec<Case>) {
    let (mut first, mut others) = (Vec::new(), Vec::new());
    for point in points {
        let mut ways: Vec<_> = ERRORS
            .iter()
            .flat_map(|error| [(error, false), (error, true)])
            // A call that is always interrupted never ends, and need not.
            .filter(|(error, persistent)| !(**error == "EINTR" && *persistent))
            .collect();
        chance.shuffle(&mut ways);
        let mut ways = ways.into_iter().map(|(error, persistent)| {
            (
                point.clone(),
                point.injection(Event::Error(error), persistent),
            )
        });
        if point.n <= EVERY {
            first.extend(ways.next());
        }
        others.extend(ways);
    }
    chance.shuffle(&mut others);
    (first, others)
}

/// Waits for the end of a case and checks it.
fn settle(injection: &Injection, trial: Trial, outcome: &Mutex<Outcome>) -> anyhow::Result<()> {
    let (scenario, struck, log) = (trial.scenario(), trial.is_struck(), tail(&trial.log));
    let observation = trial.finish()?;
    let answer = match &observation.answer {
        Ok(done) => format!("{:?}", done.result),
        Err(_) => "nothing".to_owned(),
    };
    let failed = observation.answer.as_ref();
    let failed = failed.is_ok_and(|done| done.result.is_err());
    let mut outcome = lock(outcome);
    outcome.detail("operations", 1);
    outcome.did("faults", u64::from(struck));
    outcome.did("errors returned", u64::from(failed));
    for broken in check(scenario, &observation) {
        outcome.violations.push(format!(
            "{scenario}, {injection}: {broken}\n    answered {answer}\n    {log}"
        ));
    }
    Ok(())
}
