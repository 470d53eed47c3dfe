//! A process that takes part: several workers, each with a journal and a way of its own to lock.
//!
//! It runs until its input ends, or until its workers are done. Guests and programs of others are
//! told when to acquire and when to release, and their worker does in between what the lock protects:
//! so every kind does the same, and is checked by the same rules.

use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use locket::{Engine, Guard, LockFile, State};
use rustix::process::{Signal, set_parent_process_death_signal};
use serde::{Deserialize, Serialize};
use tokio::runtime::{Handle, Runtime};

use crate::stress::journal::{Event, Journal, Mode, Why, now};
use crate::stress::object::Object;
use crate::stress::plan::{Layout, Patience, Plan, Step, Workload};

/// How a worker locks.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// On its own thread.
    Blocking,
    /// As a task.
    Task,
    /// By a component instance.
    #[cfg(feature = "components")]
    Guest,
    /// By `flock(1)`.
    Tool,
    /// Not at all, to see that it is found out.
    Reckless,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Blocking => "blocking",
            Self::Task => "task",
            #[cfg(feature = "components")]
            Self::Guest => "guest",
            Self::Tool => "tool",
            Self::Reckless => "reckless",
        })
    }
}

/// What one process does.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Role {
    /// Its name; those of its workers begin with it.
    pub name: String,
    /// What its plans follow from.
    pub seed: u64,
    /// Its workers.
    pub workers: Vec<Kind>,
    /// Where everything is.
    pub layout: Layout,
    /// What to do.
    pub workload: Workload,
}

impl Role {
    /// Plays it.
    ///
    /// # Errors
    ///
    /// Where something else failed than what is put down in a journal.
    pub fn run(&self) -> Result<()> {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        let runtime = Runtime::new()?;
        let shared = Arc::new(Shared {
            role: self.clone(),
            engine: Engine::new(),
            runtime: runtime.handle().clone(),
            stopping: AtomicBool::new(false),
        });
        // It ends with this process, if the workers are done before.
        thread::spawn({
            let shared = Arc::clone(&shared);
            move || {
                let _ = io::copy(&mut io::stdin(), &mut io::sink());
                shared.stopping.store(true, Ordering::SeqCst);
            }
        });
        let workers = self.workers.iter().enumerate().map(|(number, kind)| {
            let (shared, kind) = (Arc::clone(&shared), *kind);
            thread::spawn(move || Worker::new(&shared, kind, number)?.work())
        });
        let workers: Vec<_> = workers.collect();
        for worker in workers {
            worker.join().map_err(|_| anyhow!("a worker panicked"))??;
        }
        // What its tasks still do must not hold it up.
        runtime.shutdown_background();
        Ok(())
    }
}

/// What the workers of a process share.
pub(crate) struct Shared {
    pub(crate) role: Role,
    pub(crate) engine: Engine,
    pub(crate) runtime: Handle,
    stopping: AtomicBool,
}

impl Shared {
    /// The locks of the traffic, in the engine of this process.
    fn open(&self) -> Result<Vec<LockFile>> {
        let Role {
            layout, workload, ..
        } = &self.role;
        let open = |lock: &crate::stress::plan::Lock| {
            let options = lock.options(layout);
            Ok(self.engine.open_with(layout.lock(lock), &options)?)
        };
        workload.locks.iter().map(open).collect()
    }
}

/// What an acquire or release came to, other than success.
pub(crate) enum Failure {
    /// Did not get the lock.
    GaveUp(Why),
    /// Does not have the lock any more.
    Lost,
    /// Anything else.
    Other(String),
}

impl From<locket::Error> for Failure {
    fn from(error: locket::Error) -> Self {
        match () {
            () if error.is_would_block() => Self::GaveUp(Why::WouldBlock),
            () if error.is_timeout() => Self::GaveUp(Why::Timeout),
            () if error.is_lost() => Self::Lost,
            () => Self::Other(error.to_string()),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Other(error.to_string())
    }
}

/// A way to acquire and release the locks of the traffic, one at a time.
pub(crate) trait Locker {
    /// The nearest to this step that it can do.
    fn adapt(&self, step: Step) -> Step {
        match step.patience {
            Patience::Abandon(_) => Step {
                patience: Patience::Endless,
                ..step
            },
            Patience::Endless | Patience::Limit(_) => step,
        }
    }

    /// Acquires a lock.
    fn acquire(&mut self, step: &Step) -> Result<(), Failure>;

    /// Whether it has been told that the lock is lost.
    fn is_lost(&mut self) -> bool {
        false
    }

    /// Releases the lock.
    fn release(&mut self, step: &Step) -> Result<(), Failure>;
}

struct Worker<'a> {
    shared: &'a Shared,
    worker: String,
    seed: u64,
    locker: Box<dyn Locker>,
    journal: Journal,
    objects: Vec<Object>,
    /// For breaking them.
    locks: Vec<LockFile>,
}

