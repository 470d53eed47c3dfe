//! What a process uses of the system.

use std::fs;
use std::io;

/// What this process uses at one time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Open descriptors.
    pub descriptors: usize,
    /// Threads.
    pub threads: usize,
    /// Resident memory, in bytes.
    pub memory: u64,
}

impl Usage {
    /// Measures it.
    ///
    /// # Errors
    ///
    /// Those of `/proc`.
    pub fn now() -> io::Result<Self> {
        Ok(Self {
            // One of them is open to read the folder.
            descriptors: fs::read_dir("/proc/self/fd")?.count() - 1,
            threads: fs::read_dir("/proc/self/task")?.count(),
            memory: resident()?,
        })
    }
}

/// The resident memory that belongs to this process alone, in bytes.
fn resident() -> io::Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    let kilobytes = kilobytes.ok_or_else(|| io::Error::other("no RssAnon in the status"))?;
    Ok(kilobytes * 1024)
}

/// A number of bytes in a suitable unit.
pub fn bytes(bytes: u64) -> String {
    match bytes {
        0..10_240 => format!("{bytes} B"),
        10_240..10_485_760 => format!("{} KiB", bytes >> 10),
        _ => format!("{} MiB", bytes >> 20),
    }
}
