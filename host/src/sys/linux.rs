//! Linux: record locks of the open file description, timers and signals aimed at a thread.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{
    AtFlags, CWD, Mode as Permissions, OFlags, ResolveFlags, linkat, openat, openat2,
};
use rustix::io::Errno;

use super::unix::{range_lock, record_lock, whole_file};
use crate::range::Span;
use crate::sys::Backing;
use crate::types::Mode;

mod interrupt;

pub(crate) use self::interrupt::{Interrupter, Interruption, Thread, TimedWait, detach};
pub(crate) use super::unix::{
    Identity, NO_LINK, OPEN_FLAGS, OpenOptionsExt, RangeLocks, Signal, WAITS_FOR_RANGES, adopt,
    attribute, create_dir, create_file, each_name, entry_at, entry_of, exchange, fork_generation,
    holder, host_name, is_reaped, kind_of, link, open_dir, open_file, open_subdir, os_string,
    read_link, remove, remove_dir, rename, rename_new, set_attribute, symlink, try_lock, unlink,
    unlock, without_signals,
};
#[cfg(feature = "sandbox")]
pub(crate) use super::unix::{read_dir, remove_empty};

impl Identity {
    /// On what the file system of `file`, whose identity this is, depends. What is neither known to
    /// be local nor a network's counts as unknown: behind FUSE, say, is a program.
    pub(crate) fn backing(self, file: &File) -> Backing {
        const NETWORK: &[u64] = &[
            0x6969,      // NFS
            0xff53_4d42, // SMB
            0xfe53_4d42, // SMB, from version 2 on
        ];
        /// The block device that was found to be local last. To ask for each file would make
        /// opening a lock by its path a tenth slower. Other file systems have major number 0, and
        /// the next one that is mounted can have the number of one that is gone.
        static LAST_LOCAL: AtomicU64 = AtomicU64::new(0);
        let on_device = rustix::fs::major(self.device) != 0;
        if on_device && LAST_LOCAL.load(Ordering::Relaxed) == self.device {
            return Backing::Kernel;
        }
        match kind_of_file_system(file) {
            Ok(kind) if KNOWN_TO_BE_LOCAL.contains(&kind) => {
                if on_device {
                    LAST_LOCAL.store(self.device, Ordering::Relaxed);
                }
                Backing::Kernel
            }
            Ok(kind) if NETWORK.contains(&kind) => Backing::Network,
            _ => Backing::Unknown,
        }
    }
}

/// The file systems for which the kernel alone answers. Behind any other there may be a server, or a
/// program, that does not answer for long.
const KNOWN_TO_BE_LOCAL: &[u64] = &[
    0xef53,      // ext2, ext3, ext4
    0x5846_5342, // XFS
    0x9123_683e, // Btrfs
    0x0102_1994, // tmpfs
    0x8584_58f6, // ramfs
    0x794c_7630, // overlayfs, whose upper layer has to be local
    0xf2f5_2010, // F2FS
    0x2fc1_2fc1, // ZFS
    0xca45_1a4e, // bcachefs
    0xe0f5_e1e2, // EROFS
    0x7371_7368, // Squashfs
    0x2011_bab0, // exFAT
    0x4d44,      // FAT
    0x3153_464a, // JFS
    0x5265_4973, // ReiserFS
];

fn kind_of_file_system(file: &File) -> io::Result<u64> {
    Ok(rustix::fs::fstatfs(file)?.f_type.cast_unsigned() & 0xffff_ffff)
}

/// Set in the [`flock_domain`] of a file system that is not known to be local.
pub(crate) const OF_THIS_BOOT: u64 = 1 << 63;

/// Where a `flock` on `file` counts: for every process that has the same inode open in the same domain,
/// by whichever mount. An overlay, a server or a program can show the files of another file system,
/// and keeps locks of its own.
pub(crate) fn flock_domain(file: &File) -> io::Result<u64> {
    match kind_of_file_system(file)? {
        kind if KNOWN_TO_BE_LOCAL.contains(&kind) => Ok(kind),
        _ => Ok(OF_THIS_BOOT | file.metadata()?.dev()),
    }
}

/// A second open file description of an open file, even if its name is gone. Locks of the two
/// exclude each other. Fails if `/proc` is missing, or if this process may no longer open the file
/// with its current user.
pub(crate) fn reopen(file: &File, writable: bool) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(writable)
        .custom_flags(OPEN_FLAGS)
        .open(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// Waits for the open-file-description lock. Fails with [`io::ErrorKind::Interrupted`] if a signal
/// interrupts the wait.
pub(crate) fn wait(file: &File, mode: Mode, _: &TimedWait) -> io::Result<()> {
    record_lock(file, libc::F_OFD_SETLKW, &mut whole_file(Some(mode)))
}

/// The same for a range.
pub(crate) fn wait_for_range(file: &File, mode: Mode, span: Span, _: &TimedWait) -> io::Result<()> {
    record_lock(file, libc::F_OFD_SETLKW, &mut range_lock(Some(mode), span))
}

/// `SIGSTKFLT`, which the kernel never sends, and then the signals from `SIGRTMIN + 8` on. The C
/// library reserves those below `SIGRTMIN`, and Go uses `SIGURG`. The first choice is not a
/// real-time signal, because sending one fails while the user has too many pending.
pub(super) fn spare_signals() -> impl Iterator<Item = libc::c_int> {
    std::iter::once(libc::SIGSTKFLT).chain(libc::SIGRTMIN() + 8..=libc::SIGRTMAX())
}

/// The path of an open file or directory.
pub(crate) fn path_of(dir: &File) -> io::Result<std::path::PathBuf> {
    fs::read_link(format!("/proc/self/fd/{}", dir.as_raw_fd()))
}

/// Whether a link dangles beneath its directory. A link that leads out of the directory is not a
/// lock, and a guest that may not look there must not learn whether something exists.
pub(crate) fn leads_nowhere(dir: &File, link: &OsStr) -> bool {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let beneath = ResolveFlags::BENEATH;
    let found = openat2(dir, link, flags, Permissions::empty(), beneath);
    matches!(found, Err(Errno::NOENT | Errno::LOOP))
}

/// Keeps the inode of an entry alive, whatever happens to the entry.
pub(crate) fn pin(dir: &File, name: &OsStr) -> io::Result<Option<File>> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(Some(openat(dir, name, flags, Permissions::empty())?.into()))
}

