//! Thousands wait: what each costs while it does, in memory and processor time.
//!
//! Ten thousand tasks wait for one file, against threads that wait in `flock(2)`; a thousand
//! files are awaited by a task each, with as many helper threads as there are files, with the
//! default number, and with none, where all files are tried every 10 ms. Each crowd gathers in a
//! fresh process, so that no memory freed earlier is found again.
//!
//! Memory is what the process has resident more than before it opened the locks, tasks of tokio
//! included; and with the kernel's, what the whole machine has more in kernel stacks, page tables
//! and slabs that cannot be reclaimed, which other programs blur. Processor time while waiting is
//! that of the process over some seconds, in percent of one processor.

use std::fs::File;
use std::path::Path;
use std::thread;
use std::time::Duration;

use locket::{Engine, LockFile};
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::task::LocalSet;

use crate::Plan;
use crate::measure::processor_time;
use crate::methods::{EX, Method, asked, runtime};
use crate::process::{Process, say, told};
use crate::report::{Report, Row, Section, Target, Unit};
use crate::samples::Samples;

/// Tasks for one file.
const TASKS: usize = 10_000;
/// Files with a task each; threads for one file.
const FILES: usize = 1_000;

/// What is told of a crowd, in this order.
const FIGURES: [(&str, Unit); 6] = [
    ("memory of each, resident", Unit::Bytes),
    ("memory of each, with the kernel's", Unit::Bytes),
    ("threads besides the first", Unit::Count),
    ("processor time while waiting", Unit::Percent),
    ("processor time to arrive, each", Unit::Nanoseconds),
    ("processor time to leave, each", Unit::Nanoseconds),
];

pub(crate) fn run(plan: &Plan, report: &mut Report) {
    let most = |limit| Some(Target::MedianAtMost(limit));
    let each = most(36.0 * 1024.0);
    let crowds = [
        (
            "10,000 tasks wait for one file",
            "tasks",
            [most(600.0), None, most(1.0), most(0.02), None, most(1000.0)],
        ),
        (
            "For comparison: 1,000 threads wait for one file in flock(2)",
            "flock",
            [None; 6],
        ),
        (
            "1,000 files awaited, a helper thread for each",
            "1000",
            [None, each, None, most(0.05), None, None],
        ),
        (
            "1,000 files awaited, 512 helper threads (the default), others tried every 10 ms",
            "512",
            [None, each, most(513.0), most(2.0), None, None],
        ),
        (
            "1,000 files awaited, no helper thread: all tried every 10 ms",
            "0",
            [None, None, most(1.0), most(2.0), None, None],
        ),
    ];
    for (title, crowd, targets) in crowds {
        report.add(gather(plan, title, crowd, targets));
    }
}

fn gather(plan: &Plan, title: &str, crowd: &str, targets: [Option<Target>; 6]) -> Section {
    let path = plan.file("crowd");
    let millis = if plan.quick { 1000 } else { 3000 };
    let mut samples: [Samples; 6] = Default::default();
    for _ in 0..plan.rounds(3) {
        let mut process = Process::role("waiters", &[crowd.as_ref(), path.as_os_str()]);
        assert_eq!(process.answer::<String>(), "gathered");
        process.sleeps();
        process.tell(&millis.to_string());
        assert_eq!(process.answer::<String>(), "gone");
        process.sleeps();
        let figures: String = process.ask("");
        for (samples, figure) in samples.iter_mut().zip(figures.split(' ')) {
            samples.push(figure.parse().unwrap());
        }
    }
    let rows = FIGURES.iter().zip(samples).zip(targets);
    let rows = rows.filter(|((_, samples), _)| !samples.values().is_empty());
    let rows =
        rows.map(|(((name, unit), samples), target)| Row::new(name, *unit, samples).target(target));
    Section {
        title: title.to_owned(),
        rows: rows.collect(),
    }
}

