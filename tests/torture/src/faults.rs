//! One operation after another, each with a fault at one of its system calls.

pub mod answer;
pub mod fixture;
pub mod operation;
pub mod oracle;
pub mod strace;
pub mod subject;

use std::collections::VecDeque;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use locket::Guard;
use locket_test_support::waits::AT_ONCE;

use crate::faults::answer::Done;
use crate::faults::fixture::{Fixture, STUCK, Scenario, SubjectProcess};
use crate::faults::operation::Operation;
use crate::faults::oracle::{Leftovers, Observation, check};
use crate::faults::strace::{Injection, When};
use crate::faults::subject::Fault;
use crate::stage::{Context, Outcome};

/// A system call of an operation: the n-th of its name in one thread.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Point {
    /// The operation.
    pub scenario: Scenario,
    /// The name of the system call.
    pub call: String,
    /// Which of them, from 1 on.
    pub n: u32,
}

/// How many calls of one name are tried in every run. An operation that goes through all processes of
/// the system can make any number; the rest are tried at random.
pub const EVERY: u32 = 12;

/// Calls by which a subject talks to its fixture.
const OURS: [&str; 2] = ["recvfrom", "sendto"];

/// All calls of all operations, found by running each without faults.
pub fn points(program: &Path, context: &Context) -> anyhow::Result<Vec<Point>> {
    let found = Mutex::new(Vec::new());
    let find = |trial: Trial| -> anyhow::Result<()> {
        let (scenario, log) = (trial.fixture.scenario, trial.log.clone());
        let broken = check(scenario, &trial.finish()?);
        ensure!(
            broken.is_empty(),
            "{scenario}, without faults: {broken:?}\n{log}"
        );
        lock(&found).extend(points_of(scenario, &log));
        Ok(())
    };
    in_parallel(context, Scenario::all().collect(), &|scenarios| {
        let mut delayed = Delayed::default();
        for scenario in scenarios {
            let trial = Trial::begin(program, scenario, None, None)?;
            delayed.push(trial).map(&find).transpose()?;
        }
        delayed.rest().try_for_each(&find)
    })?;
    let mut points = found.into_inner().expect("no thread panicked");
    points.sort();
    Ok(points)
}

fn points_of(scenario: Scenario, log: &str) -> Vec<Point> {
    let calls = strace::count(log).into_iter();
    let calls = calls.filter(|(call, _)| !OURS.contains(&call.as_str()));
    let points = calls.flat_map(|(call, count)| {
        (1..=count).map(move |n| Point {
            scenario,
            call: call.clone(),
            n,
        })
    });
    points.collect()
}

/// A run of an operation with a fault, after which its process continues without faults.
#[derive(Debug)]
pub struct Trial {
    fixture: Fixture,
    subject: SubjectProcess,
    lasting: bool,
    answer: Result<Done, String>,
    held: Option<Result<bool, String>>,
    kept: Option<bool>,
    /// The system calls, up to the answer.
    pub log: String,
}

impl Trial {
    /// Runs the operation.
    pub fn begin(
        program: &Path,
        scenario: Scenario,
        injection: Option<&Injection>,
        fault: Option<Fault>,
    ) -> anyhow::Result<Self> {
        let fixture = Fixture::new(program, scenario)?;
        let mut subject = fixture.subject(fault)?;
        let holds = scenario.operation.finds_it_held();
        let holder = holds.then(|| fixture.acquire(STUCK)).transpose()?;
        let strace = subject.trace(injection, &fixture.log())?;
        let (answer, holder) = operate(&mut subject, holder, scenario)?;
        match answer {
            Ok(Some(_)) => strace.detach()?,
            Ok(None) => strace.end()?,
            Err(_) => {
                subject.kill()?;
                strace.end()?;
            }
        }
        let answer = answer.and_then(|done| done.context("it died"));
        let mut trial = Self {
            log: std::fs::read_to_string(fixture.log())?,
            answer: answer.map_err(|e| format!("{e:#}")),
            kept: holder.map(|guard| guard.release().is_ok()),
            held: None,
            lasting: injection.is_some_and(|injection| matches!(injection.when, When::From(_))),
            fixture,
            subject,
        };
        if trial.answer.is_ok() {
            // A try for an existence lock that was under way when its wait was given up may still
            // take it, and gives it back.
            let given_up = matches!(
                scenario.operation,
                Operation::TimeOut | Operation::TimeOutAsync
            ) && scenario.protocol.is_existence_lock();
            let patience = if given_up { AT_ONCE } else { Duration::ZERO };
            let held = trial.fixture.is_held(patience);
            trial.held = Some(held.map_err(|e| e.to_string()));
            // Its answer may take as long as idle threads stay.
            trial.subject.proceed()?;
        }
        Ok(trial)
    }

