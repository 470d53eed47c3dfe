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

#[cfg(unix)]
#[path = "promise/flock.rs"]
mod system;
#[cfg(windows)]
#[path = "promise/none.rs"]
mod system;

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::MarkerFormat;
use super::dirent::{EntryStat, Moment};
use super::owner_record::OwnerRecord;
use crate::object::Marker;
use crate::sync::{Mutex, lock};
use crate::sys;

pub(super) use self::system::{attached, end, give, make_file, make_promising_file};

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
        let life = file.filter(|file| system::counts(&record, file));
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
        // If it cannot be tried, nothing is known.
        system::try_shared(life).then_some(Death(Some(life)))
    }
}

/// The proof that a holder is dead. While it exists, the lock of the dead cannot be taken.
#[derive(Debug)]
pub(super) struct Death<'a>(Option<&'a File>);

impl Drop for Death<'_> {
    fn drop(&mut self) {
        if let Some(life) = self.0 {
            system::unlock(life);
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