/// The role of that process.
pub(crate) fn crowd(crowd: &str, path: &Path) {
    let limit = getrlimit(Resource::Nofile);
    let current = limit.maximum;
    setrlimit(Resource::Nofile, Rlimit { current, ..limit }).unwrap();
    match crowd {
        "flock" => threads(path),
        "tasks" => tasks(path, Engine::new(), 1, TASKS),
        helpers => {
            let helpers = helpers.parse().unwrap();
            let engine = Engine::builder().max_waiter_threads(helpers).build();
            tasks(path, engine, FILES, 1);
        }
    }
}

/// Says that all are waiting, and measures the time for which it is told to.
fn observe(before: &Resources, count: usize) -> Vec<f64> {
    say("gathered");
    let millis = told().unwrap().parse().unwrap();
    let arrived = processor_time();
    let time = Duration::from_millis(millis);
    thread::sleep(time);
    let waited = processor_time();
    let now = Resources::new();
    let each = |now: usize, before: usize| now.saturating_sub(before) as f64 / count as f64;
    let resident = each(now.resident, before.resident);
    vec![
        resident,
        resident + each(now.kernel, before.kernel),
        (now.threads - before.threads) as f64,
        100.0 * (waited - arrived).as_secs_f64() / time.as_secs_f64(),
        (arrived - before.spent).as_nanos() as f64 / count as f64,
    ]
}

fn tell(figures: &[f64]) {
    let figures: Vec<_> = figures.iter().map(f64::to_string).collect();
    say(figures.join(" "));
}

/// A holder of a file that the engine takes for another process.
fn hold(path: &Path) -> File {
    let file = File::create(path).unwrap();
    flock(&file, FlockOperation::LockExclusive).unwrap();
    file
}

fn tasks(path: &Path, engine: Engine, files: usize, each: usize) {
    let paths: Vec<_> = (0..files)
        .map(|index| path.with_extension(index.to_string()))
        .collect();
    let _held: Vec<_> = paths.iter().map(|path| hold(path)).collect();
    let runtime = runtime();
    let before = Resources::new();
    let locks: Vec<LockFile> = paths
        .iter()
        .map(|path| engine.open(path).unwrap())
        .collect();
    let tasks = LocalSet::new();
    for lock in &locks {
        for _ in 0..each {
            tasks.spawn_local(lock.acquire_async(EX, None));
        }
    }
    asked(&runtime, &tasks);
    let count = files * each;
    let mut figures = observe(&before, count);
    let waited = processor_time();
    drop(tasks);
    say("gone");
    told();
    let spent = processor_time() - waited;
    figures.push(spent.as_nanos() as f64 / count as f64);
    tell(&figures);
}

fn threads(path: &Path) {
    let held = hold(path);
    let before = Resources::new();
    let threads: Vec<_> = (0..FILES)
        .map(|_| {
            let path = path.to_owned();
            let wait = move || Method::FLOCK.on_a_handle(&path)(&mut || {});
            let small = thread::Builder::new().stack_size(256 << 10);
            small.spawn(wait).unwrap()
        })
        .collect();
    let figures = observe(&before, FILES);
    drop(held);
    for thread in threads {
        thread.join().unwrap();
    }
    say("gone");
    told();
    tell(&figures);
}

/// What this process has, and in bytes of the kernel the machine.
struct Resources {
    resident: usize,
    kernel: usize,
    threads: usize,
    spent: Duration,
}

impl Resources {
    fn new() -> Self {
        let read = |path| std::fs::read_to_string(path).unwrap();
        let pages = read("/proc/self/statm");
        let pages: usize = pages.split(' ').nth(1).unwrap().parse().unwrap();
        let kinds = ["KernelStack:", "PageTables:", "SUnreclaim:"];
        let kernel = read("/proc/meminfo")
            .lines()
            .filter_map(|line| {
                let mut words = line.split_whitespace();
                kinds.contains(&words.next()?).then(|| words.next())?
            })
            .map(|kilobytes| kilobytes.parse::<usize>().unwrap() << 10)
            .sum();
        Self {
            resident: pages * rustix::param::page_size(),
            kernel,
            threads: std::fs::read_dir("/proc/self/task").unwrap().count(),
            spent: processor_time(),
        }
    }
}
