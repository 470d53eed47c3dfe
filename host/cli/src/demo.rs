//! `locket demo`: shows, in a few seconds, what a lock is for.
//!
//! Every participant increments the number in one file: it reads the number, adds one and writes it
//! back. If another participant writes between these steps, counts get lost. Each participant also
//! appends its name to a journal, which records the order of the turns.
//!
//! With `--sqlite` the number and the journal are tables of one database, with a write-ahead log.

mod participants;
mod report;
mod table;
mod worker;

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use locket::{Engine, Protocol};
use tokio::process::Child;
use tokio::task::JoinHandle;

use self::report::{Participant, Report, Turns, Unlocked};
use self::table::{BUSY, Table};
pub(crate) use self::worker::{DatabaseWorker, Worker};
use crate::args::protocol;
use crate::exit;
use crate::guest::{Program, State, into_anyhow};

/// The guest program that counts. It takes the same arguments as [`Worker`].
const COUNTER: &[u8] = include_bytes!("counter.wasm");

/// The guest program that counts in a database: `DATABASE VFS COUNT NAME`.
const SQLITE: &[u8] = include_bytes!("sqlite.wasm");

/// The locks that SQLite has in WASI on its own.
const STOCK_LOCKS: &str = "unix-dotfile";

/// The maximum number of attempts to lose a count without the lock.
const UNLOCKED_RUNS: u32 = 5;

/// Demonstrate processes and components counting in one file, with the lock and without it.
///
/// Native processes and WebAssembly components increment the number in one file. With the lock,
/// the total is exact. Then they do the same without the lock, and counts get lost.
///
/// With --sqlite they count in a database that all of them have open, with a write-ahead log. Then
/// they do the same in another one, in which the components have the locks that SQLite has in WASI on
/// its own.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  locket demo
  locket demo --processes 8 --components 0 --protocol flock
  locket demo --sqlite
  locket demo --json | jq .total

JSON: protocol (`sqlite-wal` with --sqlite, `remote` with --remote), expected, total, exact, seconds, hand_overs (how often the
lock passed to another participant), participants (name, kind, increments, seconds, longest_wait: the
most increments of others between two of its own), unlocked (expected, total, lost, runs, damaged).
total and lost of unlocked are null if they cannot be read. unlocked is null if there are fewer than
two participants, or, with --sqlite, if all of them are of one kind

Exit status: 0 if the total with the lock is exact, 1 if it is not; 64 invalid usage, 71 the system
  fails")]
pub(crate) struct Demo {
    /// Number of native processes, for example 8
    #[arg(long, value_name = "N", default_value_t = 4)]
    processes: u16,

    /// Number of component instances, for example 8
    #[arg(long, value_name = "N", default_value_t = 4)]
    components: u16,

    /// Number of increments by each participant, for example 1000
    #[arg(long, value_name = "N", default_value_t = 250)]
    increments: u32,

    /// Locking mechanism: `native` or `flock`
    #[arg(long, value_name = "PROTOCOL", value_parser = protocol(), hide_possible_values = true)]
    #[arg(default_value = "native")]
    protocol: Protocol,

    /// Take turns by a lock on a server: etcd://HOST:PORT/PREFIX or postgres://USER@HOST/DB; the
    /// password comes from $LOCKET_PASSWORD or the file $LOCKET_PASSWORD_FILE
    #[cfg(feature = "remote")]
    #[arg(long, value_name = "URL", conflicts_with_all = ["protocol", "sqlite"])]
    remote: Option<String>,

    /// Count in a SQLite database that processes and components have open
    #[arg(long, conflicts_with = "protocol")]
    sqlite: bool,

    /// Print the results as JSON, for example for jq
    #[arg(long)]
    json: bool,
}

impl Demo {
    pub(crate) fn run(self) -> anyhow::Result<u8> {
        let dir = tempfile::tempdir().context(match cfg!(windows) {
            true => "cannot create a temporary directory; check TMP",
            false => "cannot create a temporary directory; check TMPDIR",
        })?;
        let runtime = tokio::runtime::Runtime::new()?;
        let report = runtime.block_on(async {
            tokio::select! {
                report = self.both(dir.path()) => report.map(Some),
                interrupt = tokio::signal::ctrl_c() => interrupt.map(|()| None).map_err(Into::into),
            }
        });
        // The order matters: kill the processes before their directory is removed.
        drop(runtime);
        drop(dir);
        let report = report?;
        let Some(report) = report else {
            return Ok(exit::INTERRUPTED);
        };
        let mut out = io::stdout().lock();
        if self.json {
            writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?;
        } else {
            report.print(&mut out)?;
        }
        Ok(if report.exact { 0 } else { exit::FAILURE })
    }

