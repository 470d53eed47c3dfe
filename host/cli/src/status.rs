//! `locket status`: shows the holders of a lock without acquiring it.
//!
//! The kernel's lock table, `/proc/locks`, identifies a file by device and inode, and a holder by
//! the process that acquired the lock. That process may no longer be the holder: a descriptor can
//! be inherited, and an open-file-description lock belongs to no process at all. If the table names
//! no living holder, we search the processes that have the file open, as far as we have permission.
//!
//! An existence lock itself records its holder, as far as its protocol has room for that.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Context;
use clap::Args;
use locket::{Engine, Options, Protocol};
use procfs::process::Process;
use procfs::{FromBufRead, Lock, LockKind, LockType, Locks};
use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
use serde::{Serialize, Serializer};

use super::{exit, printable, protocol, say};

/// Show who holds a lock.
///
/// Acquires no lock and creates no file, so it never disturbs other programs. The answer may be
/// outdated by the time you read it: to act on it, acquire the lock. Unless you are root, processes
/// of other users may stay unnamed.
#[derive(Args, Debug)]
#[command(after_help = "\
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
                        started. pid, command and since are null if unknown
  waiting               the number of waiters in the kernel

Exit status: 0, or 66 if a path cannot be examined")]
pub(crate) struct Status {
    /// Print JSON, for example for jq
    #[arg(long)]
    json: bool,

    /// Show only locks of this protocol [default: all kernel locks, and every existence lock that
    /// is recognizable as a lock of PATH]
    #[arg(long, value_name = "PROTOCOL", value_parser = protocol())]
    protocol: Option<Protocol>,

    /// Database that contains the lock, for `--protocol sqlite`
    #[arg(long, value_name = "FILE")]
    database: Option<PathBuf>,

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
                    say(format_args!("cannot examine `{}`: {e:#}", path.display()));
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
        let mut report = match self.protocol {
            Some(protocol) if protocol.is_existence_lock() => Report::free(path),
            _ => examine(path)?,
        };
        match self.protocol {
            None if !report.held => {
                let named = recognised(path).and_then(|p| self.named(path, p).transpose());
                report.add(named.transpose()?);
            }
            Some(protocol) if protocol.is_existence_lock() => {
                report.add(self.named(path, protocol)?);
            }
            Some(protocol) => report.holders.retain(|holder| {
                protocol == Protocol::Native
                    || holder.protocol == Protocol::Native
                    || holder.protocol == protocol
            }),
            None => {}
        }
        report.held = !report.holders.is_empty();
        report.mode = report.holders.iter().map(|holder| holder.mode).min();
        Ok(report)
    }

    /// The holder of an existence lock.
    fn named(&self, path: &Path, protocol: Protocol) -> anyhow::Result<Option<Holder>> {
        let mut options = Options::new().create(false).protocol(protocol);
        if let Some(database) = &self.database {
            options = options.database(database);
        }
        let holder = Engine::new().open_with(path, &options)?.holder()?;
        Ok(holder.map(|holder| {
            let here = rustix::system::uname();
            let elsewhere = holder
                .host
                .as_ref()
                .is_some_and(|host| *host != here.nodename().to_string_lossy());
            let pid = holder.pid.and_then(|pid| i32::try_from(pid).ok());
            let known = Holder::of((pid.filter(|_| !elsewhere), Mode::Exclusive, protocol));
            Holder {
                pid,
                host: holder.host,
                since: holder.since,
                ..known
            }
        }))
    }
}

/// The protocol of an existence lock of `path`, if an entry exists that can only be a lock.
fn recognised(path: &Path) -> Option<Protocol> {
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
    let open = |protocol| {
        let options = Options::new().create(false).protocol(protocol);
        let holder = Engine::new()
            .open_with(path, &options)
            .ok()?
            .holder()
            .ok()?;
        holder.filter(|holder| holder.pid.is_some())
    };
    let alone = [Protocol::Soft, Protocol::PidFile];
    alone.into_iter().find(|protocol| open(*protocol).is_some())
}

/// What is known of one path.
#[derive(Debug, Serialize)]
struct Report {
    path: String,
    exists: bool,
    held: bool,
    mode: Option<Mode>,
    holders: Vec<Holder>,
    waiting: usize,
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    Exclusive,
    Shared,
}

