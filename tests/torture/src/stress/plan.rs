//! What a worker is going to do. It follows from the seed alone; the times, and which worker gets ahead
//! of which, are up to the system.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use locket::{Options, Protocol};
use serde::{Deserialize, Serialize};

use crate::stress::journal::Mode;

/// A lock and its protocol.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Lock {
    /// The name of its file, and of the object that it protects.
    pub name: String,
    /// The name of the protocol.
    pub protocol: String,
    /// Whether it is broken now and then. If so, it protects nothing, and its holders only hold it.
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
    /// If there is no protocol of this name.
    pub fn protocol(&self) -> Protocol {
        self.protocol
            .parse()
            .expect("the name is that of a protocol")
    }

    /// How to open it.
    pub fn options(&self, layout: &Layout) -> Options {
        let options = Options::new().protocol(self.protocol());
        match self.protocol() {
            Protocol::Sqlite => options.database(layout.database()),
            _ => options,
        }
    }
}

/// The directories of a run.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Layout(PathBuf);

impl Layout {
    /// Creates them, with the database in a directory elsewhere.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub fn create(dir: &Path, database: &Path) -> std::io::Result<Self> {
        let layout = Self(dir.to_owned());
        let dirs = [
            layout.locks(),
            layout.objects(),
            layout.journals(),
            layout.forks(),
        ];
        for dir in dirs {
            std::fs::create_dir(dir)?;
        }
        symlink(database, layout.databases())?;
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

    /// The directory of the objects that they protect.
    pub fn objects(&self) -> PathBuf {
        self.0.join("objects")
    }

    /// The directory of journals.
    pub fn journals(&self) -> PathBuf {
        self.0.join("journals")
    }

    /// The directory in which processes that fork write down what became of their children.
    pub fn forks(&self) -> PathBuf {
        self.0.join("forks")
    }

    /// The database of the `sqlite` locks.
    pub fn database(&self) -> PathBuf {
        self.databases().join("database")
    }

    /// Its directory. Guests lock in the directory of lock files, where the host refuses a database.
    fn databases(&self) -> PathBuf {
        self.0.join("databases")
    }
}

/// What the workers do with the locks.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Workload {
    /// The locks; a lock that is listed twice is used twice as often.
    pub locks: Vec<Lock>,
    /// The percentage of shared attempts, if the protocol supports them.
    pub shared: u8,
    /// The percentage of attempts with a timeout; a quarter of these are zero.
    pub limited: u8,
    /// The percentage of attempts that are abandoned by workers that can do that.
    pub abandoned: u8,
    /// The percentage of long sections; the others take no longer than using the object.
    pub lasting: u8,
    /// The longest of those, and the longest timeout.
    pub longest: Duration,
    /// How long a worker pauses after each section, at most. Kernel locks are not handed over: a worker
    /// that tries again at once usually gets the lock before another one has woken up.
    pub rest: Duration,
    /// After how many sections a worker is done; if none, at the end of the run.
    pub sections: Option<u64>,
    /// Whether each process forks all the time.
    pub forks: bool,
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
            forks: false,
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
    /// Until it is granted.
    Endless,
    /// This long.
    Limit(Duration),
    /// Without a timeout; the wait is abandoned after this time by workers that can do that.
    Abandon(Duration),
}

/// One attempt of a worker.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Index of the lock in the workload.
    pub lock: usize,
    /// What to exclude.
    pub mode: Mode,
    /// How long to wait.
    pub patience: Patience,
    /// How long to hold it.
    pub hold: Duration,
    /// How long to pause afterwards.
    pub rest: Duration,
    /// Whether to release by dropping the guard, which reports no error.
    pub by_drop: bool,
    /// Whether to break the lock instead.
    pub breaks: bool,
}

/// The endless steps of a worker.
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
