//! Existence locks: the guest that creates the directory entry holds the lock.
//!
//! No call removes an entry only if it has not changed, so we check an entry immediately before we
//! remove it.

use core::cell::{Cell, RefCell};
use core::time::Duration;

use wasip2::filesystem::types::{Descriptor, ErrorCode};

use crate::bindings::api::{Error, Grant, LostReason, State};
use crate::format::MarkerFormat;
use crate::marker::{Marker, MarkerStat};
use crate::owner_record::OwnerRecord;
use crate::path::Place;
use crate::time;

/// The lock of one file, shared by all handles to it.
#[derive(Debug)]
pub(crate) struct Lock {
    marker: Marker,
    stale_after: Option<Duration>,
    hold: RefCell<Option<Hold>>,
}

/// The hold of this instance on a lock.
#[derive(Debug)]
struct Hold {
    owner: OwnerRecord,
    /// The handle that acquired it.
    handle: u64,
    /// When the modification time of the entry was last updated, on the monotonic clock.
    refreshed: Cell<u64>,
    lost: Cell<bool>,
}

/// The result of one attempt.
pub(crate) enum Attempt {
    Granted,
    /// This instance itself holds the lock.
    HeldByUs,
    HeldByAnother,
}

impl Lock {
    /// Creates the lock of a file beneath `root`, which is not held yet.
    pub(crate) fn new(
        root: Descriptor,
        place: Place<'_>,
        format: MarkerFormat,
        stale_after: Option<Duration>,
    ) -> Result<Self, Error> {
        Ok(Self {
            marker: Marker::new(root, place, format)?,
            stale_after,
            hold: RefCell::default(),
        })
    }

