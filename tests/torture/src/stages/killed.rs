//! Processes are killed all the time, every other time one that holds a lock. A waiter gets the lock at
//! once, no waiter enters too early, and in the end no lock is left locked.

use std::collections::{BTreeMap, HashMap};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use locket::{Engine, Mode, Protocol};

use crate::stage::{Context, Outcome, percentile};
use crate::stress::history::IdlePeriod;
use crate::stress::plan::{Lock, Workload};
use crate::stress::process::Kind;
use crate::stress::workers::{Finished, Foreign, WorkerGroup, process_of};

/// How long the stage lasts, and the time between two kills.
const TIME: Duration = Duration::from_secs(60);
const BETWEEN: Duration = Duration::from_millis(50);

/// How many processes there are at a time, and the workers of each.
const PROCESSES: usize = 5;
const WORKERS: [Kind; 4] = [Kind::Blocking, Kind::Blocking, Kind::Task, Kind::Task];

/// The other processes. A foreign program that locks with `mkdir` is not among them: killed before it
/// has put its record into the directory, it leaves a lock whose holder is unknown.
const OTHERS: &[Part] = &[
    #[cfg(feature = "components")]
    Part::Guests,
    Part::Foreign("flock", "native"),
    Part::Foreign("lockf", "fcntl"),
    Part::Foreign("link", "link"),
];

/// The percentage of kills that hit one of them. Starting a new one takes as long as starting ten
/// processes with threads and tasks, and is not what is measured.
const OTHERS_KILLED: u8 = 4;

/// In 99 of 100 cases the next owner has the lock within this time after the system has ended the killed
/// process, which happens milliseconds after the kill unless the machine is busy.
const NEXT_OWNER: Duration = Duration::from_millis(100);

/// How long a lock may be free at most while a worker waits for it, on a busy machine.
const TURN: Duration = Duration::from_secs(1);

/// The family of a protocol. It decides what frees the lock of a dead holder, and so how fast that is.
fn family(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Sqlite => "of rows",
        protocol if protocol.is_existence_lock() => "of existence locks",
        _ => "of kernel locks",
    }
}

pub(crate) fn run(context: &Context) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let mut fixture = Fixture::new(context)?;
    let mut kills = [0, 0];
    let mut next = Instant::now();
    context.pass(TIME, || {
        next += BETWEEN;
        thread::sleep(next.saturating_duration_since(Instant::now()));
        let aimed = fixture.kill()?;
        kills[usize::from(aimed)] += 1;
        Ok(())
    })?;
    let (layout, locks) = (
        fixture.group.layout().clone(),
        fixture.workload.locks.clone(),
    );
    let finished = fixture.group.finish()?;
    outcome.did("kills", kills.iter().sum());
    outcome.did("of them kills of a holder", kills[1]);
    measure(&finished, &locks, &fixture.ends, &mut outcome);
    for lock in &locks {
        let opened = Engine::new().open_with(layout.lock(lock), &lock.options(&layout))?;
        let free = opened.try_acquire(Mode::Exclusive);
        outcome.must(matches!(free, Ok(Some(_))), || {
            let holder = opened.holder();
            format!("{} is left locked: {free:?}, {holder:?}", lock.name)
        });
    }
    finished.report(&mut outcome);
    Ok(outcome)
}

/// Measures how long it took until a waiter had the lock of a killed holder. `ends` has how long each
/// killed process took to end.
fn measure(
    finished: &Finished,
    locks: &[Lock],
    ends: &HashMap<String, Duration>,
    outcome: &mut Outcome,
) {
    let mut times: Vec<_> = ends.values().copied().collect();
    figures(outcome, "end of a killed process", &mut times);
    let mut families: BTreeMap<_, Vec<_>> = BTreeMap::new();
    let all = finished.history.idle_periods();
    if let Some(last) = all.iter().max_by_key(|turn| turn.idle) {
        let idle = last.idle;
        outcome.measured(
            "a lock was free with a waiter for at most",
            format_args!("{idle:.1?}"),
        );
        outcome.must(idle <= TURN, || format!("a hand-off is late: {last:?}"));
    }
    for turn in all {
        let lock = locks.iter().find(|lock| lock.name == turn.lock);
        if let (Some(lock), Some(_), Some(_)) = (lock, &turn.after_kill_of, turn.next.section()) {
            families
                .entry(family(lock.protocol()))
                .or_default()
                .push(turn);
        }
    }
    for (family, turns) in families {
        let mut times: Vec<_> = turns.iter().map(|turn| turn.idle).collect();
        outcome.did(&format!("takeovers {family}"), turns.len() as u64);
        figures(outcome, &format!("next owner {family}"), &mut times);
        let end_before = |turn: &IdlePeriod| {
            let worker = turn.after_kill_of.as_deref().unwrap_or_default();
            ends.get(process_of(worker)).copied().unwrap_or_default()
        };
        let is_late = |turn: &&IdlePeriod| turn.idle > NEXT_OWNER + end_before(turn);
        let late: Vec<_> = turns.iter().filter(is_late).collect();
        outcome.must(late.len() <= turns.len().div_ceil(100), || {
            format!("takeovers {family} come too late: {late:?}")
        });
    }
}

