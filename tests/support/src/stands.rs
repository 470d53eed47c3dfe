//! The stands in this process, and that of processes. That of guests needs Wasmtime, and is in the
//! package `locket-tests`.

mod peers;
mod threads;

use crate::subject::Site;

pub use peers::Peers;
pub use threads::{Engines, Threads};

/// How many wait in the kernel for the lock, if the system shows it and the kernel keeps the lock.
fn kernel_waiters(site: &Site) -> Option<usize> {
    #[cfg(target_os = "linux")]
    if !site.protocol.is_existence_lock() {
        return Some(crate::proc_locks::kernel_waiters(&site.lock_path()));
    }
    let _ = site;
    None
}