    /// The operation and the protocol.
    pub fn scenario(&self) -> Scenario {
        self.fixture.scenario
    }

    /// Whether the fault occurred.
    pub fn is_struck(&self) -> bool {
        self.log.contains("(INJECTED)")
    }

    /// Waits for its end.
    pub fn finish(mut self) -> anyhow::Result<Observation> {
        let after = self.answer.is_ok().then(|| {
            let after = self.subject.receive(STUCK);
            let after = after.and_then(|after| after.context("it died"));
            after.map_err(|e| format!("{e:#}"))
        });
        if !matches!(after, Some(Ok(_))) {
            self.subject.kill()?;
        }
        self.subject.end()?;
        Ok(Observation {
            lasting: self.lasting,
            answer: self.answer,
            held: self.held,
            kept: self.kept,
            after,
            complaints: self.fixture.complained()?,
            leftovers: Leftovers::of(&self.fixture)?,
        })
    }
}

/// Lets the subject run its operation. `holder` keeps the lock until the end, or if the operation is to
/// be granted, until it waits.
pub fn operate(
    subject: &mut SubjectProcess,
    mut holder: Option<Guard>,
    scenario: Scenario,
) -> anyhow::Result<(anyhow::Result<Option<Done>>, Option<Guard>)> {
    subject.proceed()?;
    if let Ok(Some(())) = subject.receive(STUCK)
        && scenario.operation.is_granted()
    {
        subject.await_sleep()?;
        holder.take().map(Guard::release).transpose()?;
    }
    Ok((subject.receive(STUCK), holder))
}

/// Distributes work among as many threads as there are processors, until it is done or one fails.
pub fn in_parallel<T: Send>(
    context: &Context,
    work: Vec<T>,
    worker: &(dyn Fn(&mut dyn Iterator<Item = T>) -> anyhow::Result<()> + Sync),
) -> anyhow::Result<()> {
    context.progress.set_position(0);
    context.progress.set_length(work.len() as u64);
    let work = Mutex::new(work.into_iter());
    let take = || lock(&work).next().inspect(|_| context.progress.inc(1));
    let threads = thread::available_parallelism().map_or(2, NonZero::get);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| scope.spawn(|| worker(&mut std::iter::from_fn(take))))
            .collect();
        let mut ends = workers.into_iter().map(|worker| worker.join());
        ends.try_for_each(|end| end.expect("a worker does not panic"))
    })
}

/// Locks a mutex that is poisoned only if a thread panicked.
pub fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().expect("no thread panicked")
}

/// Returns what is put in after a while, in order.
#[derive(Debug)]
pub struct Delayed<T> {
    waiting: VecDeque<T>,
}

impl<T> Default for Delayed<T> {
    fn default() -> Self {
        Self {
            waiting: VecDeque::new(),
        }
    }
}

impl<T> Delayed<T> {
    /// How many may wait: as many as begin in the second for which idle threads of an engine stay.
    const MOST: usize = 80;

    /// Puts something in; returns what is due.
    pub fn push(&mut self, thing: T) -> Option<T> {
        self.waiting.push_back(thing);
        (self.waiting.len() > Self::MOST).then(|| self.waiting.pop_front())?
    }

    /// What is left.
    pub fn rest(self) -> impl Iterator<Item = T> {
        self.waiting.into_iter()
    }
}

/// The program that runs subjects: this one.
pub fn program() -> anyhow::Result<PathBuf> {
    Ok(std::env::current_exe()?)
}

/// Reports that `strace` is missing. In CI it must be there.
pub fn without_strace() -> anyhow::Result<Outcome> {
    let missing = "strace is not installed, which is needed to make system calls fail";
    anyhow::ensure!(std::env::var_os("CI").is_none(), "{missing}");
    Ok(Outcome {
        omitted: vec![missing.to_owned()],
        ..Outcome::default()
    })
}

impl Point {
    /// An injection at this call, or from this call on.
    pub fn injection(&self, event: strace::Event, persistent: bool) -> Injection {
        Injection {
            call: self.call.clone(),
            when: if persistent {
                When::From(self.n)
            } else {
                When::Once(self.n)
            },
            event,
        }
    }
}
