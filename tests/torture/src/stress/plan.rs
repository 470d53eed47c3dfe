//! What a participant is going to do. It follows from its seed alone; when it comes to what, and who
//! gets ahead of whom, is up to the system.

use std::path::{Path, PathBuf};
use std::time::Duration;

use locket::{Options, Protocol};
use serde::{Deserialize, Serialize};

use crate::stress::journal::Mode;

/// A lock and how everybody keeps it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Lock {
    /// The name of its file, and of the object that it protects.
    pub name: String,
    /// The name of the protocol.
    pub protocol: String,
    /// Whether it is broken now and then. It protects nothing then: who holds it does no more than
    /// hold it.
    pub broken: bool,
}

impl Lock {
    /// A lock of this protocol.
    pub fn of(protocol: Protocol) -> Self {
        Self::named(protocol.name(), protocol)
    }

    /// A lock with a name of its own.
    pub fn named(name: &str, protocol: Protocol) -> Self {
        Self {
            name: name.to_owned(),
            protocol: protocol.name().to_owned(),
            broken: false,
        }
    }

    /// The protocol.
    ///
    /// # Panics
    ///
    /// Where there is none of this name.
    pub fn protocol(&self) -> Protocol {
        self.protocol.parse().expect("a protocol")
    }

    /// How to open it, in a place where it belongs to `Table`.
    pub fn options(&self, layout: &Layout) -> Options {
        let options = Options::new().protocol(self.protocol());
        match self.protocol() {
            Protocol::Sqlite => options.database(layout.database()),
            _ => options,
        }
    }
}

/// Where everything is.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Layout(PathBuf);

impl Layout {
    /// Makes the directories.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub fn create(dir: &Path) -> std::io::Result<Self> {
        let layout = Self(dir.to_owned());
        for dir in [layout.locks(), layout.objects(), layout.journals()] {
            std::fs::create_dir(dir)?;
        }
        Ok(layout)
    }

    /// The directory of lock files.
    pub fn locks(&self) -> PathBuf {
        self.0.join("locks")
    }

    /// The file of a lock.
    pub fn lock(&self, lock: &Lock) -> PathBuf {
        self.locks().join(&lock.name)
    }

    /// The directory of what they protect.
    pub fn objects(&self) -> PathBuf {
        self.0.join("objects")
    }

    /// The directory of journals.
    pub fn journals(&self) -> PathBuf {
        self.0.join("journals")
    }

    /// The database of the locks that are rows of one.
    pub fn database(&self) -> PathBuf {
        self.locks().join("database")
    }
}

/// What goes on at the locks.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Workload {
    /// The locks; one that is there twice is used twice as often.
    pub locks: Vec<Lock>,
    /// How many attempts in a hundred are shared, where the lock can be.
    pub shared: u8,
    /// How many in a hundred have a timeout, a quarter of them one of zero.
    pub limited: u8,
    /// How many in a hundred are given up by whoever can do that.
    pub abandoned: u8,
    /// How many in a hundred last; the others take no longer than the work.
    pub lasting: u8,
    /// How long those last at most, and timeouts are.
    pub longest: Duration,
    /// How long a participant leaves the locks alone after each section, at most. A kernel's lock is
    /// not handed over: who asks again at once mostly has it before somebody else has woken up.
    pub rest: Duration,
    /// After how many sections a participant is done; none: when it is told to.
    pub sections: Option<u64>,
}

impl Workload {
    /// Exclusive attempts at these locks, without timeouts, for as short a time as the work takes.
    pub fn of(locks: Vec<Lock>) -> Self {
        Self {
            locks,
            shared: 0,
            limited: 0,
            abandoned: 0,
            lasting: 0,
            longest: Duration::ZERO,
            rest: Duration::ZERO,
            sections: None,
        }
    }

    /// The same at one lock of each protocol.
    pub fn of_each_protocol() -> Self {
        Self::of(Protocol::ALL.iter().copied().map(Lock::of).collect())
    }

    /// The same at fewer locks.
    pub fn at(&self, takes_part: impl Fn(&Lock) -> bool) -> Self {
        let mut workload = self.clone();
        workload.locks.retain(takes_part);
        workload
    }
}

/// How long to wait for a lock.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Patience {
    /// Until it is there.
    Endless,
    /// This long.
    Limit(Duration),
    /// As if for ever; and then gives up the wait from outside, where that is possible.
    Abandon(Duration),
}

/// One attempt of a participant.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Place of the lock in the traffic.
    pub lock: usize,
    /// What to exclude.
    pub mode: Mode,
    /// How long to wait.
    pub patience: Patience,
    /// How long to hold it.
    pub hold: Duration,
    /// How long to leave the locks alone afterwards.
    pub rest: Duration,
    /// To let go by dropping the guard, which does not say how it went.
    pub by_drop: bool,
    /// To break the lock instead, if it is one that is broken.
    pub breaks: bool,
}

/// The steps of a participant, without end.
#[derive(Debug)]
pub struct Plan<'a> {
    chance: fastrand::Rng,
    workload: &'a Workload,
}

impl<'a> Plan<'a> {
    /// The plan that follows from this seed.
    pub fn new(seed: u64, workload: &'a Workload) -> Self {
        Self {
            chance: fastrand::Rng::with_seed(seed),
            workload,
        }
    }

    fn in_a_hundred(&mut self, percent: u8) -> bool {
        self.chance.u8(0..100) < percent
    }

    fn time(&mut self) -> Duration {
        self.part_of(self.workload.longest)
    }

    fn part_of(&mut self, time: Duration) -> Duration {
        time.mul_f64(self.chance.f64())
    }
}

impl Iterator for Plan<'_> {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        let workload = self.workload;
        let lock = self.chance.usize(..workload.locks.len());
        let kind = &workload.locks[lock];
        let shared = self.in_a_hundred(workload.shared) && !kind.protocol().is_existence_lock();
        let patience = if self.in_a_hundred(workload.limited) {
            match self.in_a_hundred(25) {
                true => Patience::Limit(Duration::ZERO),
                false => Patience::Limit(self.time().max(Duration::from_micros(1))),
            }
        } else if self.in_a_hundred(workload.abandoned) {
            Patience::Abandon(self.time())
        } else {
            Patience::Endless
        };
        let hold = match self.in_a_hundred(workload.lasting) {
            true => self.time(),
            false => Duration::ZERO,
        };
        Some(Step {
            lock,
            mode: if shared {
                Mode::Shared
            } else {
                Mode::Exclusive
            },
            patience,
            hold,
            rest: self.part_of(workload.rest),
            by_drop: self.chance.bool() && !kind.broken,
            breaks: self.in_a_hundred(20) && kind.broken,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_follows_from_its_seed() {
        let workload = Workload {
            shared: 30,
            limited: 20,
            abandoned: 10,
            lasting: 10,
            longest: Duration::from_millis(5),
            ..Workload::of_each_protocol()
        };
        let steps = |seed| Plan::new(seed, &workload).take(1000).collect::<Vec<_>>();
        assert_eq!(steps(1), steps(1));
        assert_ne!(steps(1), steps(2));
        let shared = |step: &&Step| step.mode == Mode::Shared;
        let shared = steps(3).iter().filter(shared).count();
        assert!(
            (50..150).contains(&shared),
            "{shared} of 1000, on 3 locks of 9"
        );
        for step in steps(4) {
            let lock = &workload.locks[step.lock];
            assert!(step.mode == Mode::Exclusive || !lock.protocol().is_existence_lock());
        }
    }
}
