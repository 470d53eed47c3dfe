//! The holders of kernel locks, as `/proc` lists them.
//!
//! The kernel's lock table, `/proc/locks`, identifies a file by device and inode, and a holder by
//! the process that acquired the lock. That process may no longer be the holder: a descriptor can
//! be inherited, and an open-file-description lock belongs to no process at all. If the table names
//! no living holder, we search the processes that have the file open, as far as we have permission.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::Context;
use locket::Protocol;
use procfs::process::Process;
use procfs::{FromBufRead, Lock, LockKind, LockType, Locks};
use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
use serde::Serialize;

/// How a lock is held.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Mode {
    Exclusive,
    Shared,
}

/// A hold as the lock table lists it.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct KernelHold {
    /// The process that acquired the lock, if the table names it.
    pub(super) pid: Option<i32>,
    pub(super) mode: Mode,
    pub(super) protocol: Protocol,
}

/// The kernel locks of a path.
#[derive(Debug, Default)]
pub(super) struct KernelLocks {
    pub(super) holds: Vec<KernelHold>,
    /// The number of waiters in the kernel.
    pub(super) waiting: usize,
}

/// The kernel locks of the file at `path`, which may be missing.
pub(super) fn of(path: &Path) -> anyhow::Result<KernelLocks> {
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(KernelLocks::default()),
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
        .any(|hold| hold.pid.is_none_or(|pid| !is_alive(pid)))
    {
        name_inheritors(&mut holds, &metadata);
    }
    Ok(KernelLocks { holds, waiting })
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
fn join_families(locks: &[Lock]) -> Vec<KernelHold> {
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
    let hold = |pid, mode, protocol| KernelHold {
        pid,
        mode,
        protocol,
    };
    let mut holds = Vec::new();
    for (pid, mode) in flocks {
        let record = anonymous.iter().position(|&m| m == mode);
        let protocol = match record {
            Some(record) => {
                anonymous.swap_remove(record);
                Protocol::Native
            }
            None => Protocol::Flock,
        };
        holds.push(hold(pid, mode, protocol));
    }
    let records = records.into_iter();
    holds.extend(records.map(|(pid, mode)| hold(pid, mode, Protocol::Fcntl)));
    anonymous.sort();
    anonymous.dedup();
    let anonymous = anonymous.into_iter();
    holds.extend(anonymous.map(|mode| hold(None, mode, Protocol::Fcntl)));
    holds
}

fn is_alive(pid: i32) -> bool {
    Process::new(pid).is_ok_and(|process| process.is_alive())
}

/// Replaces unknown or dead holders with the processes that have the file open with such a lock.
fn name_inheritors(holds: &mut Vec<KernelHold>, file: &fs::Metadata) {
    let known: BTreeSet<i32> = holds
        .iter()
        .filter_map(|hold| hold.pid)
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
        let pid = Some(process.pid);
        if !known.contains(&process.pid) && pid != this {
            let holds = join_families(&locks_through_descriptors(process.pid, file));
            found.extend(holds.into_iter().map(|hold| KernelHold { pid, ..hold }));
        }
    }
    holds.retain_mut(|hold| {
        if hold.pid.is_some_and(|pid| known.contains(&pid)) {
            return true;
        }
        hold.pid = None;
        !found
            .iter()
            .any(|heir| (heir.mode, heir.protocol) == (hold.mode, hold.protocol))
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
