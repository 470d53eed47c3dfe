//! Looks at paths again and again.
//!
//! Each path has a worker of its own, as in `locket status`, so that one whose file system does not
//! answer delays no other. Nothing tells of kernel locks, so they are looked at in even intervals.
//! After a change in the directory, such as existence locks make, a look follows at once.

use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::schedule::Schedule;
use crate::args::ProtocolArgs;
use crate::status::changes::Changes;
use crate::status::worker::{Answer, PATIENCE, Worker};

/// Gets the number of a path, the time since the start, and what the look told.
pub(super) type Tell<'a> = &'a mut dyn FnMut(usize, Duration, Answer) -> anyhow::Result<()>;

pub(super) struct Sampler<'a> {
    watched: Vec<Watched<'a>>,
    /// When the first answer came.
    start: Option<Instant>,
    notifications: Option<Changes>,
}

/// A path and who looks at it.
struct Watched<'a> {
    path: &'a PathBuf,
    worker: Worker,
    schedule: Schedule,
    answers: u64,
}

impl<'a> Sampler<'a> {
    pub(super) fn new(
        paths: &'a [PathBuf],
        locking: &ProtocolArgs,
        interval: Duration,
    ) -> anyhow::Result<Self> {
        let watched = paths.iter().map(|path| {
            Ok(Watched {
                path,
                worker: Worker::start(locking)?,
                schedule: Schedule::new(interval, Instant::now()),
                answers: 0,
            })
        });
        Ok(Self {
            watched: watched.collect::<anyhow::Result<_>>()?,
            start: None,
            notifications: None,
        })
    }

    /// How long ago the first answer came.
    pub(super) fn time(&self) -> Duration {
        self.start.map_or(Duration::ZERO, |start| start.elapsed())
    }

    /// Looks at each path once: no longer than a path may take to answer, and only until there is
    /// something to read in `stop`.
    pub(super) fn start(&mut self, stop: BorrowedFd<'_>, tell: Tell<'_>) -> anyhow::Result<()> {
        self.look_once(PATIENCE, Some(stop), tell)?;
        // Only those that have answered, since asking for notifications may hang as well.
        let answered = self.watched.iter().filter(|watched| watched.answers > 0);
        self.notifications = Some(Changes::of(answered.map(|watched| watched.path.as_path())));
        Ok(())
    }

    /// Looks at each path once more, as far as they answer in time.
    pub(super) fn look(&mut self, patience: Duration, tell: Tell<'_>) -> anyhow::Result<()> {
        self.look_once(patience, None, tell)
    }

    fn look_once(
        &mut self,
        patience: Duration,
        stop: Option<BorrowedFd<'_>>,
        tell: Tell<'_>,
    ) -> anyhow::Result<()> {
        let until = Instant::now() + patience;
        let wanted: Vec<_> = self.watched.iter().map(|path| path.answers + 1).collect();
        for watched in &mut self.watched {
            watched.schedule.hurry(Instant::now());
        }
        let missing = |sampler: &Self| {
            let mut paths = sampler.watched.iter().zip(&wanted);
            paths.any(|(watched, wanted)| watched.answers < *wanted)
        };
        while missing(self) && Instant::now() < until {
            if self.step(Some(until), stop, tell)? {
                break;
            }
        }
        Ok(())
    }

    /// Asks those that are due, and tells what they answer. Returns at the next event: an answer, a
    /// notification, a time, or something to read in `other`. Says whether there is.
    pub(super) fn step(
        &mut self,
        until: Option<Instant>,
        other: Option<BorrowedFd<'_>>,
        tell: Tell<'_>,
    ) -> anyhow::Result<bool> {
        let now = Instant::now();
        for watched in &mut self.watched {
            if watched.schedule.due().is_some_and(|due| due <= now) {
                watched.worker.ask(watched.path)?;
                watched.schedule.begin(now);
            }
        }
        let dues = self.watched.iter().filter_map(|path| path.schedule.due());
        let in_other = self.wait(dues.chain(until).min(), other)?;
        if let Some(notifications) = &self.notifications
            && notifications.concerns_us()
        {
            let now = Instant::now();
            for watched in &mut self.watched {
                watched.schedule.notify(now);
            }
        }
        for (i, watched) in self.watched.iter_mut().enumerate() {
            if let Some(answer) = watched.answer()? {
                let start = self.start.get_or_insert_with(Instant::now);
                tell(i, start.elapsed(), answer)?;
            }
        }
        Ok(in_other)
    }

    /// Waits for the next event. Says whether there is something to read in `other`.
    fn wait(&self, until: Option<Instant>, other: Option<BorrowedFd<'_>>) -> anyhow::Result<bool> {
        let notifications = self.notifications.iter().filter_map(Changes::descriptor);
        let asked = self.watched.iter();
        let asked = asked.filter(|path| path.schedule.due().is_none());
        let others = other.iter();
        let mut fds: Vec<_> = others
            .map(|fd| PollFd::new(fd, PollFlags::IN))
            .chain(notifications.map(|fd| PollFd::new(fd, PollFlags::IN)))
            .chain(asked.map(|path| PollFd::new(&path.worker, PollFlags::IN)))
            .collect();
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        let left = left.map(TryInto::try_into).transpose()?;
        match poll(&mut fds, left.as_ref()) {
            Ok(_) => Ok(other.is_some() && !fds[0].revents().is_empty()),
            Err(Errno::INTR) => Ok(false),
            Err(e) => Err(e.into()),
        }
    }

    /// The time that processors have spent on the looks.
    pub(super) fn cost(&self) -> Duration {
        let workers = self.watched.iter().map(|path| path.worker.pid());
        let all = workers.chain([std::process::id()]);
        all.filter_map(processor_time).sum()
    }
}

impl Watched<'_> {
    /// The answer, if it is there.
    fn answer(&mut self) -> anyhow::Result<Option<Answer>> {
        if self.schedule.due().is_some() {
            return Ok(None);
        }
        let answer = self.worker.answer(Duration::ZERO)?;
        if answer.is_some() {
            self.schedule.end(Instant::now());
            self.answers += 1;
        }
        Ok(answer)
    }
}

fn processor_time(pid: u32) -> Option<Duration> {
    let process = procfs::process::Process::new(pid.try_into().ok()?).ok()?;
    let stat = process.stat().ok()?;
    let seconds = (stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64;
    Some(Duration::from_secs_f64(seconds))
}
