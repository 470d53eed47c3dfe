//! A report in words, on one line.

use std::ffi::OsStr;
use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use locket::Protocol;

use super::report::{Holder, Mode, Process, Range, Report, Unknown};
use crate::output::{shell_word, shown_path};
use crate::paths;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path_bytes.clone().and_then(paths::from_bytes);
        let path = path.unwrap_or_else(|| PathBuf::from(&self.path));
        write!(f, "{}: ", shown_path(&path))?;
        match (self.held, self.unknown) {
            (Some(true), _) => {}
            (_, Some(Unknown::NotTold)) if self.holders.is_empty() => {
                return f.write_str("unknown (the system does not tell who has it open)");
            }
            (_, Some(Unknown::MayBeNoLock | Unknown::NotTold)) => f.write_str("perhaps ")?,
            (_, Some(Unknown::OutsideContainer)) => {
                return f.write_str(
                    "unknown (no holder in this container; any outside of it cannot be seen)",
                );
            }
            (_, Some(Unknown::OtherHosts)) => {
                return f.write_str(
                    "unknown (no holder on this host; any that the file system has elsewhere \
                     cannot be seen)",
                );
            }
            (_, Some(Unknown::NoAnswer)) => {
                return f.write_str("unknown (its file system does not answer)");
            }
            _ if self.exists == Some(false) && self.removable.is_none() => {
                return f.write_str("free (no such file yet)");
            }
            _ => {
                return f.write_str(match self.removable {
                    None => "free",
                    Some(true) => "free (left behind by a dead holder)",
                    Some(false) => {
                        "free, but left behind by a dead holder where this user cannot remove it"
                    }
                });
            }
        }
        let alike = |holder: &Holder| holder.ranges.is_empty() && holder.mode == self.mode;
        let alike = self.holders.iter().all(alike);
        f.write_str(match self.mode {
            Some(Mode::Exclusive) if alike => "held exclusively by ",
            Some(Mode::Shared) if alike => "shared by ",
            _ => "held by ",
        })?;
        if self.is_one_of_several() {
            f.write_str("one of ")?;
        }
        list(f, &self.holders, |f, holder| holder.write(f, !alike))?;
        match self.waiters.len() {
            0 => return Ok(()),
            1 => f.write_str("; 1 waiter")?,
            n => write!(f, "; {n} waiters")?,
        }
        let named: Vec<_> = self.waiters.iter().filter_map(|w| w.process.pid).collect();
        if named.is_empty() {
            return Ok(());
        }
        f.write_str(if named.len() == 1 {
            " (process "
        } else {
            " (processes "
        })?;
        list(f, &named, |f, pid| write!(f, "{pid}"))?;
        f.write_str(")")
    }
}

impl Holder {
    fn write(&self, f: &mut fmt::Formatter<'_>, with_mode: bool) -> fmt::Result {
        let Process { pid, command, .. } = &self.process;
        match pid {
            None if self.protocol == Protocol::Remote => match command {
                // The client that took the lock wrote it.
                Some(label) if label.chars().any(char::is_control) => {
                    f.write_str(&shell_word(OsStr::new(&shortened(label))))?;
                }
                Some(label) => f.write_str(&shortened(label))?,
                None => f.write_str("another client")?,
            },
            None if self.elsewhere => f.write_str("a process of another container")?,
            None => f.write_str("an unknown process")?,
            Some(pid) => write!(f, "process {pid}")?,
        }
        if self.process.stopped == Some(true) {
            f.write_str(" (stopped)")?;
        }
        match (command, &self.host) {
            (Some(command), _) if pid.is_some() => write!(f, ", {}", shortened(command))?,
            (None, Some(host)) => write!(f, " of {}", shell_word(OsStr::new(host)))?,
            _ => {}
        }
        write!(f, " ({}", self.protocol)?;
        if let Some(mode) = self.mode.filter(|_| with_mode && self.ranges.is_empty()) {
            write!(f, ", {mode}")?;
        }
        for range in &self.ranges {
            write!(f, ", {range}")?;
        }
        if let Some(acquirer) = self.acquired_by {
            write!(f, ", acquired by process {acquirer}")?;
        }
        if let Some(since) = self.since {
            write!(f, ", held for {}", age(since))?;
        }
        if let Some(started) = self.process.started.filter(|_| self.since.is_none()) {
            write!(f, ", process started {} ago", age(started))?;
        }
        f.write_str(")")
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Exclusive => "exclusive",
            Self::Shared => "shared",
        })
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { mode, from, to } = self;
        match to {
            _ if self.is_whole() => write!(f, "all bytes {mode}"),
            None => write!(f, "bytes from {from} {mode}"),
            Some(to) if to == from => write!(f, "byte {from} {mode}"),
            Some(to) => write!(f, "bytes {from}-{to} {mode}"),
        }
    }
}

/// Writes the items with commas in between.
fn list<T>(
    f: &mut fmt::Formatter<'_>,
    items: &[T],
    mut write: impl FnMut(&mut fmt::Formatter<'_>, &T) -> fmt::Result,
) -> fmt::Result {
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            f.write_str(", ")?;
        }
        write(f, item)?;
    }
    Ok(())
}

/// A command of at most that many characters, so that a line stays a line.
fn shortened(command: &str) -> String {
    const LONGEST: usize = 60;
    if command.chars().count() <= LONGEST {
        return command.to_owned();
    }
    let start: String = command.chars().take(LONGEST - 1).collect();
    format!("{start}…")
}

/// The time that has passed since then. Both are rounded, so it may seem to lie in the future.
fn age(then: u64) -> indicatif::HumanDuration {
    let then = UNIX_EPOCH + Duration::from_secs(then);
    let age = SystemTime::now().duration_since(then).unwrap_or_default();
    indicatif::HumanDuration(age)
}