impl<'a> Worker<'a> {
    fn new(shared: &'a Shared, kind: Kind, number: usize) -> Result<Self> {
        let Role {
            name,
            seed,
            layout,
            workload,
            ..
        } = &shared.role;
        let worker = format!("{name}.{number}-{kind}");
        let objects = workload.locks.iter();
        let objects = objects.map(|lock| Object::open(&layout.objects(), &lock.name));
        let locks = shared.open()?;
        let locker: Box<dyn Locker> = match kind {
            Kind::Blocking => Box::new(Blocking(Native::new(locks.clone()))),
            Kind::Task => Box::new(Async(Native::new(locks.clone()), shared.runtime.clone())),
            #[cfg(feature = "components")]
            Kind::Guest => Box::new(crate::stress::guest::Instance::start(shared)?),
            Kind::Tool => Box::new(FlockTool::new(shared)),
            Kind::Reckless => Box::new(NoLock),
        };
        let journal = Journal::begin(&layout.journals(), &worker).context("a journal")?;
        let number = u64::try_from(number)?;
        Ok(Self {
            seed: fastrand::Rng::with_seed(seed.wrapping_add(number)).u64(..),
            objects: objects.collect::<io::Result<_>>()?,
            shared,
            worker,
            locker,
            journal,
            locks,
        })
    }

    fn work(mut self) -> Result<()> {
        let shared = self.shared;
        let workload = &shared.role.workload;
        let mut sections = 0;
        for (number, step) in (1..).zip(Plan::new(self.seed, workload)) {
            if workload.sections == Some(sections) || shared.stopping.load(Ordering::SeqCst) {
                break;
            }
            if step.breaks {
                self.break_lock(&step)?;
                continue;
            }
            let step = self.locker.adapt(step);
            sections += u64::from(self.take_turn(number, &step)?);
            pass(step.rest);
        }
        Ok(())
    }

    /// Makes one attempt; whether it led to a section.
    fn take_turn(&mut self, number: u64, step: &Step) -> Result<bool> {
        let lock = &self.shared.role.workload.locks[step.lock];
        let limit = match step.patience {
            Patience::Limit(limit) => Some(u64::try_from(limit.as_nanos())?),
            Patience::Endless | Patience::Abandon(_) => None,
        };
        self.journal.add(&Event::Ask {
            number,
            lock: lock.name.clone(),
            mode: step.mode,
            limit,
            at: now(),
        })?;
        if let Err(failure) = self.locker.acquire(step) {
            self.note(failure)?;
            return Ok(false);
        }
        self.journal.add(&Event::Enter { at: now() })?;
        let lost = lock.broken && self.loses_it_within(step.hold);
        if lost {
            self.note(Failure::Lost)?;
        } else {
            let counted = match lock.broken {
                true => None,
                false => Some(self.touch(number, step)?),
            };
            self.journal.add(&Event::Leave { counted, at: now() })?;
        }
        match self.locker.release(step) {
            Err(Failure::Lost) if lost => {}
            Err(failure) => self.note(failure)?,
            Ok(()) if lost => self.journal.add(&Event::Leave {
                counted: None,
                at: now(),
            })?,
            Ok(()) => {}
        }
        Ok(true)
    }

    fn note(&mut self, failure: Failure) -> io::Result<()> {
        let at = now();
        self.journal.add(&match failure {
            Failure::GaveUp(why) => Event::GaveUp { why, at },
            Failure::Lost => Event::Lost { at },
            Failure::Other(error) => Event::Failed { error, at },
        })
    }

    /// Does what the lock is for.
    fn touch(&mut self, number: u64, step: &Step) -> io::Result<[u64; 2]> {
        let object = &mut self.objects[step.lock];
        let meanwhile = || pass(step.hold);
        match step.mode {
            Mode::Exclusive => object.add(&self.worker, number, meanwhile),
            Mode::Shared => object.look(meanwhile),
        }
    }

