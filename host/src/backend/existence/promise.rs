//! The kernel's proof that a holder is dead.
//!
//! Numbers of processes, host names and ages are evidence. A kernel lock is proof: while it holds an
//! existence lock, a process also keeps an exclusive `flock` on a file of its marker, and its record
//! promises that. Whoever finds the promise tries that `flock` in shared mode. If it is free, the
//! holder is dead, in whatever container it ran and whoever has its number now. If it is taken, the
//! holder lives, or has passed the lock on to a process that does, whatever the record says.
//!
//! The `flock` is taken before the marker has its name, so no process sees the promise earlier than
//! the lock. Only the creator takes it exclusively, so those who judge do not disturb each other. A
//! stranger's `flock` on the marker makes a dead holder look alive, and never the reverse.
//!
//! A file can be reached through several file systems: a layer of a container and the host's, a
//! server's and a client's. Each of them keeps locks of its own. So the promise says through which
//! one the lock was taken ([`sys::flock_domain`]), and counts only there.

#![expect(
    clippy::disallowed_methods,
    reason = "it proves a lock, and is not one of a user"
)]

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fs4::{FileExt, TryLockError};
use rustix::fs::{XattrFlags, fgetxattr, fsetxattr};

use super::MarkerFormat;
use super::dirent::{EntryStat, Moment};
use super::owner_record::OwnerRecord;
use crate::object::{Created, Marker};
use crate::sync::{Mutex, lock};
use crate::sys;

/// Takes the lock on a file of a new marker, which has no name yet. Returns the record that promises
/// it; `None` if that is not possible there.
pub(super) fn give(file: &File, mine: &OwnerRecord) -> Option<OwnerRecord> {
    let promise = sys::flock_domain(file).ok();
    FileExt::try_lock(file)
        .ok()
        .filter(|()| promise.is_some())?;
    Some(OwnerRecord {
        promise,
        ..mine.clone()
    })
}

/// The attribute that has the promising record, where the content is that of another program's
/// format.
const ATTRIBUTE: &str = "user.locket.live";

/// Takes the lock on a file that has no name yet, and says so in its attribute, if that is possible.
/// The content is complete.
pub(super) fn attach(file: &File, mine: &OwnerRecord) {
    if let Some(promising) = give(file, mine)
        && let Ok(written) = written(file)
    {
        let mut attribute = promising.unique_name();
        attribute.push(format!("@{written}"));
        let _ = fsetxattr(file, ATTRIBUTE, attribute.as_bytes(), XattrFlags::CREATE);
    }
}

/// The record in the attribute of a file whose content is that of `plain`, and otherwise `plain`.
pub(super) fn attached(file: &File, plain: OwnerRecord) -> OwnerRecord {
    let mut attribute = [0; 512];
    let mut promising = || {
        let length = fgetxattr(file, ATTRIBUTE, &mut attribute).ok()?;
        let attribute = attribute.get(..length)?;
        let at = attribute.iter().rposition(|byte| *byte == b'@')?;
        // Another program may have written the content since. In another container it may have the
        // number of the first.
        let same = attribute[at + 1..] == *written(file).ok()?.as_bytes();
        let record = OwnerRecord::of_own_name(OsStr::from_bytes(&attribute[..at]))?;
        (same && record.pid == plain.pid).then_some(record)
    };
    promising().unwrap_or(plain)
}

/// When the content was written, as the attribute says it.
fn written(file: &File) -> io::Result<String> {
    let stat = rustix::fs::fstat(file)?;
    Ok(format!("{}.{}", stat.st_mtime, stat.st_mtime_nsec))
}

/// Gives the lock up, once the marker has lost its name. A forked child may have the description
/// open, too, and would keep the lock.
pub(super) fn end(created: &Created) {
    if let Some(carrier) = created.carrier() {
        let _ = FileExt::unlock(carrier);
    }
}

/// What a marker says of its holder.
#[derive(Debug)]
pub(crate) struct Claim {
    pub(super) record: OwnerRecord,
    /// The file on which the holder keeps the promised lock, if it can be tried here.
    life: Option<File>,
    /// When a process in a namespace below had the number.
    inner: Mutex<Option<Instant>>,
}

impl Claim {
    /// The claim of a record. `file` opens the file that the promise is about, for reading.
    pub(super) fn new(
        record: OwnerRecord,
        file: impl FnOnce() -> io::Result<Option<File>>,
    ) -> io::Result<Self> {
        let file = match record.promise {
            Some(_) => file()?,
            None => None,
        };
        let counts = |file: &File| {
            sys::flock_domain(file).is_ok_and(|here| counts(&record, here, sys::boot_id()))
        };
        let life = file.filter(counts);
        let inner = Mutex::default();
        Ok(Self {
            record,
            life,
            inner,
        })
    }

    /// The file on which the holder keeps its lock.
    pub(super) fn life(&self) -> Option<File> {
        self.life.as_ref()?.try_clone().ok()
    }

