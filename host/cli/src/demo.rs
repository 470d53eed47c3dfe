//! `locket demo`: shows, in a few seconds, what a lock is for.
//!
//! Every participant increments the number in one file: it reads the number, adds one and writes it
//! back. If another participant writes between these steps, counts get lost. Each participant also
//! appends its name to a journal, which records the order of the turns.

mod report;
mod worker;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use locket::sandbox::Rights;
use locket::{Engine, Protocol};
use locket_wasmtime::LocketCtx;
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use wasmtime_wasi::{FsPerms, WasiCtx};

use self::report::{Participant, Report, Turns, Unlocked};
pub(crate) use self::worker::Worker;
use self::worker::read_number;
use crate::args::protocol;
use crate::exit;
use crate::guest::{Program, State, into_anyhow};

/// The guest program that counts. It takes the same arguments as [`Worker`].
const COUNTER: &[u8] = include_bytes!("counter.wasm");

/// The guest path of the demo's directory.
const GUEST_DIR: &str = "/demo";

/// The maximum number of attempts to lose a count without the lock.
const UNLOCKED_RUNS: u32 = 5;

/// Demonstrate processes and components counting in one file, with the lock and without it.
///
/// Native processes and WebAssembly components increment the number in one file. With the lock,
/// the total is exact. Then they do the same without the lock, and counts get lost.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  locket demo
  locket demo --processes 8 --components 0 --protocol flock
  locket demo --json | jq .total

JSON: protocol, expected, total, exact, seconds, hand_overs (how often the lock passed to another
participant), participants (name, kind, increments, seconds, longest_wait: the most increments of
others between two of its own), unlocked (expected, total, lost, runs; null for fewer than two
participants)

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

    /// Print the results as JSON, for example for jq
    #[arg(long)]
    json: bool,
}

impl Demo {
    pub(crate) fn run(self) -> anyhow::Result<u8> {
        let dir =
            tempfile::tempdir().context("cannot create a temporary directory; check TMPDIR")?;
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
            _ => Some(Arc::new(
                Program::from_bytes(COUNTER, None).map_err(into_anyhow)?,
            )),
        };

        bar.set_message("with the lock");
        let locked = self.once(dir, program.clone(), false, &bar).await?;
        let mut unlocked = None;
        if self.processes + self.components > 1 {
            bar.set_message("without the lock");
            for run in 1..=UNLOCKED_RUNS {
                let total = self.once(dir, program.clone(), true, &bar).await?.total;
                let lost = self.expected().cast_signed() - total.cast_signed();
                unlocked = Some(Unlocked {
                    expected: self.expected(),
                    total,
                    lost,
                    runs: run,
                });
                // Overlapping writes can also result in a number that is too high, which is a less
                // convincing demonstration.
                if lost > 0 {
                    break;
                }
            }
        }
        bar.finish_and_clear();
        Ok(Report {
            protocol: self.protocol.to_string(),
            expected: self.expected(),
            total: locked.total,
            exact: locked.total == self.expected(),
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
        let counter = dir.path().join("counter");
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
        let watch = tokio::spawn(watch(bar.clone(), counter.clone()));
        let ends = join_all(running).await;
        watch.abort();
        let ends = match ends {
            // Without the lock, a participant may read something that is not a number.
            Err(_) if unlocked => Vec::new(),
            ends => ends?,
        };

        let journal = fs::read_to_string(dir.path().join("journal"))?;
        let journal: Vec<String> = journal.lines().map(str::to_owned).collect();
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
            total: read_number(&counter)?,
            time: start.elapsed(),
            journal,
        })
    }

    /// The arguments of a participant, native or component, for which the directory is at `dir`.
    fn arguments(&self, dir: &str, id: &str, unlocked: bool) -> Vec<String> {
        let path = |name: &str| format!("{dir}/{name}");
        let mut arguments: Vec<String> = [
            ("--lock", path("lock")),
            ("--counter", path("counter")),
            ("--journal", path("journal")),
            ("--count", self.increments.to_string()),
            ("--id", id.to_owned()),
        ]
        .into_iter()
        .flat_map(|(name, value)| [name.to_owned(), value])
        .collect();
        arguments.extend(unlocked.then(|| "--unlocked".to_owned()));
        arguments
    }

    fn start_process(&self, dir: &Path, id: &str, unlocked: bool) -> anyhow::Result<Child> {
        let dir = dir
            .to_str()
            .context("the path of the temporary directory is not Unicode")?;
        Command::new(std::env::current_exe()?)
            .arg("demo-worker")
            .args(self.arguments(dir, id, unlocked))
            .args(["--protocol", self.protocol.name()])
            .stdin(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("cannot start a process")
    }

    fn instance(
        &self,
        engine: &Engine,
        dir: &Path,
        id: &str,
        unlocked: bool,
    ) -> anyhow::Result<State> {
        let mut wasi = WasiCtx::builder();
        wasi.inherit_stderr()
            .arg("counter")
            .args(&self.arguments(GUEST_DIR, id, unlocked));
        wasi.preopened_dir(dir, GUEST_DIR, FsPerms::ReadWrite)
            .map_err(into_anyhow)?;
        let locks = LocketCtx::builder(engine)
            .label(id)
            .protocol(self.protocol)
            .grant_dir(dir, GUEST_DIR, Rights::READ_WRITE)?;
        Ok(State::new(wasi.build(), locks.build()))
    }
}

/// The result of one run.
struct Outcome {
    participants: Vec<Participant>,
    total: u64,
    time: Duration,
    journal: Vec<String>,
}

type Running = (String, &'static str, JoinHandle<anyhow::Result<Duration>>);

/// Waits for all participants. Returns the time that each took.
async fn join_all(running: Vec<Running>) -> anyhow::Result<Vec<(String, &'static str, Duration)>> {
    let mut ends = Vec::new();
    for (name, kind, task) in running {
        let time = task.await?.with_context(|| format!("{name} failed"))?;
        ends.push((name, kind, time));
    }
    Ok(ends)
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
async fn watch(bar: ProgressBar, counter: PathBuf) {
    while !bar.is_hidden() {
        // The file may be missing or empty for a moment. Ignore that.
        if let Ok(number @ 1..) = read_number(&counter) {
            bar.set_position(number);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
