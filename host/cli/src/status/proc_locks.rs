//! The holders of kernel locks, as `/proc` lists them.
//!
//! The kernel's lock table, `/proc/locks`, identifies a file by device and inode, and a holder by
//! the process that acquired the lock. That process may no longer be the holder: a descriptor can
//! be inherited, and an open-file-description lock belongs to no process at all. And outside of the
//! initial PID namespace the table lacks every lock whose acquirer has no number there. So we look
//! whether the process that the table names still has the lock, and otherwise search all processes,
//! as far as we have permission. `/proc/PID/fdinfo` tells their locks by device and inode, without a
//! look at the files that they have open, whose file systems may not answer.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::parent_id;
use std::path::Path;

use anyhow::Context;
use locket::Protocol;
use procfs::process::Process;
use procfs::{FromBufRead, Lock, LockKind, LockType, Locks};
use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

use super::report::{Mode, Range};
use super::unnamed_waiters;

/// A lock as the kernel lists it.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct KernelLock {
    /// The process that acquired it or waits for it, if it has a number here.
    pub(crate) acquirer: Option<i32>,
    pub(crate) protocol: Protocol,
    pub(super) range: Range,
}

impl KernelLock {
    pub(crate) fn is_exclusive(&self) -> bool {
        self.range.mode == Mode::Exclusive
    }
}

/// The locks of one protocol that a process holds.
#[derive(Debug)]
pub(super) struct KernelHold {
    /// None if it cannot be told.
    pub(super) pid: Option<i32>,
    pub(super) protocol: Protocol,
    pub(super) ranges: Vec<Range>,
    /// Another process, which acquired them.
    pub(super) acquirer: Option<i32>,
}

/// The kernel locks of a path.
#[derive(Debug, Default)]
pub(super) struct KernelLocks {
    pub(super) holds: Vec<KernelHold>,
    pub(super) waits: Vec<KernelLock>,
}

/// The kernel locks of the file at `path`, which may be missing.
pub(super) fn of(path: &Path) -> anyhow::Result<KernelLocks> {
    let Some(file) = FileNumber::of(path)? else {
        return Ok(KernelLocks::default());
    };
    let read = || table_of(file.inode).context("cannot read /proc/locks");
    let mut table = read()?;
    for _ in 0..TRIES {
        let locks = file.listed(&table)?;
        if locks.holds.iter().all(|hold| hold.pid.is_some()) {
            return Ok(locks);
        }
        // Perhaps it was released since the table was read, and nothing is left to name.
        let now = read()?;
        if said(&now) == said(&table) {
            return Ok(locks);
        }
        table = now;
    }
    file.listed(&table)
}

/// How often something is read again that has changed in between.
const TRIES: usize = 10;

impl FileNumber {
    /// The locks in the lines of the table that concern this file, with their holders.
    fn listed(self, table: &[String]) -> anyhow::Result<KernelLocks> {
        // The parser drops the arrow that marks waiters.
        let (waits, held): (Vec<_>, Vec<_>) = table.iter().partition(|line| line.contains("->"));
        let waits = self.locks(waits.into_iter().map(String::as_str))?;
        let mut held = join_families(&self.locks(held.into_iter().map(String::as_str))?);

        let is_named = |lock: &KernelLock| {
            let Some(pid) = lock.acquirer else {
                return false;
            };
            match self.locks_of(pid) {
                Some(locks) => locks.contains(lock),
                None => is_alive(pid),
            }
        };
        let named: BTreeSet<_> = held.iter().copied().filter(is_named).collect();
        let mut found = BTreeMap::new();
        if named.len() < held.len() || in_container() {
            found = self.locks_of_all();
            if in_container() {
                add_hidden(&mut held, &found);
            }
        }
        let mut holds = BTreeMap::new();
        for lock in held {
            let mut holders: Vec<_> = found
                .iter()
                .filter(|(_, locks)| locks.contains(&lock))
                .map(|(pid, _)| Some(*pid))
                .collect();
            let acquirer = lock.acquirer.filter(|pid| is_alive(*pid));
            if named.contains(&lock) || acquirer.is_some() && holders.contains(&acquirer) {
                // Those to which it passed the descriptor on do not count while it has it.
                holders = vec![acquirer];
            } else if holders.is_empty() {
                // Such as a kernel thread, which has no descriptors.
                holders = vec![acquirer];
            }
            for pid in holders {
                let hold = holds
                    .entry((pid, lock.protocol))
                    .or_insert_with(|| KernelHold {
                        pid,
                        protocol: lock.protocol,
                        ranges: Vec::new(),
                        acquirer: lock.acquirer.filter(|acquirer| Some(*acquirer) != pid),
                    });
                hold.ranges.push(lock.range);
            }
        }
        let mut waits: Vec<_> = waits.iter().filter_map(lock_of).collect();
        name_waiters(&mut waits, self);
        Ok(KernelLocks {
            holds: holds.into_values().collect(),
            waits,
        })
    }
}

