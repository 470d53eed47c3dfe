//! Contests for one lock between processes that ask again at once: how often each gets it, and how
//! long it waits at most.
//!
//! Each contest is held twice in every round, with Locket and with raw `flock(2)` in its place, and
//! a row has the figures of one of the processes. The kernel keeps no place for a waiter that is
//! still waking up, so the loser of a contest waits for the scheduler's next move, and so do those
//! that call `flock(2)`. A sample is a run.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use locket::{Engine, Mode, Options, Protocol};
use rustix::fs::{FlockOperation, flock};

use crate::Plan;
use crate::measure::{now, processor_time, spin};
use crate::methods::{EX, Method, Turn, open};
use crate::process::{Process, say, told};
use crate::report::{Report, Row, Section, Unit};
use crate::samples::Samples;
use crate::throughput::Tally;

/// How long a lock is held, and how long by a reader.
const HELD: Duration = Duration::from_micros(200);
const READ: Duration = Duration::from_millis(5);

/// The processes of one contest: a program and a number of threads each. The first is measured.
type Crowd = &'static [(&'static str, usize)];

const CONTESTS: [(&str, Crowd, Crowd); 5] = [
    (
        "native against a busy user of flock and one of fcntl",
        &[("native", 1), ("flock", 1), ("fcntl", 1)],
        &[("flock", 1), ("flock", 1)],
    ),
    (
        "native against two busy users of flock and two of fcntl",
        &[("native", 1), ("flock", 2), ("fcntl", 2)],
        &[("flock", 1), ("flock", 2)],
    ),
    (
        "eight threads against one loop of another process",
        &[("native", 8), ("native", 1)],
        &[("flock", 8), ("flock", 1)],
    ),
    (
        "one loop against eight threads of another process",
        &[("native", 1), ("native", 8)],
        &[("flock", 1), ("flock", 8)],
    ),
    (
        "a writer against three overlapping readers of another process",
        &[("native", 1), ("native readers", 3)],
        &[("flock", 1), ("flock readers", 3)],
    ),
];

pub(crate) fn run(plan: &Plan, report: &mut Report) {
    for (title, ours, raw) in CONTESTS {
        report.add(contest(plan, title, ours, raw));
    }
}

fn contest(plan: &Plan, title: &str, ours: Crowd, raw: Crowd) -> Section {
    let path = &plan.file("contest");
    let mut crowds = [raw, ours].map(|crowd| -> Vec<_> {
        let start = |(program, threads): &(&str, usize)| {
            let words = format!("{program},{threads}");
            Process::role("contest", &[words.as_ref(), path.as_os_str()])
        };
        crowd.iter().map(start).collect()
    });
    let time = Duration::from_millis(if plan.quick { 500 } else { 3000 });
    let (mut turns, mut longest): ([Samples; 2], [Samples; 2]) = Default::default();
    for _ in 0..plan.rounds(5).max(3) {
        for (index, crowd) in crowds.iter_mut().enumerate() {
            let tally = &Tally::of(crowd.iter_mut(), time)[0];
            turns[index].push(tally.turns as f64 / time.as_secs_f64());
            longest[index].push(tally.longest.as_nanos() as f64);
        }
    }
    let quantities = [
        ("acquisitions", Unit::PerSecond, turns),
        ("longest wait", Unit::Nanoseconds, longest),
    ];
    let rows = quantities.map(|(quantity, unit, [raw, ours])| {
        let ratio = ours.ratio(&raw);
        [
            Row::new(&format!("{quantity}, raw flock"), unit, raw),
            Row::new(&format!("{quantity}, locket"), unit, ours).ratio(ratio),
        ]
    });
    Section {
        title: format!("Fairness: {title}"),
        rows: rows.into_iter().flatten().collect(),
    }
}

/// The role of the processes above: for each line, works from one moment on for so long.
pub(crate) fn work(words: &str, path: &Path) {
    let (program, threads) = words.split_once(',').unwrap();
    let threads: usize = threads.parse().unwrap();
    let engine = Engine::new();
    while let Some(line) = told() {
        let (start, time) = line.split_once(' ').unwrap();
        let start: u64 = start.parse().unwrap();
        let ends = start + time.parse::<u64>().unwrap();
        thread::sleep(Duration::from_nanos(start.saturating_sub(now())));
        let before = processor_time();
        let (turns, longest) = thread::scope(|scope| {
            let work = |_| scope.spawn(|| alone(program, &engine, path, ends));
            let workers: Vec<_> = (0..threads).map(work).collect();
            let results = workers.into_iter().map(|worker| worker.join().unwrap());
            results.fold((0, Duration::ZERO), |(turns, longest), one| {
                (turns + one.0, longest.max(one.1))
            })
        });
        let spent = processor_time() - before;
        say(format!(
            "{turns} {} {}",
            spent.as_nanos(),
            longest.as_nanos()
        ));
    }
}

fn alone(program: &str, engine: &Engine, path: &Path, ends: u64) -> (u64, Duration) {
    let reads = program.ends_with("readers");
    let mut turn = turn(program, engine, path);
    let (mut turns, mut longest) = (0, Duration::ZERO);
    while now() < ends {
        let start = Instant::now();
        turn(&mut || {
            longest = longest.max(start.elapsed());
            if reads {
                thread::sleep(READ);
            } else {
                spin(HELD);
            }
        });
        turns += 1;
    }
    (turns, longest)
}

fn turn<'a>(program: &str, engine: &Engine, path: &'a Path) -> Turn<'a> {
    let (name, mode) = match program.split_once(' ') {
        Some((name, _)) => (name, Mode::Shared),
        None => (program, EX),
    };
    match (name, mode) {
        ("flock", Mode::Shared) => {
            let file = open(path);
            Box::new(move |held| {
                flock(&file, FlockOperation::LockShared).unwrap();
                held();
                flock(&file, FlockOperation::Unlock).unwrap();
            })
        }
        ("native", mode) => {
            let options = Options::new().protocol(Protocol::Native);
            let lock = engine.open_with(path, &options).unwrap();
            Box::new(move |held| {
                let _guard = lock.acquire(mode, None).unwrap();
                held();
            })
        }
        (raw, _) => {
            let protocol = raw.parse().unwrap();
            let checked = false;
            Method::Raw { protocol, checked }.on_a_handle(path)
        }
    }
}
