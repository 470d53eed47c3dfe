//! `locket status`: shows the holders of a lock without acquiring it.
//!
//! `/proc` lists the holders of kernel locks. An existence lock itself records its holder, as far
//! as its protocol has room for that.

mod proc_locks;
mod report;

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use clap::Args;
use locket::{Engine, Options, Protocol};

use self::proc_locks::{KernelHold, KernelLocks, Mode};
use self::report::{Report, StatusRow};
use crate::args::ProtocolArgs;
use crate::exit;
use crate::output::eprint_line;

const PROTOCOL: &str = "\
Show only locks of this protocol [default: all kernel locks, and every existence lock that is \
recognizable as a lock of PATH]";

/// Show who holds a lock.
///
/// Acquires no lock and creates no file, so it never disturbs other programs. The answer may be
/// outdated by the time you read it: to act on it, acquire the lock. Unless you are root, processes
/// of other users may stay unnamed.
#[derive(Args, Debug)]
#[command(
    after_help = "\
Examples:
  locket status app.lock
  locket status --json /var/lock/*.lock | jq '.[] | select(.held) | .path'
  locket status --protocol pid-file app.pid

JSON: an object for one path, an array of them for several, with the fields
  path, exists, held    the path as given, whether the file exists, whether the lock is held
  mode                  \"exclusive\", \"shared\", or null if the lock is free
  holders               for each holder: mode, protocol, pid, host (only if the lock records it),
                        command, and since, in seconds since 1970: the time at which the holder
                        acquired an existence lock, for other locks the time at which its process
                        started. pid, command and since are null if unknown, and the pid
                        is null if the holder is in another container of this host
  waiting               the number of waiters in the kernel

Exit status: 0, or 66 if a path cannot be examined",
    mut_arg("protocol", |arg| arg.help(PROTOCOL))
)]
pub(crate) struct Status {
    /// Print JSON, for example for jq
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    locking: ProtocolArgs,

    /// Lock files, for example app.lock
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
}

impl Status {
    pub(crate) fn run(self) -> anyhow::Result<u8> {
        let mut code = 0;
        let mut reports = Vec::new();
        for path in &self.paths {
            match self.examine(path) {
                Ok(report) => reports.push(report),
                Err(e) => {
                    code = exit::NO_INPUT;
                    eprint_line(format_args!("cannot examine `{}`: {e:#}", path.display()));
                }
            }
        }
        let mut out = io::stdout().lock();
        if !self.json {
            reports
                .iter()
                .try_for_each(|report| writeln!(out, "{report}"))?;
        } else if !reports.is_empty() {
            let json = match reports.as_slice() {
                [report] if self.paths.len() == 1 => serde_json::to_string_pretty(report),
                reports => serde_json::to_string_pretty(reports),
            };
            writeln!(out, "{}", json?)?;
        }
        Ok(code)
    }

    fn examine(&self, path: &Path) -> anyhow::Result<Report> {
        let mut report = Report::free(path);
        let existence = self.locking.protocol.filter(|p| p.is_existence_lock());
        match existence {
            Some(protocol) => report
                .holders
                .extend(self.existence_holder(path, protocol)?),
            None => self.add_kernel_locks(path, &mut report)?,
        }
        let proven = is_proven_by_flock(path);
        if self.locking.protocol.is_none()
            && (report.holders.is_empty() || proven)
            && let Some(protocol) = recognized(path)
            && let Some(holder) = self.existence_holder(path, protocol)?
        {
            // The `flock` is that holder's proof, not another lock.
            report
                .holders
                .retain(|hold| !proven || hold.protocol != Protocol::Flock);
            report.holders.push(holder);
        }
        report.held = !report.holders.is_empty();
        report.mode = report.holders.iter().map(|holder| holder.mode).min();
        Ok(report)
    }

    /// Adds the holders of kernel locks, of the chosen protocol if there is one, and the waiters.
    fn add_kernel_locks(&self, path: &Path, report: &mut Report) -> anyhow::Result<()> {
        let KernelLocks { holds, waiting } = proc_locks::of(path)?;
        let wanted = |hold: &KernelHold| {
            self.locking.protocol.is_none_or(|protocol| {
                protocol == Protocol::Native
                    || hold.protocol == Protocol::Native
                    || hold.protocol == protocol
            })
        };
        let rows = holds.into_iter().filter(wanted).map(StatusRow::of_process);
        report.holders.extend(rows);
        report.waiting = waiting;
        Ok(())
    }

    /// The holder of an existence lock.
    fn existence_holder(
        &self,
        path: &Path,
        protocol: Protocol,
    ) -> anyhow::Result<Option<StatusRow>> {
        let options = self.locking.options(protocol).create(false);
        let holder = Engine::new().open_with(path, &options)?.holder()?;
        Ok(holder.map(|holder| {
            let pid = holder.pid.and_then(|pid| i32::try_from(pid).ok());
            let process = StatusRow::of_process(KernelHold {
                pid: pid.filter(|_| !holder.elsewhere),
                mode: Mode::Exclusive,
                protocol,
            });
            StatusRow {
                pid,
                host: holder.host,
                elsewhere: holder.elsewhere,
                since: holder.since,
                ..process
            }
        }))
    }
}

/// Whether `path` is an existence lock that says that its holder keeps a `flock` on it.
fn is_proven_by_flock(path: &Path) -> bool {
    rustix::fs::getxattr(path, "user.locket.live", &mut [0; 512]).is_ok()
}

/// The protocol of an existence lock of `path`, if an entry exists that can only be a lock.
fn recognized(path: &Path) -> Option<Protocol> {
    let mut lock = path.as_os_str().to_owned();
    lock.push(".lock");
    if let Ok(beside) = fs::symlink_metadata(lock) {
        let kind = beside.file_type();
        if kind.is_symlink() {
            return Some(Protocol::Symlink);
        } else if kind.is_dir() {
            return Some(Protocol::Mkdir);
        } else if beside.len() == 0 && beside.nlink() > 1 {
            return Some(Protocol::Link);
        }
    }
    let names_its_holder = |protocol: &Protocol| {
        let options = Options::new().create(false).protocol(*protocol);
        let lock = Engine::new().open_with(path, &options);
        let holder = lock.and_then(|lock| lock.holder());
        let named = |holder: locket::Holder| holder.pid.is_some() || holder.host.is_some();
        holder.is_ok_and(|holder| holder.is_some_and(named))
    };
    [Protocol::Soft, Protocol::PidFile]
        .into_iter()
        .find(names_its_holder)
}
