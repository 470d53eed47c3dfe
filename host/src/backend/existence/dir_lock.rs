//! The lock of a directory, which users of Locket hold while they break or remove locks in it.

#![expect(
    clippy::disallowed_methods,
    reason = "it is held for microseconds, and not a lock of a user"
)]

use std::fs::File;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

/// A `flock` on the directory. While it is held, other users of Locket may create locks in the
/// directory, but neither remove nor break any.
pub(super) struct DirLock<'a>(&'a File);

impl<'a> DirLock<'a> {
    /// `None` if another process holds it for longer than `patience`; an error if directories
    /// cannot be locked there.
    pub(super) fn of(dir: &'a File, patience: Duration) -> io::Result<Option<Self>> {
        /// How often to try without a pause. A holder needs only microseconds, unless it is held
        /// up.
        const TRIES: usize = 50;
        const PAUSE: Duration = Duration::from_micros(200);
        let mut until = None;
        for tries in 1.. {
            match fs4::FileExt::try_lock(dir) {
                Ok(()) => return Ok(Some(Self(dir))),
                Err(fs4::TryLockError::WouldBlock) if tries < TRIES => thread::yield_now(),
                Err(fs4::TryLockError::WouldBlock) => {
                    let now = Instant::now();
                    if now >= *until.get_or_insert(now + patience) {
                        break;
                    }
                    thread::sleep(PAUSE);
                }
                Err(fs4::TryLockError::Error(e)) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(fs4::TryLockError::Error(e)) => return Err(e),
            }
        }
        Ok(None)
    }
}

/// How long to wait for the directory lock. The disk or a busy processor can hold up its holder.
/// But another program may lock the directory indefinitely; do not let it block us.
pub(super) const PATIENCE: Duration = Duration::from_millis(10);
/// The same for a release, which is right without the directory lock.
pub(super) const LITTLE_PATIENCE: Duration = Duration::from_millis(2);
/// The same for breaking a lock by hand, which fails without the directory lock.
pub(super) const MUCH_PATIENCE: Duration = Duration::from_secs(1);

impl Drop for DirLock<'_> {
    fn drop(&mut self) {
        let _ = fs4::FileExt::unlock(self.0);
    }
}
