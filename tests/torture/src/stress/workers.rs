//! The worker processes of a run: starts, kills and stops them, and collects their journals once they
//! have ended.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;
use tempfile::TempDir;

use crate::stress::history::History;
use crate::stress::journal::{self, Time, now};
use crate::stress::object::{Object, Remains};
use crate::stress::plan::{Layout, Lock, Workload};
use crate::stress::process::{Kind, Role};

pub use self::finished::Finished;

mod finished;
mod stuck;

/// If no worker makes progress for this long, something is stuck.
const NO_PROGRESS: Duration = Duration::from_secs(30);

/// A group of worker processes.
#[derive(Debug)]
pub struct WorkerGroup {
    program: PathBuf,
    dirs: Dirs,
    layout: Layout,
    members: Vec<WorkerProcess>,
    /// The processes that were killed, and when.
    kills: HashMap<String, Time>,
    /// What went wrong with the processes themselves.
    failures: Vec<String>,
    stuck_after: Duration,
}

/// Where everything is; removed when dropped.
#[derive(Debug)]
struct Dirs {
    all: TempDir,
    database: TempDir,
}

/// A process of the group.
#[derive(Debug)]
struct WorkerProcess {
    name: String,
    child: Child,
}

/// What a program that knows nothing of Locket does.
#[derive(Clone, Debug, Serialize)]
pub struct Foreign {
    /// What it locks with: `flock`, `lockf`, `link` or `mkdir`.
    pub function: &'static str,
    /// The names of the locks that it uses.
    pub locks: Vec<String>,
    /// The percentage of shared sections.
    pub shared: u8,
    /// The percentage of long sections.
    pub lasting: u8,
    /// The longest of those, in seconds.
    pub longest: f64,
}

impl Dirs {
    /// The database is in memory if possible: a commit waits for the disk, which can be busy for seconds,
    /// and has nothing to do with locks.
    fn new() -> Result<Self> {
        let memory = Path::new("/dev/shm");
        Ok(Self {
            all: tempfile::tempdir()?,
            database: match memory.is_dir() {
                true => tempfile::tempdir_in(memory)?,
                false => tempfile::tempdir()?,
            },
        })
    }
}

