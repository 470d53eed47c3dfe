//! What `/proc` shows: who waits in the kernel for a lock, and which threads and descriptors this
//! process has.
#![cfg(target_os = "linux")]

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// How many wait in the kernel for a lock of the file.
///
/// # Panics
///
/// If there is no such file.
pub fn kernel_waiters(path: &Path) -> usize {
    let inode = fs::metadata(path).expect("the lock file exists").ino();
    let inode = format!(":{inode} ");
    let count = || {
        let locks = fs::read_to_string("/proc/locks").expect("the kernel lists its locks");
        let waits_here = |line: &&str| line.contains("->") && line.contains(&inode);
        locks.lines().filter(waits_here).count()
    };
    // The list is read in pieces. If it changes in between, an entry can be in it twice.
    let mut before = count();
    loop {
        let now = count();
        if now == std::mem::replace(&mut before, now) {
            return now;
        }
    }
}

/// How many threads of this process the engines have started.
///
/// # Panics
///
/// If the system does not list the threads.
pub fn engine_threads() -> usize {
    let tasks = fs::read_dir("/proc/self/task").expect("the system lists the threads");
    let name = |task: fs::DirEntry| fs::read_to_string(task.path().join("comm")).ok();
    tasks
        .flatten()
        .filter_map(name)
        .filter(|name| name.starts_with("locket-"))
        .count()
}

/// How many descriptors this process has open.
///
/// # Panics
///
/// If the system does not list the descriptors.
pub fn descriptors() -> usize {
    let all = fs::read_dir("/proc/self/fd").expect("the system lists the descriptors");
    all.count()
}

/// How many descriptors of this process lead to files below `dir`.
///
/// # Panics
///
/// If there is no such directory.
pub fn descriptors_below(dir: &Path) -> usize {
    let dir = dir.canonicalize().expect("the directory exists");
    let all = fs::read_dir("/proc/self/fd").expect("the system lists the descriptors");
    let target = |fd: fs::DirEntry| fs::read_link(fd.path()).ok();
    all.flatten()
        .filter_map(target)
        .filter(|path| path != &dir && path.starts_with(&dir))
        .count()
}