    /// Whether a process in a namespace below has the number, or had it a moment ago.
    fn has_inner_pid(&self, pid: u32) -> bool {
        const MOMENT: Duration = Duration::from_secs(1);
        let mut inner = lock(&self.inner);
        if inner.is_none_or(|at| at.elapsed() > MOMENT) {
            *inner = sys::has_inner_pid(pid).then(Instant::now);
        }
        inner.is_some()
    }

    /// The proof that the holder is dead, if there is one.
    pub(super) fn death(&self, dir: &File) -> Option<Death<'_>> {
        let Some(life) = &self.life else {
            let dead = self
                .record
                .is_dead_unless(dir, |pid| self.has_inner_pid(pid));
            return dead.then_some(Death(None));
        };
        loop {
            match FileExt::try_lock_shared(life) {
                Ok(()) => return Some(Death(Some(life))),
                Err(TryLockError::Error(e)) if e.kind() == io::ErrorKind::Interrupted => {}
                // If it cannot be tried, nothing is known.
                Err(_) => return None,
            }
        }
    }
}

/// Whether the promised lock can be tried through a file of the domain `here`.
fn counts(record: &OwnerRecord, here: u64, boot: u128) -> bool {
    // In others than the kernel's own file systems, another host may keep locks of its own.
    let everywhere = here & sys::OF_THIS_BOOT == 0;
    let then = record.start.map_or(0, |start| start.boot);
    record.promise == Some(here) && (everywhere || boot != 0 && then == boot)
}

/// The proof that a holder is dead. While it exists, the lock of the dead cannot be taken.
#[derive(Debug)]
pub(super) struct Death<'a>(Option<&'a File>);

impl Drop for Death<'_> {
    fn drop(&mut self) {
        if let Some(life) = self.0 {
            let _ = FileExt::unlock(life);
        }
    }
}

/// The claim of a marker that was looked at, so that the next look need not read it again.
#[derive(Debug)]
struct Judged {
    moment: Moment,
    /// Whether every later change shows. The clock of a file system is coarse.
    settled: bool,
    claim: Arc<Claim>,
}

impl Judged {
    fn is_of(&self, seen: &EntryStat) -> bool {
        self.settled && self.moment == seen.moment()
    }
}

/// The claim of the entry `seen`, which is a marker of this format.
pub(super) fn claim_of<F: MarkerFormat>(
    form: &F,
    dir: &File,
    marker: &Marker,
    seen: &EntryStat,
) -> io::Result<Option<Arc<Claim>>> {
    const COARSE: Duration = Duration::from_millis(100);
    if let Some(judged) = last(marker)
        && judged.is_of(seen)
    {
        return Ok(Some(Arc::clone(&judged.claim)));
    }
    let claim = form.claim(dir, marker.name(), seen)?.map(Arc::new);
    let judged = claim.clone().map(|claim| Judged {
        moment: seen.moment(),
        settled: seen.moment().is_older_than(COARSE),
        claim,
    });
    *marker.memory() = judged.map(|judged| Arc::new(judged) as _);
    Ok(claim)
}

/// Whether the marker that was judged last is still there, and its holder not proven dead. `false`
/// if that takes a closer look.
pub(super) fn is_still_held(dir: &File, marker: &Marker) -> io::Result<bool> {
    let Some(judged) = last(marker).filter(|judged| judged.settled) else {
        return Ok(false);
    };
    let seen = EntryStat::glance(dir, marker.name())?;
    let same = seen.is_some_and(|seen| judged.is_of(&seen));
    Ok(same && judged.claim.death(dir).is_none())
}

/// The claim of the holder that the last try found.
pub(super) fn judged(marker: &Marker) -> Option<Arc<Claim>> {
    last(marker).map(|judged| Arc::clone(&judged.claim))
}

/// What the last look found, if it was the marker of another holder.
fn last(marker: &Marker) -> Option<Arc<Judged>> {
    let memory = marker.memory().clone()?;
    memory.downcast().ok()
}

#[cfg(test)]
mod tests {
    use super::super::owner_record::Start;
    use super::*;

    /// A program's or a server's file system may keep the locks of each host apart.
    #[test]
    fn a_promise_counts_where_the_lock_can_be_tried() {
        let record = |promise, boot| OwnerRecord {
            promise: Some(promise),
            start: Some(Start { boot, ticks: 7 }),
            ..OwnerRecord::mine()
        };
        let (ext4, overlay, server) = (0xef53, 0x794c_7630, sys::OF_THIS_BOOT | 42);
        assert!(counts(&record(ext4, 1), ext4, 1));
        assert!(counts(&record(ext4, 1), ext4, 2));
        assert!(!counts(&record(overlay, 1), ext4, 1));
        assert!(!counts(&record(ext4, 1), overlay, 1));
        assert!(counts(&record(server, 1), server, 1));
        assert!(!counts(&record(server, 1), server, 2));
        assert!(!counts(&record(server, 0), server, 0));
        assert!(!counts(&record(server, 1), server + 1, 1));
    }
}