/// Names the waiters that the table does not name, unless it cannot be told which one is which.
fn name_waiters(waits: &mut [KernelLock], file: FileNumber) {
    let unnamed = waits.iter_mut().filter(|wait| wait.acquirer.is_none());
    let mut unnamed: Vec<_> = unnamed.collect();
    if !unnamed.is_empty() && unnamed.iter().all(|wait| wait.range == unnamed[0].range) {
        let processes = unnamed_waiters::of(file);
        for (wait, pid) in unnamed.iter_mut().zip(processes) {
            wait.acquirer = Some(pid);
        }
    }
}

/// Adds the locks that the table lacks in this container, but descriptors in it have.
fn add_hidden(held: &mut BTreeSet<KernelLock>, found: &BTreeMap<i32, BTreeSet<KernelLock>>) {
    let found = || found.values().flatten();
    // Of a native lock it may have the half that names no process alone.
    let is_half = |lock: &KernelLock| {
        let whole = |found: &KernelLock| found.protocol == Protocol::Native;
        lock.protocol == Protocol::Fcntl
            && lock.acquirer.is_none()
            && found().any(|found| whole(found) && found.range == lock.range)
    };
    held.retain(|lock| !is_half(lock));
    held.extend(found());
}

/// Whether this process is in a PID namespace from which not all locks of the system can be seen.
pub(super) fn in_container() -> bool {
    const INITIAL: u64 = 0xefff_fffc;
    !fs::metadata("/proc/self/ns/pid").is_ok_and(|namespace| namespace.ino() == INITIAL)
}

/// A file as the lock table identifies it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct FileNumber {
    pub(super) device: (u32, u32),
    pub(super) inode: u64,
}

impl FileNumber {
    /// That of the file at `path`, if there is one.
    pub(crate) fn of(path: &Path) -> anyhow::Result<Option<Self>> {
        let metadata = match fs::metadata(path) {
            Ok(metadata) => metadata,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e.into()),
        };
        Ok(Some(Self {
            device: lock_device(path, &metadata)?,
            inode: metadata.ino(),
        }))
    }

    /// Those of the lines that concern this file.
    fn locks<'a>(&self, lines: impl Iterator<Item = &'a str>) -> anyhow::Result<Vec<Lock>> {
        let lines: Vec<_> = lines.collect();
        let Locks(mut locks) = Locks::from_buf_read(lines.join("\n").as_bytes())?;
        locks.retain(|lock| {
            (lock.devmaj, lock.devmin, lock.inode) == (self.device.0, self.device.1, self.inode)
        });
        Ok(locks)
    }

    /// The locks that a process holds through its descriptors, inherited or not. None if we may
    /// not know them.
    pub(crate) fn locks_of(&self, pid: i32) -> Option<BTreeSet<KernelLock>> {
        let mut found = BTreeSet::new();
        for descriptor in fs::read_dir(format!("/proc/{pid}/fdinfo")).ok()? {
            let Ok(info) = fs::read_to_string(descriptor.ok()?.path()) else {
                continue; // It was closed.
            };
            let lines = info.lines().filter_map(|line| line.strip_prefix("lock:"));
            let locks = self.locks(lines).unwrap_or_default();
            found.extend(join_families(&locks));
        }
        Some(found)
    }

    /// Those of each process that has one.
    fn locks_of_all(&self) -> BTreeMap<i32, BTreeSet<KernelLock>> {
        // This process and the one that started it may have inherited the descriptor from a holder.
        let ours = [std::process::id(), parent_id()].map(|pid| i32::try_from(pid).ok());
        let processes = procfs::process::all_processes().into_iter().flatten();
        processes
            .flatten()
            .map(|process| process.pid)
            .filter(|pid| !ours.contains(&Some(*pid)))
            .filter_map(|pid| Some((pid, self.locks_of(pid)?)))
            .filter(|(_, locks)| !locks.is_empty())
            .collect()
    }
}

