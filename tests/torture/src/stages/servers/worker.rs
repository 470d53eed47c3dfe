//! A process that locks on a server, over and over, and writes what the lock protects.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::Result;
use locket::{Engine, Mode, Remote};
use rustix::fs::{FlockOperation, flock};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// What a worker is told.
#[derive(Debug, Deserialize, Serialize)]
pub struct Role {
    pub(super) url: String,
    pub(super) name: String,
    pub(super) folder: PathBuf,
    pub(super) number: usize,
    pub(super) seed: u64,
    pub(super) ttl: Duration,
}

/// One hold, as its holder knew it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Section {
    pub(super) by: String,
    pub(super) token: u64,
    /// When the holder had it, on the clock that also runs while the system is suspended.
    pub(super) from: Duration,
    /// When the holder last was told that it still had it.
    pub(super) to: Duration,
    /// Whether what it wrote was accepted.
    pub(super) wrote: bool,
    /// Whether it learned that it had lost the lock.
    pub(super) lost: bool,
}

pub(super) fn now() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// A number that refuses writers with an old token.
#[derive(Debug)]
pub(super) struct Store(PathBuf);

impl Store {
    pub(super) fn new(folder: &Path) -> Self {
        Self(folder.join("store"))
    }

    /// Changes what is stored, a token and a number, alone.
    fn change<R>(&self, change: impl FnOnce(&mut (u64, u64)) -> R) -> Result<R> {
        let mut options = OpenOptions::new();
        let mut file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&self.0)?;
        flock(&file, FlockOperation::LockExclusive)?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        let mut stored = match text.is_empty() {
            true => (0, 0),
            false => serde_json::from_str(&text)?,
        };
        let result = change(&mut stored);
        // Its length never shrinks, so that a process which is killed here leaves no more than it found.
        let text = serde_json::to_string(&stored)?;
        file.seek(SeekFrom::Start(0))?;
        file.write_all(format!("{text:<64}").as_bytes())?;
        Ok(result)
    }

    /// The number, for the holder with this token; nothing for an older one.
    pub(super) fn read(&self, token: u64) -> Result<Option<u64>> {
        self.change(|(newest, number)| {
            *newest = token.max(*newest);
            (*newest == token).then_some(*number)
        })
    }

    /// Stores a number, unless a newer token has been seen.
    pub(super) fn write(&self, token: u64, number: u64) -> Result<bool> {
        self.change(|(newest, stored)| {
            let accepted = *newest == token;
            if accepted {
                *stored = number;
            }
            accepted
        })
    }

    pub(super) fn number(&self) -> Result<u64> {
        self.change(|(_, number)| *number)
    }
}

/// Adds sections to a journal, each in one write.
#[derive(Debug)]
pub(super) struct Journal(File);

impl Journal {
    pub(super) fn open(folder: &Path, name: &str) -> Result<Self> {
        let mut options = OpenOptions::new();
        let path = folder.join(format!("{name}.journal"));
        Ok(Self(options.create(true).append(true).open(path)?))
    }

    pub(super) fn add(&mut self, section: &Section) -> Result<()> {
        let line = serde_json::to_string(section)? + "\n";
        Ok(self.0.write_all(line.as_bytes())?)
    }
}

impl Role {
    /// Locks and writes until this process is killed.
    ///
    /// # Errors
    ///
    /// Those of the journal and the store.
    pub fn run(&self) -> Result<()> {
        let mut chance = fastrand::Rng::with_seed(self.seed);
        let by = format!("worker-{}", self.number);
        let mut journal = Journal::open(&self.folder, &by)?;
        let store = Store::new(&self.folder);
        let remote = Remote::builder(&self.url).ttl(self.ttl).label(&*by);
        let remote = remote.request_timeout(Duration::from_secs(2)).build()?;
        let lock = Engine::new().open_remote(&remote, &self.name)?;
        loop {
            // A server that is away, or a lock that was lost before it was told, is no violation.
            let Ok(guard) = lock.acquire(Mode::Exclusive, Duration::from_secs(30)) else {
                thread::sleep(Duration::from_millis(5));
                continue;
            };
            // It may have been lost before it was told.
            let Some(token) = guard.token() else { continue };
            let from = now();
            let (mut to, mut wrote) = (from, false);
            // The time of the question, so that a stop between the two cannot lengthen the hold.
            let mut still = || {
                let asked = now();
                let held = guard.is_held();
                to = if held { asked } else { to };
                held
            };
            if let (true, Some(number)) = (still(), store.read(token)?) {
                thread::sleep(Duration::from_micros(chance.u64(..3000)));
                wrote = still() && store.write(token, number + 1)?;
            }
            let lost = !still();
            let section = Section {
                by: by.clone(),
                token,
                from,
                to,
                wrote,
                lost,
            };
            journal.add(&section)?;
            let _ = guard.release();
        }
    }
}