    /// Runs with the lock, then without it.
    async fn both(&self, dir: &Path) -> anyhow::Result<Report> {
        let bar = ProgressBar::new(self.expected());
        bar.set_style(ProgressStyle::with_template(
            "{msg} {wide_bar} {pos}/{len}",
        )?);
        bar.set_message("compiling the component");
        bar.tick();
        let program = match self.components {
            0 => None,
            _ => {
                let bytes = if self.sqlite { SQLITE } else { COUNTER };
                let program = Program::from_bytes(bytes, None).map_err(into_anyhow)?;
                Some(Arc::new(program))
            }
        };

        bar.set_message("with the lock");
        let locked = self.once(dir, program.clone(), false, &bar).await?;
        let total = locked.total?;
        let mut unlocked = None;
        if self.can_collide() {
            bar.set_message("without the lock");
            for runs in 1..=UNLOCKED_RUNS {
                let run = self.once(dir, program.clone(), true, &bar).await?;
                let total = run.total.ok();
                let lost = total.map(|total| self.expected().cast_signed() - total.cast_signed());
                unlocked = Some(Unlocked {
                    expected: self.expected(),
                    total,
                    lost,
                    runs,
                    damaged: run.damaged,
                });
                // Overlapping writes can also result in a number that is too high, which is a less
                // convincing demonstration.
                if run.damaged || lost.is_none_or(|lost| lost > 0) {
                    break;
                }
            }
        }
        bar.finish_and_clear();
        Ok(Report {
            protocol: match self.sqlite {
                true => report::SQLITE.to_owned(),
                false if self.is_remote() => Protocol::Remote.to_string(),
                false => self.protocol.to_string(),
            },
            expected: self.expected(),
            total,
            exact: total == self.expected() && !locked.damaged,
            seconds: locked.time.as_secs_f64(),
            hand_overs: locked
                .journal
                .windows(2)
                .filter(|pair| pair[0] != pair[1])
                .count(),
            participants: locked.participants,
            unlocked,
        })
    }

    /// Whether counts can get lost without the lock.
    fn can_collide(&self) -> bool {
        match self.sqlite {
            // Each kind has locks that it respects among itself.
            true => self.processes > 0 && self.components > 0,
            false => self.processes + self.components > 1,
        }
    }

    fn expected(&self) -> u64 {
        u64::from(self.increments) * (u64::from(self.processes) + u64::from(self.components))
    }

    /// Lets all participants count, in a new directory.
    async fn once(
        &self,
        dir: &Path,
        program: Option<Arc<Program>>,
        unlocked: bool,
        bar: &ProgressBar,
    ) -> anyhow::Result<Outcome> {
        let dir = tempfile::tempdir_in(dir)?;
        let table = match self.sqlite {
            true => Table::database(dir.path(), !unlocked)?,
            false => Table::files(dir.path()),
        };
        let mut children = Vec::new();
        for i in 1..=self.processes {
            let id = format!("process {i}");
            children.push((id.clone(), self.start_process(dir.path(), &id, unlocked)?));
        }
        let engine = Engine::new();
        let start = Instant::now();
        let mut running = Vec::new();
        for (name, mut child) in children {
            drop(child.stdin.take());
            running.push((name, "native", tokio::spawn(ended(child, start))));
        }
        for i in 1..=self.components {
            let name = format!("component {i}");
            let program = program.clone().context("there is no component to run")?;
            let state = self.instance(&engine, dir.path(), &name, unlocked)?;
            running.push((
                name,
                "wasm",
                tokio::spawn(instance_ended(program, state, start)),
            ));
        }
        let watch = tokio::spawn(watch(bar.clone(), table.clone()));
        let ends = join_all(running).await;
        watch.abort();
        let ends = match ends {
            // Without the lock, a participant may read something that is not a number, or is damaged.
            Err(_) if unlocked => Vec::new(),
            ends => ends?,
        };

        let damaged = table.is_damaged();
        let journal = match table.turns() {
            Err(_) if unlocked => Vec::new(),
            turns => turns?,
        };
        let turns = Turns::of(&journal);
        let participants = ends.into_iter().map(|(name, kind, time)| Participant {
            increments: turns.count(&name),
            longest_wait: turns.longest_wait(&name),
            name,
            kind,
            seconds: time.as_secs_f64(),
        });
        Ok(Outcome {
            participants: participants.collect(),
            total: table.total(BUSY),
            damaged,
            time: start.elapsed(),
            journal,
        })
    }
}

/// The result of one run.
struct Outcome {
    participants: Vec<Participant>,
    total: anyhow::Result<u64>,
    damaged: bool,
    time: Duration,
    journal: Vec<String>,
}

type Running = (String, &'static str, JoinHandle<anyhow::Result<Duration>>);

/// Waits for all participants, whether some fail or not. Returns the time that each took.
async fn join_all(running: Vec<Running>) -> anyhow::Result<Vec<(String, &'static str, Duration)>> {
    let mut ends = Vec::new();
    for (name, kind, task) in running {
        let end = task.await?.with_context(|| format!("{name} failed"));
        ends.push(end.map(|time| (name, kind, time)));
    }
    ends.into_iter().collect()
}

async fn ended(mut child: Child, start: Instant) -> anyhow::Result<Duration> {
    let status = child.wait().await?;
    ensure!(status.success(), "{status}");
    Ok(start.elapsed())
}

async fn instance_ended(
    program: Arc<Program>,
    state: State,
    start: Instant,
) -> anyhow::Result<Duration> {
    let code = program.run(state).await.map_err(into_anyhow)?;
    ensure!(code == 0, "exit code {code}");
    Ok(start.elapsed())
}

/// Shows the growing number on a terminal.
async fn watch(bar: ProgressBar, table: Table) {
    while !bar.is_hidden() {
        // The file may be missing or empty for a moment, and the database busy. Ignore that.
        if let Ok(number @ 1..) = table.total(Duration::ZERO) {
            bar.set_position(number);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