#[derive(Debug, Serialize)]
struct Holder {
    mode: Mode,
    #[serde(serialize_with = "name")]
    protocol: Protocol,
    pid: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<String>,
    command: Option<String>,
    #[serde(serialize_with = "unix_seconds")]
    since: Option<SystemTime>,
}

/// A hold as the lock table lists it: process, mode and protocol.
type Hold = (Option<i32>, Mode, Protocol);

impl Report {
    fn free(path: &Path) -> Self {
        Self {
            path: path.display().to_string(),
            exists: fs::symlink_metadata(path).is_ok(),
            held: false,
            mode: None,
            holders: Vec::new(),
            waiting: 0,
        }
    }

    fn add(&mut self, holder: Option<Holder>) {
        self.holders.extend(holder);
    }
}

fn examine(path: &Path) -> anyhow::Result<Report> {
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Report::free(path)),
        Err(e) => return Err(e.into()),
    };
    let table = table_of(metadata.ino()).context("cannot read /proc/locks")?;
    let device = lock_device(path, &metadata)?;
    let here = |lock: &Lock| {
        (lock.devmaj, lock.devmin, lock.inode) == (device.0, device.1, metadata.ino())
    };
    // The parser drops the arrow that marks waiters.
    let (waits, holds): (Vec<_>, Vec<_>) = table.into_iter().partition(|line| line.contains("->"));
    let locks = |lines: &[String]| -> anyhow::Result<Vec<Lock>> {
        let Locks(mut locks) = Locks::from_buf_read(lines.join("\n").as_bytes())?;
        locks.retain(here);
        Ok(locks)
    };
    let waiting = locks(&waits)?.len();
    let mut holds = join_families(&locks(&holds)?);
    if holds
        .iter()
        .any(|(pid, ..)| pid.is_none_or(|pid| !is_alive(pid)))
    {
        name_inheritors(&mut holds, &metadata);
    }
    let holders: Vec<_> = holds.into_iter().map(Holder::of).collect();
    Ok(Report {
        held: !holders.is_empty(),
        holders,
        waiting,
        ..Report::free(path)
    })
}

/// The lines of the lock table that concern an inode. The kernel returns the table in pieces. If it
/// changes in between, a line can be missing or appear twice, so we read it until two consecutive
/// reads agree.
fn table_of(inode: u64) -> io::Result<Vec<String>> {
    const TRIES: usize = 10;
    let inode = format!(":{inode} ");
    let read = || -> io::Result<Vec<String>> {
        let table = fs::read_to_string("/proc/locks")?;
        let mine = table.lines().filter(|line| line.contains(&inode));
        Ok(mine.map(str::to_owned).collect())
    };
    // Ignore the line number.
    let said = |lines: &[String]| -> Vec<String> {
        let lines = lines.iter().filter_map(|line| line.split_once(": "));
        lines.map(|(_, said)| said.to_owned()).collect()
    };
    let mut before = read()?;
    for _ in 0..TRIES {
        let now = read()?;
        if said(&now) == said(&before) {
            break;
        }
        before = now;
    }
    Ok(before)
}

/// The device as listed in the lock table. On some file systems, such as btrfs, `stat` returns a
/// synthetic device for the subvolume. The device of the mount is the real one.
fn lock_device(path: &Path, metadata: &fs::Metadata) -> anyhow::Result<(u32, u32)> {
    let stat = metadata.dev();
    let stat = (rustix::fs::major(stat), rustix::fs::minor(stat));
    let Ok(id) = statx(CWD, path, AtFlags::empty(), StatxFlags::MNT_ID).map(|x| x.stx_mnt_id)
    else {
        return Ok(stat);
    };
    let mounts = Process::myself()?.mountinfo()?;
    let mount = mounts
        .into_iter()
        .find(|mount| u64::try_from(mount.mnt_id) == Ok(id));
    let device = mount.and_then(|mount| {
        let (major, minor) = mount.majmin.split_once(':')?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    });
    Ok(device.unwrap_or(stat))
}

fn mode_of(lock: &Lock) -> Option<Mode> {
    match lock.kind {
        LockKind::Write => Some(Mode::Exclusive),
        LockKind::Read => Some(Mode::Shared),
        LockKind::Other(_) => None,
    }
}

