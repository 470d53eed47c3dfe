//! Two processes with sixteen tasks each want one lock all the time: how often it is had, and by
//! whom.
//!
//! A lock that goes back to the kernel at every release moves from process to process each time,
//! which is fair and costs two wake-ups. So the engine hands it on among its own waiters, up to a
//! bound (32 times or 1 ms by default). Compared are that, and an engine told to give it back
//! each time. Bounded, the gain must be large, the smaller of the two processes must get its
//! share, and so must a third process, of another program, that asks with a blocking `flock(2)`,
//! works, and sleeps a moment between its turns. There the work takes 20 µs, as work does that is
//! worth a lock.
//!
//! Each task holds the lock across one `yield`, as tasks do; each process runs on one thread. A
//! sample is a run; both policies have one in every round. Ratios are to the policy that gives
//! back each time.

use std::cell::Cell;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use locket::{Engine, Options, Protocol};
use tokio::task::LocalSet;

use crate::Plan;
use crate::manners::{EX, Manner, runtime};
use crate::measure::{Samples, now, processor_time};
use crate::process::{Process, say, told};
use crate::report::{Report, Row, Section, Target, Unit};

const TASKS: usize = 16;
/// How long the lock is held.
const SHORT: Duration = Duration::from_micros(1);
const LONGER: Duration = Duration::from_micros(20);

pub(crate) fn run(plan: &Plan, report: &mut Report) {
    report.add(shares(plan));
    report.add(with_a_foreign_process(plan));
}

/// What one process came to in a run.
struct Tally {
    turns: u64,
    spent: Duration,
    longest: Duration,
}

impl Tally {
    /// Asks processes to run at the same time, for so long.
    fn of<const N: usize>(processes: &mut [&mut Process; N], time: Duration) -> [Self; N] {
        let start = now() + 5_000_000;
        for process in &mut *processes {
            process.tell(&format!("{start} {}", time.as_nanos()));
        }
        processes.each_mut().map(|process| {
            let line: String = process.answer();
            let mut numbers = line.split(' ').map(|number| number.parse().unwrap());
            let mut next = || numbers.next().unwrap();
            Self {
                turns: next(),
                spent: Duration::from_nanos(next()),
                longest: Duration::from_nanos(next()),
            }
        })
    }
}

/// The processes of one policy.
struct Policy {
    name: &'static str,
    processes: [Process; 2],
}

impl Policy {
    /// Ours first, then the one that ours is compared with.
    fn both(path: &Path, held: Duration) -> [Self; 2] {
        [
            ("bounded", "handed on, within bounds"),
            ("fair", "given back at every release"),
        ]
        .map(|(policy, name)| Self {
            name,
            processes: std::array::from_fn(|_| load(policy, path, held)),
        })
    }
}

/// Another process, with that load.
fn load(load: &str, path: &Path, held: Duration) -> Process {
    let load = format!("{load} {}", held.as_nanos());
    Process::role("load", &[load.as_ref(), path.as_os_str()])
}

/// Runs per policy, and how long each is.
fn runs(plan: &Plan) -> (usize, Duration) {
    let millis = if plan.quick { 300 } else { 1000 };
    (plan.rounds(8).max(3), Duration::from_millis(millis))
}

/// The rows of one quantity, for both policies.
fn rows(
    quantity: &str,
    unit: Unit,
    policies: &[Policy; 2],
    [ours, base]: [Samples; 2],
    target: impl Into<Option<Target>>,
) -> [Row; 2] {
    let ratio = ours.ratio(&base);
    let name = |policy: &Policy| format!("{quantity}, {}", policy.name);
    [
        Row::new(&name(&policies[1]), unit, base),
        Row::new(&name(&policies[0]), unit, ours)
            .ratio(ratio)
            .target(target),
    ]
}

fn shares(plan: &Plan) -> Section {
    let path = &plan.file("throughput");
    let mut policies = Policy::both(path, SHORT);
    let (mut rate, mut share, mut spent, mut longest) =
        <([Samples; 2], [Samples; 2], [Samples; 2], [Samples; 2])>::default();
    let (rounds, time) = runs(plan);
    for round in 0..rounds {
        for i in [round % 2, (round + 1) % 2] {
            let [a, b] = &mut policies[i].processes;
            let tallies = Tally::of(&mut [a, b], time);
            let turns: u64 = tallies.iter().map(|tally| tally.turns).sum();
            let least = tallies.iter().map(|tally| tally.turns).min();
            let cpu: Duration = tallies.iter().map(|tally| tally.spent).sum();
            let wait = tallies.iter().map(|tally| tally.longest).max();
            rate[i].push(turns as f64 / time.as_secs_f64());
            share[i].push(100.0 * least.unwrap() as f64 / turns as f64);
            spent[i].push(cpu.as_nanos() as f64 / turns as f64);
            longest[i].push(wait.unwrap().as_nanos() as f64);
        }
    }
    let at_least = Target::RatioAtLeast;
    let parts = [
        rows(
            "acquisitions",
            Unit::PerSecond,
            &policies,
            rate,
            at_least(3.5),
        ),
        rows(
            "share of the smaller process",
            Unit::Percent,
            &policies,
            share,
            Target::MedianAtLeast(40.0),
        ),
        rows(
            "processor time each",
            Unit::Nanoseconds,
            &policies,
            spent,
            Target::RatioAtMost(1.0 / 3.0),
        ),
        rows("longest wait", Unit::Nanoseconds, &policies, longest, None),
    ];
    Section {
        title: "Throughput: two processes of 16 tasks, the lock held for 1 µs".into(),
        rows: parts.into_iter().flatten().collect(),
    }
}