    /// Holds a lock that may be broken, and does not touch anything.
    fn loses_it_within(&mut self, time: Duration) -> bool {
        let end = Instant::now() + time;
        loop {
            if self.locker.is_lost() {
                return true;
            }
            if Instant::now() >= end {
                return false;
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn break_lock(&mut self, step: &Step) -> Result<()> {
        let from = now();
        match self.locks[step.lock].break_lock() {
            Ok(()) => self.journal.add(&Event::Broke {
                lock: self.shared.role.workload.locks[step.lock].name.clone(),
                from,
                at: now(),
            })?,
            Err(e) if e.is_not_locked() => {}
            Err(e) => bail!("{} could not break a lock: {e}", self.worker),
        }
        Ok(())
    }
}

fn pass(time: Duration) {
    if !time.is_zero() {
        thread::sleep(time);
    }
}

/// The locks of the engine, and the one that is held.
struct Native {
    locks: Vec<LockFile>,
    held: Option<(usize, Guard)>,
}

impl Native {
    fn new(locks: Vec<LockFile>) -> Self {
        Self { locks, held: None }
    }

    fn acquired(&mut self, step: &Step, guard: Guard) -> Result<(), Failure> {
        self.held = Some((step.lock, guard));
        Ok(())
    }

    fn is_lost(&mut self) -> bool {
        let held = self.held.as_ref();
        held.is_some_and(|(lock, _)| matches!(self.locks[*lock].state(), State::Lost(_)))
    }

    fn release(&mut self, step: &Step) -> Result<(), Failure> {
        let (_, guard) = self.held.take().expect("it is held");
        match step.by_drop {
            true => drop(guard),
            false => guard.release()?,
        }
        Ok(())
    }
}

fn mode(step: &Step) -> locket::Mode {
    match step.mode {
        Mode::Exclusive => locket::Mode::Exclusive,
        Mode::Shared => locket::Mode::Shared,
    }
}

fn limit(step: &Step) -> Option<Duration> {
    match step.patience {
        Patience::Limit(limit) => Some(limit),
        Patience::Endless | Patience::Abandon(_) => None,
    }
}

struct Blocking(Native);

impl Locker for Blocking {
    fn acquire(&mut self, step: &Step) -> Result<(), Failure> {
        let guard = self.0.locks[step.lock].acquire(mode(step), limit(step))?;
        self.0.acquired(step, guard)
    }

    fn is_lost(&mut self) -> bool {
        self.0.is_lost()
    }

    fn release(&mut self, step: &Step) -> Result<(), Failure> {
        self.0.release(step)
    }
}

struct Async(Native, Handle);

impl Locker for Async {
    fn adapt(&self, step: Step) -> Step {
        step
    }

    fn acquire(&mut self, step: &Step) -> Result<(), Failure> {
        let acquire = self.0.locks[step.lock].acquire_async(mode(step), limit(step));
        let guard = self.1.block_on(async {
            match step.patience {
                Patience::Abandon(after) => tokio::time::timeout(after, acquire)
                    .await
                    .map_err(|_| Failure::GaveUp(Why::Abandoned)),
                Patience::Endless | Patience::Limit(_) => Ok(acquire.await),
            }
        })??;
        self.0.acquired(step, guard)
    }

    fn is_lost(&mut self) -> bool {
        self.0.is_lost()
    }

    fn release(&mut self, step: &Step) -> Result<(), Failure> {
        self.0.release(step)
    }
}

/// `flock(1)`, which runs `cat`: a line that comes back tells that it has the lock.
struct FlockTool {
    files: Vec<PathBuf>,
    held: Option<Child>,
}

impl FlockTool {
    fn new(shared: &Shared) -> Self {
        let Role {
            layout, workload, ..
        } = &shared.role;
        let files = workload.locks.iter().map(|lock| layout.lock(lock));
        Self {
            files: files.collect(),
            held: None,
        }
    }
}

impl Locker for FlockTool {
    fn adapt(&self, step: Step) -> Step {
        in_whole_milliseconds(step)
    }

    fn acquire(&mut self, step: &Step) -> Result<(), Failure> {
        let mut command = Command::new("flock");
        command.arg(match step.mode {
            Mode::Exclusive => "--exclusive",
            Mode::Shared => "--shared",
        });
        match limit(step) {
            None => {}
            Some(Duration::ZERO) => _ = command.arg("--nonblock"),
            Some(limit) => _ = command.arg(format!("--timeout={}", limit.as_secs_f64())),
        }
        command.arg(&self.files[step.lock]).arg("cat");
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        // Where it has ended already, the answer tells.
        let _ = child.stdin.as_mut().expect("its input").write_all(b"\n");
        let mut line = [0];
        if child.stdout.as_mut().expect("its output").read(&mut line)? == 1 {
            self.held = Some(child);
            return Ok(());
        }
        Err(match child.wait()?.code() {
            Some(1) if limit(step) == Some(Duration::ZERO) => Failure::GaveUp(Why::WouldBlock),
            Some(1) => Failure::GaveUp(Why::Timeout),
            code => Failure::Other(format!("flock(1) ended with {code:?}")),
        })
    }

    fn release(&mut self, _: &Step) -> Result<(), Failure> {
        let mut child = self.held.take().expect("it is held");
        match child.wait()?.success() {
            true => Ok(()),
            false => Err(Failure::Other("flock(1) failed".into())),
        }
    }
}

/// Somebody who does not lock.
struct NoLock;

impl Locker for NoLock {
    fn acquire(&mut self, _: &Step) -> Result<(), Failure> {
        Ok(())
    }

    fn release(&mut self, _: &Step) -> Result<(), Failure> {
        Ok(())
    }
}

/// For those who count so, and cannot be called off: never less than was asked for.
pub(crate) fn in_whole_milliseconds(step: Step) -> Step {
    let patience = match step.patience {
        Patience::Limit(limit) => {
            let millis = limit.as_nanos().div_ceil(1_000_000);
            let millis = u64::try_from(millis).unwrap_or(u64::MAX);
            Patience::Limit(Duration::from_millis(millis))
        }
        Patience::Endless | Patience::Abandon(_) => Patience::Endless,
    };
    Step { patience, ..step }
}
