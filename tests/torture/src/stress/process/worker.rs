//! A worker: follows its plan, touches the objects of the locks it holds, and writes its journal.

use std::io;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use locket::LockFile;

use super::{Kind, Role, Shared};
use crate::stress::journal::{Event, Journal, Mode, now};
use crate::stress::lockers::{Failure, FlockTool, Locker, Native, NoLock};
use crate::stress::object::Object;
use crate::stress::plan::{Patience, Plan, Step};

/// A worker of a process.
pub(super) struct Worker<'a> {
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
    pub(super) fn new(shared: &'a Shared, kind: Kind, number: usize) -> Result<Self> {
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
            Kind::Blocking => Box::new(Native::new(locks.clone(), None)),
            Kind::Task => Box::new(Native::new(locks.clone(), Some(shared.runtime.clone()))),
            #[cfg(feature = "components")]
            Kind::Guest => Box::new(crate::stress::lockers::guest::Instance::start(shared)?),
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

    pub(super) fn work(mut self) -> Result<()> {
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

    /// Makes one attempt; returns whether it led to a section.
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

    /// Uses the object that the lock protects.
    fn touch(&mut self, number: u64, step: &Step) -> io::Result<[u64; 2]> {
        let object = &mut self.objects[step.lock];
        let meanwhile = || pass(step.hold);
        match step.mode {
            Mode::Exclusive => object.add(&self.worker, number, meanwhile),
            Mode::Shared => object.look(meanwhile),
        }
    }

    /// Holds a lock that may be broken, without using the object; returns whether it was lost.
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
