//! All participants of a run, as processes: to start, kill and stop them, and to put together what
//! they did when they are gone.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
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

/// Nobody waits for longer than this without anybody getting anywhere, unless something is stuck.
const STUCK: Duration = Duration::from_secs(30);

/// Processes that take part.
#[derive(Debug)]
pub struct WorkerGroup {
    program: PathBuf,
    dir: TempDir,
    layout: Layout,
    members: Vec<WorkerProcess>,
    /// Who was killed when.
    kills: HashMap<String, Time>,
    /// What went wrong with the processes themselves.
    failures: Vec<String>,
    stuck_after: Duration,
}

/// A process that takes part.
#[derive(Debug)]
struct WorkerProcess {
    name: String,
    child: Child,
}

/// A program that knows nothing of Locket.
#[derive(Clone, Debug, Serialize)]
pub struct Foreign {
    /// What it locks with: `flock`, `lockf`, `link` or `mkdir`.
    pub function: &'static str,
    /// The names of the locks that it uses.
    pub locks: Vec<String>,
    /// How many sections in a hundred are shared.
    pub shared: u8,
    /// How many last.
    pub lasting: u8,
    /// How long those last at most, in seconds.
    pub longest: f64,
}

impl WorkerGroup {
    /// Nobody yet. Participants will be processes of `program`, which is this one.
    ///
    /// # Errors
    ///
    /// Where there can be no directory for them.
    pub fn of(program: PathBuf) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        Ok(Self {
            program,
            layout: Layout::create(dir.path())?,
            dir,
            members: Vec::new(),
            kills: HashMap::new(),
            failures: Vec::new(),
            stuck_after: STUCK,
        })
    }

    /// Nobody yet.
    ///
    /// # Errors
    ///
    /// As [`of`](Self::of).
    pub fn new() -> Result<Self> {
        Self::of(std::env::current_exe()?)
    }

    /// Takes everybody for stuck when nobody gets anywhere for this long.
    pub fn stuck_after(&mut self, time: Duration) {
        self.stuck_after = time;
    }

    /// Where everything is.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// How many there are.
    pub fn size(&self) -> usize {
        self.members.len()
    }

    /// Starts a process with workers of these kinds. The name must be a new one.
    ///
    /// # Errors
    ///
    /// Where it cannot be started.
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
    /// Where it cannot be started.
    pub fn start_foreign(&mut self, name: &str, seed: u64, foreign: &Foreign) -> Result<()> {
        let mut role = serde_json::to_value(foreign)?;
        role["name"] = name.into();
        role["seed"] = seed.into();
        role["layout"] = self
            .dir
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
        self.dir.path().join(format!("{name}.errors"))
    }

    /// A process that is about to write to what one of these locks protects; the lock is any, and the
    /// process one of a name that `may` be chosen.
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

    /// Kills a process, and waits for its end. It is not a member any more. Answers how long the system
    /// took to end it.
    ///
    /// # Errors
    ///
    /// Where it cannot be.
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

    /// Stops a process, until it is told to [continue](Self::resume).
    ///
    /// # Errors
    ///
    /// Where it cannot be.
    pub fn stop(&self, member: usize) -> Result<()> {
        self.signal(member, Signal::STOP)
    }

    /// Lets a process go on.
    ///
    /// # Errors
    ///
    /// Where it cannot be.
    pub fn resume(&self, member: usize) -> Result<()> {
        self.signal(member, Signal::CONT)
    }

    fn signal(&self, member: usize, signal: Signal) -> Result<()> {
        let pid = Pid::from_child(&self.members[member].child);
        Ok(kill_process(pid, signal)?)
    }

    /// Tells everybody to come to an end, and waits for that.
    ///
    /// # Errors
    ///
    /// Where the journals cannot be read.
    pub fn finish(mut self) -> Result<Finished> {
        for member in &mut self.members {
            member.child.stdin = None;
        }
        let start = Instant::now();
        let mut finished = self.wait()?;
        finished.finished_within = Some(finished.over - start);
        Ok(finished)
    }

    /// Waits until everybody has come to an end. Where that does not happen, and nothing else, tells
    /// what there is to know and makes an end.
    ///
    /// # Errors
    ///
    /// Where the journals cannot be read.
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
            // Only the system knows when one of them ends.
            thread::sleep(Duration::from_millis(2));
        }
        self.read()
    }

    /// Takes leave of those who have come to an end.
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
        format!("{name} ended by itself, {status}: {errors}")
    }

    /// How many bytes the journals have.
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
            dir: self.dir,
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

/// The name of the process of a worker.
pub fn process_of(worker: &str) -> &str {
    worker
        .split_once('.')
        .map_or(worker, |(process, _)| process)
}
