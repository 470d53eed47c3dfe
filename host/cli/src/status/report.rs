//! What `locket status` prints of one path, in words and as JSON.

use std::fmt;
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use locket::Protocol;
use procfs::process::Process;
use serde::{Serialize, Serializer};

use super::proc_locks::{KernelHold, Mode};
use crate::output::printable;

/// What is known of the lock of one path.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    path: String,
    exists: bool,
    pub(super) held: bool,
    pub(super) mode: Option<Mode>,
    pub(super) holders: Vec<StatusRow>,
    pub(super) waiting: usize,
}

/// One holder of the lock.
#[derive(Debug, Serialize)]
pub(super) struct StatusRow {
    pub(super) mode: Mode,
    #[serde(serialize_with = "name")]
    pub(super) protocol: Protocol,
    pub(super) pid: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) host: Option<String>,
    /// Whether it runs in another container or on another host.
    #[serde(skip)]
    pub(super) elsewhere: bool,
    pub(super) command: Option<String>,
    #[serde(serialize_with = "unix_seconds")]
    pub(super) since: Option<SystemTime>,
}

impl Report {
    /// The report of a path without holders.
    pub(super) fn free(path: &Path) -> Self {
        Self {
            path: path.display().to_string(),
            exists: fs::symlink_metadata(path).is_ok(),
            held: false,
            mode: None,
            holders: Vec::new(),
            waiting: 0,
        }
    }
}

impl StatusRow {
    /// The row of a hold, with what this host knows of its process.
    pub(super) fn of_process(hold: KernelHold) -> Self {
        // A holder in another PID namespace has no process identifier here.
        let pid = hold.pid.filter(|&pid| pid > 0);
        let process = pid.and_then(|pid| Process::new(pid).ok());
        let command = process
            .as_ref()
            .and_then(|process| match process.cmdline() {
                Ok(words) if !words.is_empty() => Some(printable(&words.join(" "))),
                _ => process.stat().ok().map(|stat| stat.comm),
            });
        Self {
            mode: hold.mode,
            protocol: hold.protocol,
            pid,
            host: None,
            elsewhere: false,
            command,
            since: process.and_then(|process| start_time(&process)),
        }
    }
}

/// The start time of a process.
fn start_time(process: &Process) -> Option<SystemTime> {
    let since_boot = process.stat().ok()?.starttime / procfs::ticks_per_second();
    let start = Duration::from_secs(procfs::boot_time_secs().ok()? + since_boot);
    Some(SystemTime::UNIX_EPOCH + start)
}

fn name<S: Serializer>(protocol: &Protocol, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(protocol.name())
}

fn unix_seconds<S: Serializer>(time: &Option<SystemTime>, to: S) -> Result<S::Ok, S::Error> {
    let seconds = time.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
    seconds.map(|seconds| seconds.as_secs()).serialize(to)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.path)?;
        match self.mode {
            None if !self.exists => return f.write_str("free (no such file yet)"),
            None => return f.write_str("free"),
            Some(Mode::Exclusive) => f.write_str("held exclusively by ")?,
            Some(Mode::Shared) => f.write_str("shared by ")?,
        }
        for (i, holder) in self.holders.iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}{holder}")?;
        }
        match self.waiting {
            0 => Ok(()),
            1 => f.write_str("; 1 waiter"),
            n => write!(f, "; {n} waiters"),
        }
    }
}

impl fmt::Display for StatusRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// The longest command shown, so that the output stays on one line.
        const LONGEST: usize = 60;
        match (self.pid, &self.command) {
            (None, _) if self.elsewhere => f.write_str("a process of another container")?,
            (None, _) => f.write_str("an unknown process")?,
            (Some(pid), None) => write!(f, "process {pid}")?,
            (Some(pid), Some(command)) if command.chars().count() > LONGEST => {
                let start: String = command.chars().take(LONGEST - 1).collect();
                write!(f, "process {pid}, {start}…")?;
            }
            (Some(pid), Some(command)) => write!(f, "process {pid}, {command}")?,
        }
        if let (Some(host), None) = (&self.host, &self.command) {
            write!(f, " of {}", printable(host))?;
        }
        write!(f, " ({}", self.protocol)?;
        match self.since {
            Some(since) if self.protocol.is_existence_lock() => {
                let age = since.elapsed().unwrap_or_default();
                write!(f, ", taken {} ago)", indicatif::HumanDuration(age))
            }
            // Both times are rounded, so a process that just started may seem to start in the
            // future.
            Some(since) => {
                let age = since.elapsed().unwrap_or_default();
                write!(f, ", started {} ago)", indicatif::HumanDuration(age))
            }
            None => f.write_str(")"),
        }
    }
}