fn with_a_foreign_process(plan: &Plan) -> Section {
    let path = &plan.file("foreign");
    let mut policies = Policy::both(path, LONGER);
    let mut foreign = load("flock", path, LONGER);
    let (mut rate, mut longest) = <([Samples; 2], [Samples; 2])>::default();
    let (rounds, time) = runs(plan);
    for round in 0..rounds {
        for i in [round % 2, (round + 1) % 2] {
            let [a, b] = &mut policies[i].processes;
            let [tally, ..] = Tally::of(&mut [&mut foreign, a, b], time);
            rate[i].push(tally.turns as f64 / time.as_secs_f64());
            longest[i].push(tally.longest.as_nanos() as f64);
        }
    }
    let parts = [
        rows(
            "its acquisitions",
            Unit::PerSecond,
            &policies,
            rate,
            Target::RatioAtLeast(0.4),
        ),
        rows(
            "its longest wait",
            Unit::Nanoseconds,
            &policies,
            longest,
            None,
        ),
    ];
    Section {
        title: "Throughput of a third process with blocking flock(2), the lock held for 20 µs"
            .into(),
        rows: parts.into_iter().flatten().collect(),
    }
}

/// The role of the processes above: for each line, works from one moment on for so long.
pub(crate) fn work(load: &str, path: &Path) {
    let (kind, held) = load.split_once(' ').unwrap();
    let held = Duration::from_nanos(held.parse().unwrap());
    let engine = match kind {
        "bounded" => Some(Engine::new()),
        "fair" => Some(Engine::builder().hand_off(0, Duration::ZERO).build()),
        _ => None,
    };
    while let Some(line) = told() {
        let (start, time) = line.split_once(' ').unwrap();
        let start: u64 = start.parse().unwrap();
        let ends = start + time.parse::<u64>().unwrap();
        let wait = Duration::from_nanos(start.saturating_sub(now()));
        std::thread::sleep(wait);
        let before = processor_time();
        let (turns, longest) = match &engine {
            Some(engine) => tasks(engine, path, held, ends),
            None => alone(path, held, ends),
        };
        let spent = processor_time() - before;
        say(format!(
            "{turns} {} {}",
            spent.as_nanos(),
            longest.as_nanos()
        ));
    }
}

fn spin(time: Duration) {
    let start = Instant::now();
    while start.elapsed() < time {
        std::hint::spin_loop();
    }
}

fn tasks(engine: &Engine, path: &Path, held: Duration, ends: u64) -> (u64, Duration) {
    let options = Options::new().protocol(Protocol::Flock);
    let lock = engine.open_with(path, &options).unwrap();
    let (turns, longest) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(Duration::ZERO)));
    let tasks = LocalSet::new();
    for _ in 0..TASKS {
        let (lock, turns, longest) = (lock.clone(), Rc::clone(&turns), Rc::clone(&longest));
        tasks.spawn_local(async move {
            while now() < ends {
                let start = Instant::now();
                let _guard = lock.acquire_async(EX, None).await.unwrap();
                longest.set(longest.get().max(start.elapsed()));
                turns.set(turns.get() + 1);
                spin(held);
                tokio::task::yield_now().await;
            }
        });
    }
    runtime().block_on(tasks);
    (turns.get(), longest.get())
}

fn alone(path: &Path, held: Duration, ends: u64) -> (u64, Duration) {
    let mut turn = Manner::FLOCK.on_a_handle(path);
    let (mut turns, mut longest) = (0, Duration::ZERO);
    while now() < ends {
        let start = Instant::now();
        turn(&mut || {
            longest = longest.max(start.elapsed());
            spin(held);
        });
        turns += 1;
        // Who asks again at once gets ahead of everybody who sleeps.
        std::thread::sleep(Duration::from_micros(1));
    }
    (turns, longest)
}
