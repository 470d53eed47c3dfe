//! The holders of kernel locks, as far as macOS and Windows tell.
//!
//! Both tell which processes have a file open. macOS also tells whether the file is locked, and Windows
//! tells that only to those who lock it.

use std::path::Path;

use locket::Protocol;
#[cfg(target_os = "macos")]
use locket::{Engine, Options};

#[cfg(target_os = "macos")]
use super::report::Mode;
use super::report::{Holder, Process, Report, Unknown};
use crate::sys;

/// Adds the processes that hold a kernel lock, or may hold one.
pub(super) fn add_kernel_locks(
    path: &Path,
    wanted: Option<Protocol>,
    report: &mut Report,
) -> anyhow::Result<()> {
    if report.exists != Some(true) || path.is_dir() {
        return Ok(());
    }
    let protocol = wanted.unwrap_or_default();
    #[cfg(target_os = "macos")]
    let (mode, owner) = {
        let options = Options::new().create(false).protocol(protocol);
        let Some(holder) = Engine::new().open_with(path, &options)?.holder()? else {
            return Ok(());
        };
        let mode = match holder.mode {
            locket::Mode::Exclusive => Mode::Exclusive,
            locket::Mode::Shared => Mode::Shared,
        };
        (Some(mode), holder.pid)
    };
    #[cfg(windows)]
    let (mode, owner) = (None, None);
    let pids = match owner {
        Some(pid) => vec![pid],
        None => sys::processes_with_open(path).unwrap_or_default(),
    };
    let pids = pids.into_iter().filter_map(|pid| i32::try_from(pid).ok());
    let pids: Vec<_> = pids.collect();
    let holder = |pid| Holder::of_kernel(Process::of(pid), protocol, mode);
    match pids.is_empty() {
        // The kernel says so.
        true if mode.is_some() => report.holders.push(holder(None)),
        _ => report
            .holders
            .extend(pids.into_iter().map(Some).map(holder)),
    }
    Ok(())
}

/// Returns what is not told of the holders.
pub(super) fn add_hidden(path: &Path, _: Option<Protocol>, report: &mut Report) -> Option<Unknown> {
    let holders = &report.holders;
    let (existence, open): (Vec<_>, Vec<_>) = holders
        .iter()
        .partition(|holder| holder.protocol.is_existence_lock());
    let is_told = match cfg!(windows) {
        true if !existence.is_empty() => true,
        // A lock of a process of this host takes an open file.
        true => open.is_empty() && sys::processes_with_open(path).is_ok(),
        false => open.len() <= 1,
    };
    (report.exists == Some(true) && !is_told && !path.is_dir()).then_some(Unknown::NotTold)
}

/// No lock of these systems says so.
pub(super) fn is_proven_by_flock(_: &Path) -> bool {
    false
}
