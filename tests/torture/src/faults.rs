//! One operation after another, each with a fault at one of its system calls.

pub mod judge;
pub mod scene;
pub mod strace;
pub mod victim;

use std::collections::VecDeque;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;

use anyhow::{Context as _, ensure};
use locket::Guard;

use crate::faults::judge::{Traces, Witness, judge};
use crate::faults::scene::{STUCK, Scene, Subject, Victim};
use crate::faults::strace::{Injection, When};
use crate::faults::victim::{Done, Fault};
use crate::stage::{Context, Outcome};

/// A system call of an operation: the n-th of its kind, at most, in one thread.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Point {
    /// The operation.
    pub subject: Subject,
    /// The name of the system call.
    pub call: String,
    /// Which of them, from 1 on.
    pub n: u32,
}

/// How many calls of one kind are tried in every run. Those that go through all processes of the
/// system, of which there may be any number, have their turn by chance.
pub const EVERY: u32 = 12;

/// Calls by which a victim and its scene take turns.
const OURS: [&str; 2] = ["recvfrom", "sendto"];

/// Every call that every operation makes, by a run of each without faults.
pub fn points(program: &Path, context: &Context) -> anyhow::Result<Vec<Point>> {
    let found = Mutex::new(Vec::new());
    let find = |course: Course| -> anyhow::Result<()> {
        let (subject, log) = (course.scene.subject, course.log.clone());
        let broken = judge(subject, &course.finish()?);
        ensure!(
            broken.is_empty(),
            "{subject}, without faults: {broken:?}\n{log}"
        );
        lock(&found).extend(points_of(subject, &log));
        Ok(())
    };
    in_parallel(context, Subject::all().collect(), &|subjects| {
        let mut later = Later::default();
        for subject in subjects {
            let course = Course::begin(program, subject, None, None)?;
            later.put(course).map(&find).transpose()?;
        }
        later.rest().try_for_each(&find)
    })?;
    let mut points = found.into_inner().expect("nobody panicked");
    points.sort();
    Ok(points)
}

fn points_of(subject: Subject, log: &str) -> Vec<Point> {
    let calls = strace::count(log).into_iter();
    let calls = calls.filter(|(call, _)| !OURS.contains(&call.as_str()));
    let points = calls.flat_map(|(call, count)| {
        (1..=count).map(move |n| Point {
            subject,
            call: call.clone(),
            n,
        })
    });
    points.collect()
}

/// An operation that met its fault, and a process that goes on without.
#[derive(Debug)]
pub struct Course {
    scene: Scene,
    victim: Victim,
    lasting: bool,
    answer: Result<Done, String>,
    held: Option<Result<bool, String>>,
    kept: Option<bool>,
    /// The system calls, up to the answer.
    pub log: String,
}

impl Course {
    /// Goes through the operation.
    pub fn begin(
        program: &Path,
        subject: Subject,
        injection: Option<&Injection>,
        fault: Option<Fault>,
    ) -> anyhow::Result<Self> {
        let scene = Scene::new(program, subject)?;
        let mut victim = scene.victim(fault)?;
        let holds = subject.operation.finds_it_held();
        let holder = holds.then(|| scene.acquire(STUCK)).transpose()?;
        let strace = victim.trace(injection, &scene.log())?;
        let (answer, holder) = operate(&mut victim, holder, subject)?;
        match answer {
            Ok(Some(_)) => strace.detach()?,
            Ok(None) => strace.end()?,
            Err(_) => {
                victim.kill()?;
                strace.end()?;
            }
        }
        let answer = answer.and_then(|done| done.context("it died"));
        let mut course = Self {
            log: std::fs::read_to_string(scene.log())?,
            answer: answer.map_err(|e| format!("{e:#}")),
            kept: holder.map(|guard| guard.release().is_ok()),
            held: None,
            lasting: injection.is_some_and(|injection| matches!(injection.when, When::From(_))),
            scene,
            victim,
        };
        if course.answer.is_ok() {
            let held = course.scene.is_held();
            course.held = Some(held.map_err(|e| e.to_string()));
            // It may take as long as its threads stay.
            course.victim.tell()?;
        }
        Ok(course)
    }

    /// What is done in it.
    pub fn subject(&self) -> Subject {
        self.scene.subject
    }

    /// Whether the fault occurred.
    pub fn is_struck(&self) -> bool {
        self.log.contains("(INJECTED)")
    }

    /// Sees how it ends.
    pub fn finish(mut self) -> anyhow::Result<Witness> {
        let after = self.answer.is_ok().then(|| {
            let after = self.victim.hear(STUCK);
            let after = after.and_then(|after| after.context("it died"));
            after.map_err(|e| format!("{e:#}"))
        });
        if !matches!(after, Some(Ok(_))) {
            self.victim.kill()?;
        }
        self.victim.end()?;
        Ok(Witness {
            lasting: self.lasting,
            answer: self.answer,
            held: self.held,
            kept: self.kept,
            after,
            complaints: self.scene.complained()?,
            traces: Traces::of(&self.scene)?,
        })
    }
}

/// Has the victim go through its operation, while `holder` holds the lock: until it waits, if it
/// is to be granted, and else to the end.
pub fn operate(
    victim: &mut Victim,
    mut holder: Option<Guard>,
    subject: Subject,
) -> anyhow::Result<(anyhow::Result<Option<Done>>, Option<Guard>)> {
    victim.tell()?;
    if let Ok(Some(())) = victim.hear(STUCK)
        && subject.operation.is_granted()
    {
        victim.await_sleep()?;
        holder.take().map(Guard::release).transpose()?;
    }
    Ok((victim.hear(STUCK), holder))
}

/// Hands out work to as many threads as there are processors, until it is done or one fails.
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

/// Locks what cannot be poisoned unless a test fails anyway.
pub fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().expect("nobody panicked")
}

/// Does something with all that is put in, a while later, in the order in which it was.
#[derive(Debug)]
pub struct Later<T> {
    waiting: VecDeque<T>,
}

impl<T> Default for Later<T> {
    fn default() -> Self {
        Self {
            waiting: VecDeque::new(),
        }
    }
}

impl<T> Later<T> {
    /// How many may wait: as many as begin in the second for which idle threads stay.
    const MOST: usize = 80;

    /// Puts it in; answers what is due.
    pub fn put(&mut self, thing: T) -> Option<T> {
        self.waiting.push_back(thing);
        (self.waiting.len() > Self::MOST).then(|| self.waiting.pop_front())?
    }

    /// What is left.
    pub fn rest(self) -> impl Iterator<Item = T> {
        self.waiting.into_iter()
    }
}

/// The program that has the victims in it: this one.
pub fn program() -> anyhow::Result<PathBuf> {
    Ok(std::env::current_exe()?)
}

/// Says that `strace` is missing. In CI it must not be.
pub fn without_strace() -> anyhow::Result<Outcome> {
    let missing = "strace is not installed, which makes system calls fail";
    anyhow::ensure!(std::env::var_os("CI").is_none(), "{missing}");
    Ok(Outcome {
        omitted: vec![missing.to_owned()],
        ..Outcome::default()
    })
}

impl Point {
    /// Something that happens at this call, or from there on.
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
