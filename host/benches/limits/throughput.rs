//! Two processes with sixteen tasks each want one lock all the time: how often each gets it.
//!
//! A lock that goes back to the kernel at every release moves from process to process each time,
//! which is fair and costs two wake-ups. So the engine hands it on among its own waiters, up to a
//! bound (32 times or 1 ms by default). Compared are that, and an engine told to give it back
//! each time. Bounded, the gain must be large, the smaller of the two processes must get its
//! share, and so must a third process, of another program, that asks with a blocking `flock(2)`,
//! works, and sleeps a moment between its turns.
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
use crate::measure::{now, processor_time, spin};
use crate::methods::{EX, Method, runtime};
use crate::process::{Process, say, told};
use crate::report::{Report, Row, Section, Target, Unit};
use crate::samples::Samples;

const TASKS: usize = 16;
/// How long the lock is held.
const SHORT: Duration = Duration::from_micros(1);
const LONGER: Duration = Duration::from_micros(20);

pub(crate) fn run(plan: &Plan, report: &mut Report) {
    report.add(shares(plan));
    for held in [SHORT, LONGER] {
        report.add(with_a_foreign_process(plan, held));
    }
}

/// What one process came to in a run.
pub(crate) struct Tally {
    pub(crate) turns: u64,
    spent: Duration,
    pub(crate) longest: Duration,
}

impl Tally {
    /// Has processes run at the same time, for so long.
    pub(crate) fn of<'a>(
        processes: impl Iterator<Item = &'a mut Process>,
        time: Duration,
    ) -> Vec<Self> {
        let start = now() + 5_000_000;
        let mut processes: Vec<_> = processes.collect();
        for process in &mut processes {
            process.tell(&format!("{start} {}", time.as_nanos()));
        }
        let tally = |process: &mut Process| {
            let line: String = process.answer();
            let mut numbers = line.split(' ').map(|number| number.parse().unwrap());
            let mut next = || numbers.next().unwrap();
            Self {
                turns: next(),
                spent: Duration::from_nanos(next()),
                longest: Duration::from_nanos(next()),
            }
        };
        processes.into_iter().map(tally).collect()
    }
}

/// Another process, with that load.
fn load(load: &str, path: &Path, held: Duration) -> Process {
    let load = format!("{load} {}", held.as_nanos());
    Process::role("load", &[load.as_ref(), path.as_os_str()])
}

/// One quantity under both policies.
type Both = [Samples; 2];

/// Its rows.
fn rows(quantity: &str, unit: Unit, [ours, base]: Both, target: Option<Target>) -> [Row; 2] {
    let ratio = ours.ratio(&base);
    [
        Row::new(&format!("{quantity}, given back each time"), unit, base),
        Row::new(&format!("{quantity}, within bounds"), unit, ours)
            .ratio(ratio)
            .target(target),
    ]
}

/// Gives both policies a run in each round; `add` takes the tallies of one.
fn runs<const N: usize>(
    plan: &Plan,
    path: &Path,
    held: Duration,
    mut foreign: [Process; N],
    mut add: impl FnMut(usize, f64, &[Tally]),
) {
    let mut policies = ["bounded", "fair"].map(|policy| [(); 2].map(|()| load(policy, path, held)));
    let time = Duration::from_millis(if plan.quick { 300 } else { 1000 });
    for round in 0..plan.rounds(7).max(3) {
        for index in [round % 2, (round + 1) % 2] {
            let ours = policies[index].iter_mut();
            let tallies = Tally::of(ours.chain(&mut foreign), time);
            add(index, time.as_secs_f64(), &tallies);
        }
    }
}

fn shares(plan: &Plan) -> Section {
    let path = &plan.file("throughput");
    let (mut rate, mut share) = (Both::default(), Both::default());
    let (mut spent, mut longest) = (Both::default(), Both::default());
    runs(plan, path, SHORT, [], |index, time, tallies| {
        let turns: u64 = tallies.iter().map(|tally| tally.turns).sum();
        let least = tallies.iter().map(|tally| tally.turns).min().unwrap();
        let cpu: Duration = tallies.iter().map(|tally| tally.spent).sum();
        let wait = tallies.iter().map(|tally| tally.longest).max().unwrap();
        rate[index].push(turns as f64 / time);
        share[index].push(100.0 * least as f64 / turns as f64);
        spent[index].push(cpu.as_nanos() as f64 / turns as f64);
        longest[index].push(wait.as_nanos() as f64);
    });
    let (more, large) = (Target::RatioAtLeast(3.5), Target::MedianAtLeast(40.0));
    let less = Target::RatioAtMost(1.0 / 3.0);
    let parts = [
        rows("acquisitions", Unit::PerSecond, rate, Some(more)),
        rows("share of the smaller", Unit::Percent, share, Some(large)),
        rows("processor time each", Unit::Nanoseconds, spent, Some(less)),
        rows("longest wait", Unit::Nanoseconds, longest, None),
    ];
    Section {
        title: "Throughput: two processes of 16 tasks, the lock held for 1 µs".into(),
        rows: parts.into_iter().flatten().collect(),
    }
}

fn with_a_foreign_process(plan: &Plan, held: Duration) -> Section {
    let path = &plan.file("foreign");
    let (mut rate, mut longest) = (Both::default(), Both::default());
    let foreign = [load("flock", path, held)];
    runs(plan, path, held, foreign, |index, time, tallies| {
        let foreign = &tallies[2];
        rate[index].push(foreign.turns as f64 / time);
        longest[index].push(foreign.longest.as_nanos() as f64);
    });
    let large = Target::RatioAtLeast(0.4);
    let parts = [
        rows("acquisitions", Unit::PerSecond, rate, Some(large)),
        rows("longest wait", Unit::Nanoseconds, longest, None),
    ];
    Section {
        title: format!(
            "Throughput: what a third process with flock(2) gets, held for {} µs",
            held.as_micros()
        ),
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
    let mut turn = Method::FLOCK.on_a_handle(path);
    let (mut turns, mut longest) = (0, Duration::ZERO);
    while now() < ends {
        let start = Instant::now();
        turn(&mut || {
            longest = longest.max(start.elapsed());
            spin(held);
        });
        turns += 1;
        // A task that asks again at once would overtake all that sleep.
        std::thread::sleep(Duration::from_micros(1));
    }
    (turns, longest)
}