/// The holds, without duplicates. An open-file-description lock names no holder. Together with a
/// `flock` of the same mode, it is a lock of the native protocol, held by the process of the
/// `flock`.
fn join_families(locks: &[Lock]) -> Vec<Hold> {
    let mut flocks = BTreeSet::new();
    let mut records = BTreeSet::new();
    let mut anonymous = Vec::new();
    for lock in locks {
        let Some(mode) = mode_of(lock) else { continue };
        match lock.lock_type {
            LockType::FLock => drop(flocks.insert((lock.pid, mode))),
            LockType::Posix => drop(records.insert((lock.pid, mode))),
            LockType::ODF => anonymous.push(mode),
            // Leases do not prevent other processes from locking.
            LockType::Other(_) => {}
        }
    }
    let mut holds = Vec::new();
    for (pid, mode) in flocks {
        let record = anonymous.iter().position(|&m| m == mode);
        let family = if record.is_some() {
            Protocol::Native
        } else {
            Protocol::Flock
        };
        record.map(|record| anonymous.swap_remove(record));
        holds.push((pid, mode, family));
    }
    holds.extend(
        records
            .into_iter()
            .map(|(pid, mode)| (pid, mode, Protocol::Fcntl)),
    );
    anonymous.sort();
    anonymous.dedup();
    holds.extend(
        anonymous
            .into_iter()
            .map(|mode| (None, mode, Protocol::Fcntl)),
    );
    holds
}

fn is_alive(pid: i32) -> bool {
    Process::new(pid).is_ok_and(|process| process.is_alive())
}

/// Replaces unknown or dead holders with the processes that have the file open with such a lock.
fn name_inheritors(holds: &mut Vec<Hold>, file: &fs::Metadata) {
    let known: BTreeSet<i32> = holds
        .iter()
        .filter_map(|(pid, ..)| *pid)
        .filter(|&pid| is_alive(pid))
        .collect();
    let mut found = BTreeSet::new();
    // This process may have inherited the descriptor too. It does not count as a holder.
    let this = i32::try_from(std::process::id()).ok();
    for process in procfs::process::all_processes()
        .into_iter()
        .flatten()
        .flatten()
    {
        if !known.contains(&process.pid) && Some(process.pid) != this {
            for hold in join_families(&locks_through_descriptors(process.pid, file)) {
                found.insert((Some(process.pid), hold.1, hold.2));
            }
        }
    }
    holds.retain_mut(|(pid, mode, family)| {
        if pid.is_some_and(|pid| known.contains(&pid)) {
            return true;
        }
        *pid = None;
        !found.iter().any(|(_, m, f)| (m, f) == (mode, family))
    });
    holds.extend(found);
}

/// The locks that a process holds through its descriptors of the file, inherited or not.
fn locks_through_descriptors(pid: i32, file: &fs::Metadata) -> Vec<Lock> {
    let mut locks = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten()
        .flatten()
    {
        let same = fs::metadata(entry.path())
            .is_ok_and(|open| (open.dev(), open.ino()) == (file.dev(), file.ino()));
        if !same {
            continue;
        }
        let info = format!("/proc/{pid}/fdinfo/{}", entry.file_name().display());
        let info = fs::read_to_string(info).unwrap_or_default();
        let lines: Vec<_> = info
            .lines()
            .filter_map(|line| line.strip_prefix("lock:"))
            .collect();
        locks.extend(
            Locks::from_buf_read(lines.join("\n").as_bytes())
                .into_iter()
                .flat_map(|l| l.0),
        );
    }
    locks
}

impl Holder {
    fn of((pid, mode, protocol): Hold) -> Self {
        // A holder in another PID namespace has no process identifier here.
        let pid = pid.filter(|&pid| pid > 0);
        let process = pid.and_then(|pid| Process::new(pid).ok());
        let command = process
            .as_ref()
            .and_then(|process| match process.cmdline() {
                Ok(words) if !words.is_empty() => Some(printable(&words.join(" "))),
                _ => process.stat().ok().map(|stat| stat.comm),
            });
        Self {
            mode,
            protocol,
            pid,
            host: None,
            command,
            since: process.and_then(|process| start(&process)),
        }
    }
}

/// The start time of a process.
fn start(process: &Process) -> Option<SystemTime> {
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

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// The longest command shown, so that the output stays on one line.
        const LONGEST: usize = 60;
        match (self.pid, &self.command) {
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
