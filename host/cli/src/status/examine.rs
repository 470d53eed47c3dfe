//! Finds out who holds the lock of a path.

use std::fs::{self, Metadata};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use locket::{Engine, Options, Protocol};

use super::report::{Holder, Mode, Process, Report, Unknown};
use super::system::{add_hidden, add_kernel_locks, is_proven_by_flock};
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
        // Which one is not told, and that there is one is.
        Some(Unknown::NotTold) if cfg!(target_os = "macos") => Some(true),
        Some(_) => None,
    };
    report.mode = report.holders.iter().filter_map(|holder| holder.mode).min();
    Ok(report)
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
    // On Windows a process that has the file open need not hold it.
    if !(report.holders.is_empty() || proven || cfg!(windows)) {
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
    if cfg!(windows) {
        report.holders.drain(..others);
        return Ok(certain);
    }
    // The `flock` is that holder's proof, not another lock.
    report
        .holders
        .retain(|hold| !proven || hold.protocol != Protocol::Flock);
    Ok(certain || report.holders.len() > 1)
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
        && is_same(&before, &after)
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
            mode: Some(Mode::Exclusive),
            ranges: Vec::new(),
            acquired_by: None,
            since: since.map(|since| since.as_secs()),
            host: holder.host,
            elsewhere: holder.elsewhere,
        }
    }));
    Ok(())
}

/// The protocol of an existence lock of `path`, and whether what is there can only be a lock.
fn recognized(path: &Path, proven: bool) -> Option<(Protocol, bool)> {
    let marker = beside(path);
    if let Ok(beside) = fs::symlink_metadata(&marker) {
        let kind = beside.file_type();
        if kind.is_symlink() {
            return Some((Protocol::Symlink, true));
        } else if kind.is_dir() {
            return Some((Protocol::Mkdir, true));
        } else if kind.is_file() {
            // Others keep files of such names for kernel locks.
            let certain = is_link_of_file(&marker, &beside) || is_in_repository(path);
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

/// Whether the two were the same entry.
#[cfg(unix)]
fn is_same(before: &Metadata, after: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    before.ino() == after.ino()
}

#[cfg(windows)]
fn is_same(before: &Metadata, after: &Metadata) -> bool {
    matches!((before.created(), after.created()), (Ok(before), Ok(after)) if before == after)
}

/// Whether a file is empty and has another name, as pylockfile's locks have.
#[cfg(unix)]
fn is_link_of_file(_: &Path, file: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    file.len() == 0 && file.nlink() > 1
}

#[cfg(windows)]
fn is_link_of_file(path: &Path, file: &Metadata) -> bool {
    let number = || crate::sys::file_number(&fs::File::open(path)?);
    file.len() == 0 && number().is_ok_and(|(_, _, links)| links > 1)
}

/// Whether this user may remove an entry of a directory.
#[cfg(unix)]
fn may_remove(path: &Path, entry: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;

    use rustix::fs::{Access, access};
    use rustix::process::geteuid;
    const STICKY: u32 = 0o1000;
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    let dir = dir.unwrap_or(Path::new("."));
    let user = geteuid().as_raw();
    let others_may_not = fs::metadata(dir).is_ok_and(|dir| {
        dir.mode() & STICKY != 0 && user != 0 && ![dir.uid(), entry.uid()].contains(&user)
    });
    !others_may_not && access(dir, Access::WRITE_OK | Access::EXEC_OK).is_ok()
}

/// As far as its attributes tell.
#[cfg(windows)]
fn may_remove(_: &Path, entry: &Metadata) -> bool {
    !entry.permissions().readonly()
}
