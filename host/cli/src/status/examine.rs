//! Finds out who holds the lock of a path.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use locket::{Engine, Options, Protocol};
use rustix::fs::{Access, access};
use rustix::process::geteuid;

use super::proc_locks::{self, KernelHold};
use super::record_locks::{self, OF_DESCRIPTION, RecordLock};
use super::report::{Holder, Mode, Process, Report, Unknown, Waiter};
use crate::args::ProtocolArgs;

/// Who holds the lock of `path`. Takes as long as the file system of the path takes to answer.
pub(super) fn examine(path: &Path, locking: &ProtocolArgs) -> anyhow::Result<Report> {
    let mut report = Report {
        exists: path.try_exists().ok(),
        ..Report::unknown(path, Unknown::NoAnswer)
    };
    report.unknown = match locking.protocol {
        Some(protocol) if protocol.is_existence_lock() => {
            add_existence_lock(path, protocol, locking, &mut report)?;
            None
        }
        _ => {
            add_kernel_locks(path, locking.protocol, &mut report)?;
            let certain = match locking.protocol {
                None => add_recognized(path, locking, &mut report)?,
                Some(_) => true,
            };
            if !certain {
                Some(Unknown::MayBeNoLock)
            } else {
                add_hidden(path, locking.protocol, &mut report)
            }
        }
    };
    report.held = match report.unknown {
        None => Some(!report.holders.is_empty()),
        Some(_) => None,
    };
    report.mode = report.holders.iter().map(|holder| holder.mode).min();
    Ok(report)
}

/// Adds the holders of kernel locks, of the chosen protocol if there is one, and the waiters.
fn add_kernel_locks(
    path: &Path,
    wanted: Option<Protocol>,
    report: &mut Report,
) -> anyhow::Result<()> {
    let locks = proc_locks::of(path)?;
    let is_wanted = |held: Protocol| {
        wanted.is_none_or(|wanted| {
            wanted == Protocol::Native || held == Protocol::Native || held == wanted
        })
    };
    let holds = locks.holds.into_iter();
    let wanted_holds = holds.filter(|hold| is_wanted(hold.protocol));
    report.holders.extend(wanted_holds.map(kernel_holder));
    let waits = locks.waits.into_iter();
    let wanted_waits = waits.filter(|wait| is_wanted(wait.protocol));
    report.waiters.extend(wanted_waits.map(|wait| Waiter {
        process: Process::of(wait.acquirer),
        protocol: wait.protocol,
        mode: wait.range.mode,
    }));
    Ok(())
}

/// Adds the holder of an existence lock that can be recognized as one of this path. Returns `false`
/// if all that was found is something that may be no lock.
fn add_recognized(
    path: &Path,
    locking: &ProtocolArgs,
    report: &mut Report,
) -> anyhow::Result<bool> {
    if locking.database.is_some() {
        add_existence_lock(path, Protocol::Sqlite, locking, report)?;
    }
    let proven = is_proven_by_flock(path);
    if !(report.holders.is_empty() || proven) {
        return Ok(true);
    }
    let Some((protocol, certain)) = recognized(path, proven) else {
        return Ok(true);
    };
    let others = report.holders.len();
    add_existence_lock(path, protocol, locking, report)?;
    if report.holders.len() == others {
        return Ok(true);
    }
    // The `flock` is that holder's proof, not another lock.
    report
        .holders
        .retain(|hold| !proven || hold.protocol != Protocol::Flock);
    Ok(certain || report.holders.len() > 1)
}

/// Looks for what `/proc` does not tell. Returns why there may still be a holder if none is found.
fn add_hidden(path: &Path, wanted: Option<Protocol>, report: &mut Report) -> Option<Unknown> {
    let unknown = if report.exists != Some(true) {
        return None;
    } else if proc_locks::in_container() {
        Unknown::OutsideContainer
    } else if may_be_locked_elsewhere(path) {
        Unknown::OtherHosts
    } else {
        return None;
    };
    let asked = match wanted {
        Some(Protocol::Flock) => None,
        _ => record_locks::of(path).ok(),
    };
    let known = report.holders.iter();
    let known = known.filter(|hold| matches!(hold.protocol, Protocol::Fcntl | Protocol::Native));
    let known: Vec<_> = known.flat_map(Holder::bytes).collect();
    let mut hidden: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for RecordLock { pid, range } in asked.iter().flatten().copied() {
        // The table lists those of descriptions, of whatever container.
        let is_listed = pid == OF_DESCRIPTION && unknown == Unknown::OutsideContainer;
        if !is_listed && !known.contains(&range) {
            hidden
                .entry((pid > 0).then_some(pid))
                .or_default()
                .push(range);
        }
    }
    let hidden = hidden.into_iter().map(|(pid, ranges)| KernelHold {
        pid,
        protocol: Protocol::Fcntl,
        ranges,
        acquirer: None,
    });
    report.holders.extend(hidden.map(kernel_holder));
    // The kernel knows all record locks of this host.
    let all_known =
        wanted == Some(Protocol::Fcntl) && unknown == Unknown::OutsideContainer && asked.is_some();
    (report.holders.is_empty() && !all_known).then_some(unknown)
}

