//! The holders of kernel locks, and what else Linux tells of a lock.

use std::collections::BTreeMap;
use std::path::Path;

use locket::Protocol;

use super::proc_locks::{self, KernelHold};
use super::record_locks::{self, OF_DESCRIPTION, RecordLock};
use super::report::{Holder, Mode, Process, Report, Unknown, Waiter};

/// Adds the holders of kernel locks, of the chosen protocol if there is one, and the waiters.
pub(super) fn add_kernel_locks(
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

/// Looks for what `/proc` does not tell. Returns why there may still be a holder if none is found.
pub(super) fn add_hidden(
    path: &Path,
    wanted: Option<Protocol>,
    report: &mut Report,
) -> Option<Unknown> {
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
        mode: Some(mode.unwrap_or(Mode::Exclusive)),
        ranges: if whole { Vec::new() } else { hold.ranges },
        acquired_by: hold.acquirer,
        since: None,
        host: None,
        elsewhere: false,
    }
}

/// Whether `path` is an existence lock that says that its holder keeps a `flock` on it.
pub(super) fn is_proven_by_flock(path: &Path) -> bool {
    rustix::fs::getxattr(path, "user.locket.live", &mut [0; 512]).is_ok()
}