/// The lines of the lock table that concern an inode. The kernel returns the table in pieces. If it
/// changes in between, a line can be missing or appear twice, so we read it until two consecutive
/// reads agree.
fn table_of(inode: u64) -> io::Result<Vec<String>> {
    let inode = format!(":{inode} ");
    let read = || -> io::Result<Vec<String>> {
        let table = fs::read_to_string("/proc/locks")?;
        let mine = table.lines().filter(|line| line.contains(&inode));
        Ok(mine.map(str::to_owned).collect())
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

/// What lines of the table say, without their numbers.
fn said(lines: &[String]) -> Vec<&str> {
    let lines = lines.iter().filter_map(|line| line.split_once(": "));
    lines.map(|(_, said)| said).collect()
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
    Ok(device_of_mount(&Process::myself()?, id).unwrap_or(stat))
}

/// The device of a mount that a process sees.
pub(super) fn device_of_mount(process: &Process, id: u64) -> Option<(u32, u32)> {
    let mut mounts = process.mountinfo().ok()?.into_iter();
    let mount = mounts.find(|mount| u64::try_from(mount.mnt_id) == Ok(id))?;
    let (major, minor) = mount.majmin.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// None for a lease, which does not prevent other processes from locking.
fn lock_of(lock: &Lock) -> Option<KernelLock> {
    let mode = match lock.kind {
        LockKind::Write => Mode::Exclusive,
        LockKind::Read => Mode::Shared,
        LockKind::Other(_) => return None,
    };
    let protocol = match lock.lock_type {
        LockType::FLock => Protocol::Flock,
        LockType::Posix | LockType::ODF => Protocol::Fcntl,
        LockType::Other(_) => return None,
    };
    Some(KernelLock {
        // Zero if it has no number here.
        acquirer: lock.pid.filter(|pid| *pid > 0),
        protocol,
        range: Range {
            mode,
            from: lock.offset_first,
            to: lock.offset_last,
        },
    })
}

/// The locks, without duplicates. An open-file-description lock names no process. Together with a
/// `flock` of the same mode, it is a lock of the native protocol, acquired by the process of the
/// `flock`.
fn join_families(locks: &[Lock]) -> BTreeSet<KernelLock> {
    let of_description = |lock: &&Lock| matches!(lock.lock_type, LockType::ODF);
    let (descriptions, others): (Vec<_>, Vec<_>) = locks.iter().partition(of_description);
    let mut descriptions: Vec<_> = descriptions.into_iter().filter_map(lock_of).collect();
    let mut joined = BTreeSet::new();
    for mut lock in others.into_iter().filter_map(lock_of) {
        if lock.protocol == Protocol::Flock
            && let Some(other) = descriptions.iter().position(|d| d.range == lock.range)
        {
            descriptions.swap_remove(other);
            lock.protocol = Protocol::Native;
        }
        joined.insert(lock);
    }
    joined.extend(descriptions);
    joined
}

/// Whether a process that has not ended has this number.
fn is_alive(pid: i32) -> bool {
    match Process::new(pid) {
        Ok(process) => process.is_alive(),
        // `/proc` can be mounted such that it hides those of other users.
        Err(_) => Pid::from_raw(pid).is_some_and(|pid| test_kill_process(pid) == Err(Errno::PERM)),
    }
}
