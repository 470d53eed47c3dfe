//! The ways in which workers lock.
//!
//! For guests and foreign programs, the worker says when to acquire and when to release, and uses the
//! object in between. So all kinds of workers do the same and are checked by the same rules.

use std::io::{self, Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Result;
use locket::{Guard, LockFile, State};
use tokio::runtime::Handle;

use crate::stress::journal::{Mode, Why};
use crate::stress::plan::{Patience, Step};
use crate::stress::process::{Role, Shared};

#[cfg(feature = "components")]
pub(crate) mod guest;

/// Why an acquire or release did not succeed.
pub(crate) enum Failure {
    /// The worker did not get the lock.
    GaveUp(Why),
    /// The worker does not hold the lock any more.
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

/// A way to acquire and release the locks of the workload, one at a time.
pub(crate) trait Locker {
    /// The step closest to this one that it supports.
    fn adapt(&self, step: Step) -> Step {
        without_abandoning(step)
    }

    /// Acquires a lock.
    fn acquire(&mut self, step: &Step) -> Result<(), Failure>;

    /// Whether it knows that the lock is lost.
    fn is_lost(&mut self) -> bool {
        false
    }

    /// Releases the lock.
    fn release(&mut self, step: &Step) -> Result<(), Failure>;
}

/// The same step, without giving up the wait from outside.
fn without_abandoning(step: Step) -> Step {
    match step.patience {
        Patience::Abandon(_) => Step {
            patience: Patience::Endless,
            ..step
        },
        Patience::Endless | Patience::Limit(_) => step,
    }
}

/// The locks of an engine: acquired on the worker's thread, or as a task of the runtime.
pub(crate) struct Native {
    locks: Vec<LockFile>,
    tasks: Option<Handle>,
    held: Option<(usize, Guard)>,
}

impl Native {
    pub(crate) fn new(locks: Vec<LockFile>, tasks: Option<Handle>) -> Self {
        Self {
            locks,
            tasks,
            held: None,
        }
    }
}

impl Locker for Native {
    fn adapt(&self, step: Step) -> Step {
        match self.tasks {
            Some(_) => step,
            None => without_abandoning(step),
        }
    }

    fn acquire(&mut self, step: &Step) -> Result<(), Failure> {
        let lock = &self.locks[step.lock];
        let guard = match &self.tasks {
            None => lock.acquire(mode(step), limit(step))?,
            Some(runtime) => {
                let acquire = lock.acquire_async(mode(step), limit(step));
                runtime.block_on(async {
                    match step.patience {
                        Patience::Abandon(after) => tokio::time::timeout(after, acquire)
                            .await
                            .map_err(|_| Failure::GaveUp(Why::Abandoned)),
                        Patience::Endless | Patience::Limit(_) => Ok(acquire.await),
                    }
                })??
            }
        };
        self.held = Some((step.lock, guard));
        Ok(())
    }

    fn is_lost(&mut self) -> bool {
        let held = self.held.as_ref();
        held.is_some_and(|(lock, _)| matches!(self.locks[*lock].state(), State::Lost(_)))
    }

    fn release(&mut self, step: &Step) -> Result<(), Failure> {
        let (_, guard) = self.held.take().expect("the lock is held");
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

/// `flock(1)`, which runs `cat`: a line that comes back shows that it holds the lock.
pub(crate) struct FlockTool {
    files: Vec<PathBuf>,
    held: Option<Child>,
}

impl FlockTool {
    pub(crate) fn new(shared: &Shared) -> Self {
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
        // If it has ended already, its exit code says why.
        let _ = child
            .stdin
            .as_mut()
            .expect("its input is piped")
            .write_all(b"\n");
        let mut line = [0];
        if child
            .stdout
            .as_mut()
            .expect("its output is piped")
            .read(&mut line)?
            == 1
        {
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
        let mut child = self.held.take().expect("the lock is held");
        match child.wait()?.success() {
            true => Ok(()),
            false => Err(Failure::Other("flock(1) failed".into())),
        }
    }
}

/// Does not lock.
pub(crate) struct NoLock;

impl Locker for NoLock {
    fn acquire(&mut self, _: &Step) -> Result<(), Failure> {
        Ok(())
    }

    fn release(&mut self, _: &Step) -> Result<(), Failure> {
        Ok(())
    }
}

/// The same step with its timeout rounded up to milliseconds, without giving up the wait from outside.
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