/// A file in a directory without a name, which disappears unless it gets one.
pub(crate) fn nameless_file(dir: &File, permissions: u32) -> io::Result<File> {
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    Ok(openat(dir, ".", flags, Permissions::from_raw_mode(permissions))?.into())
}

/// Gives it a free name.
pub(crate) fn give_name(file: &File, dir: &File, name: &OsStr) -> io::Result<()> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    Ok(linkat(CWD, path, dir, name, AtFlags::SYMLINK_FOLLOW)?)
}

/// The PID namespace of the system's first process.
pub(crate) const INITIAL_PID_NAMESPACE: u64 = 0xefff_fffc;

/// The PID namespace of this process.
pub(crate) fn pid_namespace() -> u64 {
    let namespace = fs::metadata("/proc/self/ns/pid");
    namespace.map_or(INITIAL_PID_NAMESPACE, |namespace| namespace.ino())
}

/// The identifier of this boot; 0 if the system does not tell.
pub(crate) fn boot_id() -> u128 {
    static BOOT: OnceLock<u128> = OnceLock::new();
    *BOOT.get_or_init(|| {
        let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        u128::from_str_radix(&id.trim().replace('-', ""), 16).unwrap_or(0)
    })
}

/// When a process started, in clock ticks since the boot. `None` if it is gone, or if the clock of
/// this process is not the system's.
pub(crate) fn start_ticks(pid: u32) -> Option<u64> {
    const INITIAL_TIME_NAMESPACE: u64 = 0xefff_fffa;
    let namespace = fs::metadata("/proc/self/ns/time");
    if namespace.is_ok_and(|namespace| namespace.ino() != INITIAL_TIME_NAMESPACE) {
        return None;
    }
    stat_fields(pid)?.get(19)?.parse().ok()
}

/// Whether a process has ended and has not been reaped.
pub(crate) fn is_zombie(pid: u32) -> bool {
    let Some(fields) = stat_fields(pid) else {
        return false;
    };
    // The first thread can end before the others.
    let threads = fields.get(17).and_then(|threads| threads.parse().ok());
    matches!(fields[0].as_str(), "Z" | "X") && threads.is_some_and(|threads: u32| threads <= 1)
}

/// The fields of `/proc/<pid>/stat` after the name of the program, which can be anything.
fn stat_fields(pid: u32) -> Option<Vec<String>> {
    if !numbers_are_ours() {
        return None;
    }
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    let fields = std::str::from_utf8(&stat[end + 1..]).ok()?;
    let fields: Vec<_> = fields.split_whitespace().map(str::to_owned).collect();
    (!fields.is_empty()).then_some(fields)
}

/// Whether `/proc` shows the process numbers of this process's namespace. A new namespace needs a
/// mount of its own for that.
fn numbers_are_ours() -> bool {
    let me = std::process::id().to_string();
    fs::read_link("/proc/self").is_ok_and(|number| number.as_os_str() == me.as_str())
}

/// Whether a process in a namespace below this one may have this number there.
pub(crate) fn has_inner_pid(pid: u32) -> bool {
    if !numbers_are_ours() {
        return true;
    }
    let Ok(processes) = fs::read_dir("/proc") else {
        return true;
    };
    let mut seen = false;
    for process in processes.flatten() {
        let Some(outer) = process
            .file_name()
            .to_str()
            .and_then(|n| n.parse::<u32>().ok())
        else {
            continue;
        };
        seen |= outer == 1;
        let status = fs::read(process.path().join("status")).unwrap_or_default();
        let inner = status
            .split(|byte| *byte == b'\n')
            .find_map(|line| line.strip_prefix(b"NSpid:"))
            .and_then(|pids| std::str::from_utf8(pids).ok()?.split_whitespace().last())
            .and_then(|inner| inner.parse::<u32>().ok());
        if outer != pid && inner == Some(pid) {
            return true;
        }
    }
    // If the first process is hidden, others may be too.
    !seen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_systems_that_are_not_known_may_not_answer() {
        let backing = |file: &File| {
            let metadata = file.metadata().expect("it has metadata");
            let identity = Identity::of(file, &metadata).expect("it has an identity");
            identity.backing(file)
        };
        let local = tempfile::tempfile().expect("a file can be created");
        assert_eq!(backing(&local), Backing::Kernel);
        // Behind it are programs, as behind FUSE.
        let other = File::open("/proc/self/status").expect("it can be opened");
        assert_eq!(backing(&other), Backing::Unknown);
    }
}
