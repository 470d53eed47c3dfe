//! A worker process: several workers, each with a journal and its own way to lock.
//!
//! It runs until its input ends, or until its workers are done.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Result, anyhow};
use locket::{Engine, LockFile};
use rustix::process::{Signal, set_parent_process_death_signal};
use serde::{Deserialize, Serialize};
use tokio::runtime::{Handle, Runtime};

pub use self::forker::Forks;
use self::worker::Worker;
use crate::stress::plan::{Layout, Lock, Workload};

mod forker;
mod worker;

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
    /// Not at all, to test that this is noticed.
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
    /// The seed of its plans.
    pub seed: u64,
    /// Its workers.
    pub workers: Vec<Kind>,
    /// Where everything is.
    pub layout: Layout,
    /// What to do.
    pub workload: Workload,
}

impl Role {
    /// Runs the workers.
    ///
    /// # Errors
    ///
    /// A failure that no journal has.
    pub fn run(&self) -> Result<()> {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        let runtime = Runtime::new()?;
        let shared = Arc::new(Shared {
            role: self.clone(),
            engine: Engine::new(),
            runtime: runtime.handle().clone(),
            stopping: AtomicBool::new(false),
        });
        // If the workers are done first, it ends with this process.
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
        let mut workers: Vec<_> = workers.collect();
        if self.workload.forks {
            workers.push(thread::spawn({
                let shared = Arc::clone(&shared);
                move || shared.fork_at_random()
            }));
        }
        for worker in workers {
            worker.join().map_err(|_| anyhow!("a worker panicked"))??;
        }
        // Tasks that are still running must not delay the end.
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
    /// The locks of the workload, in the engine of this process.
    fn open(&self) -> Result<Vec<LockFile>> {
        let Role {
            layout, workload, ..
        } = &self.role;
        let open = |lock: &Lock| {
            let options = lock.options(layout);
            Ok(self.engine.open_with(layout.lock(lock), &options)?)
        };
        workload.locks.iter().map(open).collect()
    }
}