    /// Whether both are the lock of the same file.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.marker.is(&other.marker)
    }

    /// Acquires the lock if it is free or stale. `ours` identifies the holds of this instance.
    pub(crate) fn attempt(
        &self,
        handle: u64,
        owner: OwnerRecord,
        ours: impl Fn(&OwnerRecord) -> bool,
    ) -> Result<Attempt, Error> {
        if let Some(stat) = self.marker.stat()? {
            if !self.marker.format().accepts(stat.kind) {
                return Err(Error::InvalidPath);
            }
            if stat.owner.as_ref().is_some_and(ours) {
                return Ok(Attempt::HeldByUs);
            }
            if !(self.is_stale(&stat) && self.remove_stale(stat)?) {
                return Ok(Attempt::HeldByAnother);
            }
        }
        match self.marker.create(&owner) {
            Ok(()) => {}
            Err(ErrorCode::Exist) => return Ok(Attempt::HeldByAnother),
            Err(e) => return Err(e.into()),
        }
        let hold = Hold {
            owner,
            handle,
            refreshed: Cell::new(time::monotonic()),
            lost: Cell::new(false),
        };
        if let Some(lost) = self.hold.replace(Some(hold)) {
            self.marker.clean_up(&lost.owner);
        }
        Ok(Attempt::Granted)
    }

    /// Releases the hold of this instance.
    pub(crate) fn release(&self) -> Result<(), Error> {
        let Some(owner) = self.owner() else {
            return Err(match self.marker.stat()? {
                Some(stat) if self.marker.format().accepts(stat.kind) => Error::NotOwner,
                _ => Error::NotLocked,
            });
        };
        let kept = match self.marker.stat()? {
            Some(stat) if stat.owner.as_ref() == Some(&owner) => {
                self.marker.remove(stat.kind, &owner)?;
                true
            }
            _ => {
                self.marker.clean_up(&owner);
                false
            }
        };
        *self.hold.borrow_mut() = None;
        match kept {
            true => Ok(()),
            false => Err(Error::Lost(LostReason::Broken)),
        }
    }

    /// Like [`release`](Self::release), but only if `handle` acquired the lock.
    pub(crate) fn release_if_acquired_by(&self, handle: u64) {
        let is_its = |hold: &Hold| hold.handle == handle;
        if self.hold.borrow().as_ref().is_some_and(is_its) {
            let _ = self.release();
        }
    }

    /// The current holder, if there is one, and its record if it has one.
    pub(crate) fn holder(&self) -> Result<Option<Option<OwnerRecord>>, Error> {
        match self.marker.stat()? {
            Some(stat) if !self.marker.format().accepts(stat.kind) => Err(Error::InvalidPath),
            stat => Ok(stat.map(|stat| stat.owner)),
        }
    }

    /// The record of the hold of this instance, including a hold that it has lost but not released.
    pub(crate) fn owner(&self) -> Option<OwnerRecord> {
        self.hold.borrow().as_ref().map(|hold| hold.owner.clone())
    }

    pub(crate) fn stale_after(&self) -> Option<Duration> {
        self.stale_after
    }

    /// A grant that is valid for the given time.
    pub(crate) fn grant(&self, valid_for: Option<Duration>) -> Grant {
        Grant {
            token: None,
            valid_for: valid_for.map(time::millis),
        }
    }

    /// The state of the hold, without access to the file system.
    pub(crate) fn state(&self) -> State {
        match &*self.hold.borrow() {
            None => State::Unlocked,
            Some(hold) if hold.lost.get() => State::Lost(LostReason::Broken),
            Some(hold) => {
                let age = hold.age();
                match self.stale_after.map(|most| most.saturating_sub(age)) {
                    // Another guest may have taken the lock over since then.
                    Some(Duration::ZERO) => State::Uncertain(0),
                    left => State::Held(self.grant(left)),
                }
            }
        }
    }

    /// Shows a sign of life, unless the last one is recent.
    pub(crate) fn refresh(&self) {
        /// A fraction of the shortest possible time after which a lock counts as stale.
        const INTERVAL: Duration = Duration::from_millis(300);
        let hold = self.hold.borrow();
        let Some(hold) = hold.as_ref().filter(|hold| hold.age() >= INTERVAL) else {
            return;
        };
        // If the entry cannot be read, leave the state unchanged.
        let Ok(stat) = self.marker.stat() else { return };
        let kept = stat.is_some_and(|stat| stat.owner.as_ref() == Some(&hold.owner));
        hold.lost.set(!kept);
        if kept && self.marker.touch() {
            hold.refreshed.set(time::monotonic());
        }
    }

    /// Whether the creator is a guest that has shown no sign of life for the configured time.
    fn is_stale(&self, stat: &MarkerStat) -> bool {
        let (Some(most), Some(changed)) = (self.stale_after, stat.changed) else {
            return false;
        };
        stat.owner.is_some() && time::wall().saturating_sub(changed) >= most
    }

    /// Removes a stale lock. Returns `false` if another guest is removing or has removed it.
    ///
    /// Two guests may judge the same hold stale. Then the second must not remove the lock that the
    /// first has meanwhile acquired. So a guest that removes the lock of a hold first creates a file
    /// named after that hold, and then checks the lock again. A later guest finds either that file
    /// or another hold.
    fn remove_stale(&self, stat: MarkerStat) -> Result<bool, ErrorCode> {
        let Some(owner) = stat.owner else {
            return Ok(false);
        };
        match self.marker.begin_removal(&owner) {
            Ok(()) => {}
            Err(ErrorCode::Exist) => return Ok(false),
            Err(e) => return Err(e),
        }
        let removed = self.marker.stat().and_then(|stat| match stat {
            Some(stat) if stat.owner.as_ref() == Some(&owner) && self.is_stale(&stat) => {
                self.marker.remove(stat.kind, &owner).map(|()| true)
            }
            _ => Ok(false),
        });
        self.marker.end_removal(&owner);
        removed
    }
}

impl Hold {
    fn age(&self) -> Duration {
        Duration::from_nanos(time::monotonic().saturating_sub(self.refreshed.get()))
    }
}
