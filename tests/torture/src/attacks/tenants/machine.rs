//! How late the machine itself is, so that a slow machine is not blamed on the engine.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use tempfile::NamedTempFile;

use crate::attacks::support::stop::Stop;

/// How late the machine was at each time.
#[derive(Default)]
pub(super) struct Machine {
    threads: Vec<Thread>,
    samples: Vec<Sample>,
}

/// A thread that may be needed to end a wait by its timeout.
struct Thread {
    path: PathBuf,
    /// Whether each wait needs it: the timers of engines, and the thread of the guests. Of the others, the
    /// waiter threads of engines, a wait needs one.
    always: bool,
    /// How long it had waited for a processor when it was found.
    before: Duration,
}

struct Sample {
    at: Instant,
    /// How late a sleep ended, together with creating and removing a file.
    late: Duration,
    /// How long each thread has waited for a processor until then.
    delays: Vec<Duration>,
}

impl Machine {
    pub(super) fn watch(dir: &Path, stop: &Stop, waiter: &AtomicU32) -> Result<Self> {
        const PACE: Duration = Duration::from_millis(2);
        let mut machine = Self::default();
        while !stop.is_due() {
            if machine.samples.len() % 16 == 0 {
                machine.find(waiter.load(Relaxed));
            }
            let due = Instant::now() + PACE;
            thread::sleep(PACE);
            drop(NamedTempFile::new_in(dir)?);
            let late = due.elapsed();
            let known = machine.threads.iter();
            // A thread that has ended does not wait any longer.
            let delays = known.map(|one| delay(&one.path).unwrap_or(one.before));
            let delays = delays.collect();
            let at = Instant::now();
            machine.samples.push(Sample { at, late, delays });
        }
        Ok(machine)
    }

    /// Adds new threads.
    fn find(&mut self, waiter: u32) {
        let tasks = fs::read_dir("/proc/self/task").into_iter().flatten();
        for task in tasks.flatten() {
            let path = task.path();
            let name = fs::read_to_string(path.join("comm")).unwrap_or_default();
            let waits = *task.file_name() == *waiter.to_string();
            let path = path.join("schedstat");
            let known = self.threads.iter().any(|known| known.path == path);
            if known || !(waits || name.starts_with("locket-")) {
                continue;
            }
            self.threads.push(Thread {
                always: waits || name.starts_with("locket-clock"),
                before: delay(&path).unwrap_or_default(),
                path,
            });
        }
    }

    /// How late it was at most, from when a wait was due until it ended.
    pub(super) fn late(&self, due: Instant, end: Instant) -> Duration {
        let first = self.samples.partition_point(|sample| sample.at < due);
        let last = self.samples.partition_point(|sample| sample.at < end);
        let during = &self.samples[first.saturating_sub(1)..self.samples.len().min(last + 1)];
        let [before, .., after] = during else {
            return Duration::ZERO;
        };
        let mut always = Duration::ZERO;
        let mut helper = Duration::ZERO;
        for (index, (thread, now)) in self.threads.iter().zip(&after.delays).enumerate() {
            let then = before.delays.get(index).unwrap_or(&thread.before);
            let delay = now.saturating_sub(*then);
            if thread.always {
                always += delay;
            } else {
                helper = helper.max(delay);
            }
        }
        let late = during[1..].iter().map(|sample| sample.late).max();
        late.unwrap_or_default().max(always + helper)
    }
}

/// How long a runnable thread has waited for a processor, as the system counts it.
pub(super) fn delay(path: &Path) -> Option<Duration> {
    let read = fs::read_to_string(path).ok()?;
    let nanos = read.split(' ').nth(1)?.parse().ok()?;
    Some(Duration::from_nanos(nanos))
}
