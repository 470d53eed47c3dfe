//! What keeps the users of Locket from each other while they break or remove locks in a directory.

use std::fs::File;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

/// Keeps other users of Locket from changing, by more than making what is not there, the
/// locks of a directory. It is a `flock` of that.
pub(super) struct DirLock<'a>(&'a File);

impl<'a> DirLock<'a> {
    /// None where somebody has it for longer than `patience`; an error where directories cannot be
    /// locked.
    pub(super) fn of(dir: &'a File, patience: Duration) -> io::Result<Option<Self>> {
        /// How often at once. Those who have it need some microseconds, if nothing holds them up.
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

/// How long to wait for the guard. Whoever has it can be held up by the disk, or by others on his
/// processor; but somebody else may lock the directory for as long as he likes, and shall not hold
/// us up.
pub(super) const PATIENCE: Duration = Duration::from_millis(10);
/// The same for a lock that is to be broken by hand, which fails without.
pub(super) const MUCH_PATIENCE: Duration = Duration::from_secs(1);

impl Drop for DirLock<'_> {
    fn drop(&mut self) {
        let _ = fs4::FileExt::unlock(self.0);
    }
}