impl WorkerGroup {
    /// An empty group. Its processes will run `program`, which is this one.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub fn of(program: PathBuf) -> Result<Self> {
        let dirs = Dirs::new()?;
        Ok(Self {
            program,
            layout: Layout::create(dirs.all.path(), dirs.database.path())?,
            dirs,
            members: Vec::new(),
            kills: HashMap::new(),
            failures: Vec::new(),
            stuck_after: NO_PROGRESS,
        })
    }

    /// An empty group.
    ///
    /// # Errors
    ///
    /// As [`of`](Self::of).
    pub fn new() -> Result<Self> {
        Self::of(std::env::current_exe()?)
    }

    /// Treats the group as stuck if no worker makes progress for this long.
    pub fn stuck_after(&mut self, time: Duration) {
        self.stuck_after = time;
    }

    /// Where the locks, objects and journals are.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The number of processes.
    pub fn size(&self) -> usize {
        self.members.len()
    }

    /// Starts a process with workers of these kinds. The name must be a new one.
    ///
    /// # Errors
    ///
    /// A process that cannot be started.
    pub fn start(
        &mut self,
        name: &str,
        seed: u64,
        workers: &[Kind],
        workload: &Workload,
    ) -> Result<()> {
        let role = Role {
            name: name.to_owned(),
            seed,
            workers: workers.to_vec(),
            layout: self.layout.clone(),
            workload: workload.clone(),
        };
        let mut command = Command::new(&self.program);
        command.arg("worker").arg(serde_json::to_string(&role)?);
        self.spawn(name, &mut command)
    }

    /// Starts a Python program.
    ///
    /// # Errors
    ///
    /// A process that cannot be started.
    pub fn start_foreign(&mut self, name: &str, seed: u64, foreign: &Foreign) -> Result<()> {
        let mut role = serde_json::to_value(foreign)?;
        role["name"] = name.into();
        role["seed"] = seed.into();
        role["layout"] = self
            .dirs
            .all
            .path()
            .to_str()
            .context("a path in Unicode")?
            .into();
        let mut command = Command::new("python3");
        command
            .args(["-I", "-S", "-c", include_str!("foreign.py")])
            .arg(role.to_string());
        self.spawn(name, &mut command)
    }

    fn spawn(&mut self, name: &str, command: &mut Command) -> Result<()> {
        let errors = File::create(self.errors(name))?;
        let child = command.stdin(Stdio::piped()).stderr(errors).spawn()?;
        self.members.push(WorkerProcess {
            name: name.to_owned(),
            child,
        });
        Ok(())
    }

    fn errors(&self, name: &str) -> PathBuf {
        self.dirs.all.path().join(format!("{name}.errors"))
    }

    /// A process in an exclusive section of one of these locks, chosen at random among those whose name
    /// `may` be chosen.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub fn any_holder(
        &self,
        locks: &[Lock],
        chance: &mut fastrand::Rng,
        may: impl Fn(&str) -> bool,
    ) -> io::Result<Option<usize>> {
        let first = chance.usize(..locks.len());
        for lock in locks.iter().cycle().skip(first).take(locks.len()) {
            let object = Object::open(&self.layout.objects(), &lock.name)?;
            let Some(writer) = object.writer()?.filter(|worker| may(process_of(worker))) else {
                continue;
            };
            let is = |member: &WorkerProcess| member.name == process_of(&writer);
            if let Some(holder) = self.members.iter().position(is) {
                return Ok(Some(holder));
            }
        }
        Ok(None)
    }

    /// The name of a process.
    pub fn name(&self, member: usize) -> &str {
        &self.members[member].name
    }

    /// Kills a process, waits for its end and removes it from the group; returns how long the system
    /// took to end it.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn kill(&mut self, member: usize) -> Result<Duration> {
        let mut member = self.members.swap_remove(member);
        let at = now();
        member.child.kill()?;
        let status = member.child.wait()?;
        if status.code().is_some() {
            let text = self.failure(&member.name, &status.to_string());
            self.failures.push(text);
        }
        self.kills.insert(member.name.clone(), at);
        Ok(Duration::from_nanos(now() - at))
    }

    /// Stops a process until it is [resumed](Self::resume).
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn stop(&self, member: usize) -> Result<()> {
        self.signal(member, Signal::STOP)
    }

    /// Resumes a stopped process.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn resume(&self, member: usize) -> Result<()> {
        self.signal(member, Signal::CONT)
    }

    fn signal(&self, member: usize, signal: Signal) -> Result<()> {
        let pid = Pid::from_child(&self.members[member].child);
        Ok(kill_process(pid, signal)?)
    }

    /// Makes all processes end, and waits for them.
    ///
    /// # Errors
    ///
    /// A journal that cannot be read.
    pub fn finish(mut self) -> Result<Finished> {
        for member in &mut self.members {
            member.child.stdin = None;
        }
        let start = Instant::now();
        let mut finished = self.wait()?;
        finished.finished_within = Some(finished.over - start);
        Ok(finished)
    }

    /// Waits until all processes have ended. If they are stuck, reports what is known and kills them.
    ///
    /// # Errors
    ///
    /// A journal that cannot be read.
    pub fn wait(mut self) -> Result<Finished> {
        let (mut size, mut since) = (0, Instant::now());
        while !self.members.is_empty() {
            self.reap()?;
            let now = self.written()?;
            if now != size {
                (size, since) = (now, Instant::now());
            } else if since.elapsed() > self.stuck_after {
                self.report_stuck();
            }
            // There is no single event to wait for: the ends of several processes, and their progress.
            thread::sleep(Duration::from_millis(2));
        }
        self.read()
    }

    /// Removes the processes that have ended.
    fn reap(&mut self) -> Result<()> {
        let mut left = Vec::new();
        for mut member in std::mem::take(&mut self.members) {
            match member.child.try_wait()? {
                None => left.push(member),
                Some(status) if status.success() => {}
                Some(status) => {
                    let text = self.failure(&member.name, &status.to_string());
                    self.failures.push(text);
                }
            }
        }
        self.members = left;
        Ok(())
    }

    fn failure(&self, name: &str, status: &str) -> String {
        let errors = fs::read_to_string(self.errors(name)).unwrap_or_default();
        format!("{name} ended unexpectedly, {status}: {errors}")
    }

    /// The size of all journals.
    fn written(&self) -> io::Result<u64> {
        let files = fs::read_dir(self.layout.journals())?;
        files.map(|file| Ok(file?.metadata()?.len())).sum()
    }

    fn read(self) -> Result<Finished> {
        let over = Instant::now();
        let mut history = History::default();
        for file in fs::read_dir(self.layout.journals())? {
            let file = file?;
            let worker = file.file_name().into_string().ok().context("a name")?;
            let text = fs::read_to_string(file.path())?;
            let events =
                journal::read(&text).with_context(|| format!("the journal of {worker}"))?;
            history.add(
                &worker,
                &events,
                self.kills.get(process_of(&worker)).copied(),
            )?;
        }
        let mut remains = HashMap::new();
        for file in fs::read_dir(self.layout.objects())? {
            let name = file?.file_name().into_string().ok().context("a name")?;
            if let Some(lock) = name.strip_suffix(".log") {
                remains.insert(
                    lock.to_owned(),
                    Remains::read(&self.layout.objects(), lock)?,
                );
            }
        }
        Ok(Finished {
            history,
            remains,
            failures: self.failures,
            over,
            finished_within: None,
            dirs: self.dirs,
        })
    }
}

impl Drop for WorkerProcess {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The name of a worker's process.
pub fn process_of(worker: &str) -> &str {
    worker
        .split_once('.')
        .map_or(worker, |(process, _)| process)
}