/// Whether the file system may have holders that the kernel of this host does not know.
fn may_be_locked_elsewhere(path: &Path) -> bool {
    const SHARED: &[u32] = &[
        0x6969,      // NFS
        0xff53_4d42, // SMB
        0xfe53_4d42, // SMB, from version 2 on
        0x6573_5546, // FUSE and virtiofs
        0x0102_1997, // 9P
        0x00c3_6400, // Ceph
        0x0bd0_0bd0, // Lustre
        0x4750_4653, // GPFS
        0x0116_1970, // GFS2
        0x7461_636f, // OCFS2
        0x5346_414f, // AFS
        0x786f_4256, // folders of VirtualBox
    ];
    let kind = rustix::fs::statfs(path).map(|system| system.f_type as u32);
    kind.is_ok_and(|kind| SHARED.contains(&kind))
}

fn kernel_holder(hold: KernelHold) -> Holder {
    let mode = hold.ranges.iter().map(|range| range.mode).min();
    let whole = matches!(hold.ranges.as_slice(), [range] if range.is_whole());
    Holder {
        process: Process::of(hold.pid),
        protocol: hold.protocol,
        mode: mode.unwrap_or(Mode::Exclusive),
        ranges: if whole { Vec::new() } else { hold.ranges },
        acquired_by: hold.acquirer,
        since: None,
        host: None,
        elsewhere: false,
    }
}

/// Adds the holder of an existence lock, or whether this user may remove what it left behind.
fn add_existence_lock(
    path: &Path,
    protocol: Protocol,
    locking: &ProtocolArgs,
    report: &mut Report,
) -> anyhow::Result<()> {
    let marker = match protocol {
        Protocol::PidFile | Protocol::Soft => Some(path.to_owned()),
        Protocol::Sqlite => None,
        _ => Some(beside(path)),
    };
    let look = || fs::symlink_metadata(marker.as_ref()?).ok();
    let before = look();
    let options = locking.options(protocol).create(false);
    let holder = Engine::new().open_with(path, &options)?.holder()?;
    if holder.is_none()
        && let (Some(marker), Some(before), Some(after)) = (&marker, before, look())
        && before.ino() == after.ino()
    {
        report.removable = Some(may_remove(marker, &after));
    }
    report.holders.extend(holder.map(|holder| {
        let pid = holder.pid.and_then(|pid| i32::try_from(pid).ok());
        let since = holder
            .since
            .and_then(|since| since.duration_since(UNIX_EPOCH).ok());
        Holder {
            process: Process {
                pid,
                ..Process::of(pid.filter(|_| !holder.elsewhere))
            },
            protocol,
            mode: Mode::Exclusive,
            ranges: Vec::new(),
            acquired_by: None,
            since: since.map(|since| since.as_secs()),
            host: holder.host,
            elsewhere: holder.elsewhere,
        }
    }));
    Ok(())
}

/// Whether this user may remove an entry of a directory.
fn may_remove(path: &Path, entry: &Metadata) -> bool {
    const STICKY: u32 = 0o1000;
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    let dir = dir.unwrap_or(Path::new("."));
    let user = geteuid().as_raw();
    let others_may_not = fs::metadata(dir).is_ok_and(|dir| {
        dir.mode() & STICKY != 0 && user != 0 && ![dir.uid(), entry.uid()].contains(&user)
    });
    !others_may_not && access(dir, Access::WRITE_OK | Access::EXEC_OK).is_ok()
}

/// Whether `path` is an existence lock that says that its holder keeps a `flock` on it.
fn is_proven_by_flock(path: &Path) -> bool {
    rustix::fs::getxattr(path, "user.locket.live", &mut [0; 512]).is_ok()
}

/// The protocol of an existence lock of `path`, and whether what is there can only be a lock.
fn recognized(path: &Path, proven: bool) -> Option<(Protocol, bool)> {
    if let Ok(beside) = fs::symlink_metadata(beside(path)) {
        let kind = beside.file_type();
        if kind.is_symlink() {
            return Some((Protocol::Symlink, true));
        } else if kind.is_dir() {
            return Some((Protocol::Mkdir, true));
        } else if kind.is_file() {
            // Others keep files of such names for kernel locks.
            let certain = beside.len() == 0 && beside.nlink() > 1 || is_in_repository(path);
            return Some((Protocol::Link, certain));
        }
    }
    let holder = |protocol: Protocol| {
        let options = Options::new().create(false).protocol(protocol);
        let lock = Engine::new().open_with(path, &options);
        lock.and_then(|lock| lock.holder())
    };
    let is_named = |holder: &locket::Holder| holder.pid.is_some() || holder.host.is_some();
    match holder(Protocol::Soft) {
        Ok(Some(holder)) if is_named(&holder) => return Some((Protocol::Soft, true)),
        // What is there was left behind.
        Ok(None) if path.exists() => return Some((Protocol::Soft, true)),
        _ => {}
    }
    match holder(Protocol::PidFile) {
        // Otherwise the number may be that of a service, which names itself and locks nothing.
        Ok(Some(holder)) if is_named(&holder) => Some((Protocol::PidFile, proven)),
        Ok(None) if proven => Some((Protocol::PidFile, true)),
        _ => None,
    }
}

/// `PATH.lock`.
pub(crate) fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    name.into()
}

/// Whether a path lies in git's part of a repository, where `PATH.lock` is its lock.
fn is_in_repository(path: &Path) -> bool {
    let path = std::path::absolute(path).unwrap_or_default();
    path.components().any(|part| part.as_os_str() == ".git")
}