/// Reports the median, the 99th percentile and the maximum.
fn figures(outcome: &mut Outcome, what: &str, times: &mut [Duration]) {
    let [half, most, longest] =
        [50, 99, 100].map(|percent| percentile(times, percent).unwrap_or_default());
    outcome.measured(
        &format!("{what} at 50 %, 99 % and 100 %"),
        format_args!("{half:.1?}, {most:.1?}, {longest:.1?}"),
    );
}

/// What runs in a process.
#[derive(Clone, Copy, PartialEq)]
enum Part {
    /// Threads and tasks.
    Native,
    /// Component instances.
    #[cfg(feature = "components")]
    Guests,
    /// Python, with the function that it locks with and the name of the lock.
    Foreign(&'static str, &'static str),
}

struct Fixture {
    group: WorkerGroup,
    parts: HashMap<String, Part>,
    workload: Workload,
    chance: fastrand::Rng,
    /// How long each killed process took to end.
    ends: HashMap<String, Duration>,
}

impl Fixture {
    fn new(context: &Context) -> Result<Self> {
        let workload = Workload {
            shared: 20,
            limited: 10,
            abandoned: 5,
            lasting: 50,
            longest: Duration::from_millis(10),
            ..Workload::of_each_protocol()
        };
        let mut fixture = Self {
            group: WorkerGroup::new()?,
            parts: HashMap::new(),
            workload,
            chance: context.chance(0),
            ends: HashMap::new(),
        };
        for part in [Part::Native; PROCESSES].iter().chain(OTHERS) {
            fixture.start(*part)?;
        }
        Ok(fixture)
    }

    fn start(&mut self, part: Part) -> Result<()> {
        let (name, seed) = (format!("p{}", self.parts.len()), self.chance.u64(..));
        let (group, workload) = (&mut self.group, &self.workload);
        match part {
            Part::Native => group.start(&name, seed, &WORKERS, workload)?,
            #[cfg(feature = "components")]
            Part::Guests => group.start(&name, seed, &[Kind::Guest; 2], workload)?,
            Part::Foreign(function, lock) => {
                let foreign = Foreign {
                    function,
                    locks: vec![lock.to_owned()],
                    shared: 0,
                    lasting: workload.lasting,
                    longest: workload.longest.as_secs_f64(),
                };
                group.start_foreign(&name, seed, &foreign)?;
            }
        }
        self.parts.insert(name, part);
        Ok(())
    }

    /// Kills a process and starts another in its place; returns whether it held a lock.
    fn kill(&mut self) -> Result<bool> {
        let others = self.chance.u8(0..100) < OTHERS_KILLED;
        let parts = &self.parts;
        let may_die = |name: &str| (parts[name] != Part::Native) == others;
        let holder = match self.chance.bool() {
            true => self
                .group
                .any_holder(&self.workload.locks, &mut self.chance, may_die)?,
            false => None,
        };
        let candidates = (0..self.group.size()).filter(|member| may_die(self.group.name(*member)));
        let chosen = holder.or_else(|| self.chance.choice(candidates.collect::<Vec<_>>()));
        let chosen = chosen.context("there is no process left to kill")?;
        let name = self.group.name(chosen).to_owned();
        let part = parts[&name];
        self.ends.insert(name, self.group.kill(chosen)?);
        self.start(part)?;
        Ok(holder.is_some())
    }
}
