//! The ranges that each owner holds of a file. An owner has an open file description of its own, which
//! the kernel keeps them by.

mod description;
mod query;
mod tentative;

use std::collections::BTreeMap;
use std::io;
use std::mem;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::task::Waker;

use self::description::Description;
use self::tentative::Tentative;
use crate::lock_path::LockPath;
use crate::object::{LockObject, OpenLock};
use crate::owner::OwnerId;
use crate::range::{Change, RangeMap, Span};
use crate::sync::{Mutex, WakeList, lock};
use crate::sys::{self, Backing, Identity, Process, RangeChange};
use crate::table::{Entry, Table};
use crate::types::Mode;

/// A file of which this engine has ranges open.
#[derive(Debug)]
pub(crate) struct RangedFile {
    identity: Identity,
    /// The path on the host by which it was opened, as far as it is known.
    pub(crate) path: PathBuf,
    owners: Mutex<Vec<Weak<OwnedRanges>>>,
    _entry: Entry<Self>,
}

/// The ranges of one owner.
#[derive(Debug)]
pub(crate) struct OwnedRanges {
    pub(crate) owner: OwnerId,
    file: Arc<RangedFile>,
    process: Process,
    /// Whether this system alone decides when a call returns.
    pub(crate) local: bool,
    /// The description that carries the locks. A call that changes what is held is made under this
    /// mutex, so that the map follows the kernel.
    description: Mutex<Description>,
    held: Mutex<Held>,
    /// Those that end its waits when they are woken.
    waits: Mutex<BTreeMap<u64, Waker>>,
    /// How often the waits were canceled.
    canceled: AtomicU64,
}

/// What an owner holds, and what of that it may give up again.
#[derive(Debug, Default)]
struct Held {
    map: RangeMap,
    /// The locks that can still be undone. A later change of the same bytes settles them.
    tentative: Vec<Tentative>,
}

impl Held {
    /// Forgets what tentative locks have replaced in `span`, so that undoing them changes nothing there.
    fn settle(&mut self, span: Span) {
        let tentative = self.tentative.iter_mut();
        tentative.for_each(|made| made.settle(span));
    }
}

/// What became of a try.
#[derive(Debug)]
pub(crate) enum Tried {
    Locked,
    Conflict,
    /// The file is not open for writing.
    ReadOnly,
    /// It would be more ranges than allowed.
    TooMany,
    /// Another process has taken some of what the owner held.
    Lost,
}

impl RangedFile {
    /// The owners that hold something here which excludes `mode` in `span`.
    pub(crate) fn holders(&self, span: Span, mode: Mode) -> Vec<OwnerId> {
        let owners = lock(&self.owners).clone();
        let owners = owners.iter().filter_map(Weak::upgrade);
        owners
            .filter(|owned| lock(&owned.held).map.excludes(span, mode))
            .map(|owned| owned.owner)
            .collect()
    }

    pub(crate) fn owners(&self) -> Vec<Arc<OwnedRanges>> {
        let owners = lock(&self.owners);
        owners.iter().filter_map(Weak::upgrade).collect()
    }
}

impl OwnedRanges {
    /// The ranges of `owner` on an open file: those that it has already, or new ones on this
    /// description.
    pub(crate) fn of(
        table: &Arc<Table<RangedFile>>,
        owner: OwnerId,
        open_lock: OpenLock,
        lock_path: &LockPath,
    ) -> io::Result<Arc<Self>> {
        let OpenLock {
            object,
            identity,
            backing,
        } = open_lock;
        let (file, _) = table.get(
            (identity, None),
            (),
            |_| true,
            |(), entry| {
                Arc::new(RangedFile {
                    identity,
                    path: lock_path.whole(),
                    owners: Mutex::default(),
                    _entry: entry,
                })
            },
        );
        let mut owners = lock(&file.owners);
        owners.retain(|owned| owned.strong_count() > 0);
        let known = owners.iter().filter_map(Weak::upgrade);
        if let Some(owned) = known.into_iter().find(|owned| owned.owner == owner) {
            drop(owners);
            owned.offer(object)?;
            return Ok(owned);
        }
        let owned = Arc::new(Self {
            owner,
            file: Arc::clone(&file),
            process: Process::current(),
            local: backing == Backing::Kernel,
            description: Mutex::new(Description::new(object)),
            held: Mutex::default(),
            waits: Mutex::default(),
            canceled: AtomicU64::new(0),
        });
        owners.push(Arc::downgrade(&owned));
        drop(owners);
        Ok(owned)
    }

    pub(crate) fn identity(&self) -> Identity {
        self.file.identity
    }

    /// Takes a description that is open for writing in place of one that is not, with all locks.
    pub(crate) fn offer(&self, object: LockObject) -> io::Result<()> {
        let mut description = lock(&self.description);
        if description.object.writable || !object.writable {
            return Ok(());
        }
        let mut next = Description::new(object);
        // All of them are shared, so the two descriptions can have them at once.
        for (span, mode) in lock(&self.held).map.iter() {
            if !matches!(next.change(Some(mode), span), Ok(RangeChange::Made)) {
                next.clear()?;
                return Err(io::ErrorKind::WouldBlock.into());
            }
        }
        let mut former = mem::replace(&mut *description, next);
        // If that was lent, its lender has it open still.
        former.clear()
    }

    /// Opens the file for writing, by what is open.
    pub(crate) fn reopen_for_writing(&self) -> io::Result<()> {
        let readable = Arc::clone(&lock(&self.description).object);
        let file = sys::reopen(&readable.file, true)?;
        self.offer(LockObject::file(file, true))
    }

    /// A descriptor of the description, for a wait.
    pub(crate) fn duplicate(&self) -> io::Result<Arc<LockObject>> {
        let object = Arc::clone(&lock(&self.description).object);
        let file = object.file.try_clone()?;
        Ok(Arc::new(LockObject::file(file, object.writable)))
    }

    /// Locks the span unless another owner is in the way. With a number, the lock can be
    /// [undone](Self::undo).
    pub(crate) fn attempt(
        &self,
        span: Span,
        mode: Mode,
        limit: usize,
        tentative: Option<u64>,
    ) -> io::Result<Tried> {
        let mut description = lock(&self.description);
        if mode == Mode::Exclusive && !description.object.writable {
            return Ok(Tried::ReadOnly);
        }
        let Some(change) = self.change(span, Some(mode), limit) else {
            return Ok(Tried::TooMany);
        };
        // Twice, so that what is held at the limit can still change.
        #[cfg(windows)]
        if description.locks.pieces() >= limit.saturating_mul(2) {
            return Ok(Tried::TooMany);
        }
        // A change unlocks for a moment, in which no owner here may get in.
        #[cfg(windows)]
        if self.blocked_here(span, mode).is_some() {
            return Ok(Tried::Conflict);
        }
        match description.change(Some(mode), span)? {
            RangeChange::Made => {}
            RangeChange::Conflict => return Ok(Tried::Conflict),
            RangeChange::Lost(parts) => {
                self.lose(&parts);
                // Some of the change may have been made, which nothing records.
                self.reconcile_on(&mut description, span);
                return Ok(Tried::Lost);
            }
        }
        let mut held = lock(&self.held);
        match tentative {
            None => held.settle(span),
            Some(number) => {
                let before = held.map.parts(span);
                held.tentative.push(Tentative { number, before });
            }
        }
        held.map.apply(change);
        Ok(Tried::Locked)
    }

    /// Unlocks the span.
    pub(crate) fn unlock(&self, span: Span, limit: usize) -> io::Result<Tried> {
        let mut description = lock(&self.description);
        let Some(change) = self.change(span, None, limit) else {
            return Ok(Tried::TooMany);
        };
        let changed = description.change(None, span)?;
        let mut held = lock(&self.held);
        held.settle(span);
        held.map.apply(change);
        drop(held);
        if let RangeChange::Lost(parts) = changed {
            self.lose(&parts);
            return Ok(Tried::Lost);
        }
        Ok(Tried::Locked)
    }

    /// Records that another process has taken what the owner held.
    fn lose(&self, parts: &[Span]) {
        let mut held = lock(&self.held);
        for part in parts {
            held.map.set(*part, None);
            held.settle(*part);
        }
    }

    /// What is to be recorded once the kernel has it. None if it would be too many ranges.
    fn change(&self, span: Span, mode: Option<Mode>, limit: usize) -> Option<Change> {
        let Held { map, .. } = &*lock(&self.held);
        let change = map.change(span, mode);
        (map.len_after(&change) <= limit).then_some(change)
    }

    /// Lets a tentative lock stay.
    #[cfg(feature = "sandbox")]
    pub(crate) fn keep(&self, number: u64) {
        let Held { tentative, .. } = &mut *lock(&self.held);
        let Some(index) = tentative.iter().position(|made| made.number == number) else {
            return;
        };
        // The earlier ones can no longer be undone there.
        let kept = tentative.remove(index);
        for (part, _) in kept.before {
            let earlier = &mut tentative[..index];
            earlier.iter_mut().for_each(|made| made.settle(part));
        }
    }

    /// Lets the owner hold what it held before a tentative lock, except where something else has been
    /// locked or unlocked since.
    pub(crate) fn undo(&self, number: u64) {
        let mut description = lock(&self.description);
        let mut held = lock(&self.held);
        let tentative = &mut held.tentative;
        let Some(index) = tentative.iter().position(|made| made.number == number) else {
            return;
        };
        let mut left = tentative.remove(index).before;
        // Where a later tentative lock is, it stays, and undoing that leads to what was before both.
        for later in &mut tentative[index..] {
            left = later.inherit(left);
        }
        drop(held);
        for (part, mode) in left {
            lock(&self.held).map.set(part, mode);
            self.reconcile_on(&mut description, part);
        }
    }

    /// Lets the kernel have what is recorded, after a wait whose grant is not wanted any more.
    pub(crate) fn reconcile(&self, span: Span) {
        if self.process.is_parent() {
            return;
        }
        self.reconcile_on(&mut lock(&self.description), span);
    }

    fn reconcile_on(&self, description: &mut Description, span: Span) {
        let parts = lock(&self.held).map.parts(span);
        for (part, mode) in parts {
            let kept = description.change(mode, part);
            // A shared lock that is not wanted any more had taken its place, and another owner shares
            // it by now.
            if mode == Some(Mode::Exclusive) && !matches!(kept, Ok(RangeChange::Made)) {
                lock(&self.held).map.set(part, Some(Mode::Shared));
            }
            if let Ok(RangeChange::Lost(parts)) = kept {
                self.lose(&parts);
            }
        }
    }

    pub(crate) fn held(&self) -> Vec<(Span, Mode)> {
        lock(&self.held).map.iter().collect()
    }

    /// How many waits are in progress.
    pub(crate) fn waits(&self) -> usize {
        lock(&self.waits).len()
    }

    /// The other owners that hold something which excludes `mode` in `span`.
    pub(crate) fn blockers(&self, span: Span, mode: Mode) -> Vec<OwnerId> {
        let mut blockers = self.file.holders(span, mode);
        blockers.retain(|owner| *owner != self.owner);
        blockers
    }

    /// How often the waits were canceled.
    pub(crate) fn cancellations(&self) -> u64 {
        self.canceled.load(Ordering::SeqCst)
    }

    /// Notes a wait, which `end` ends.
    pub(crate) fn note(&self, number: u64, end: Waker) {
        lock(&self.waits).insert(number, end);
    }

    pub(crate) fn forget(&self, number: u64) {
        let forgotten = lock(&self.waits).remove(&number);
        // Not under the mutex.
        drop(forgotten);
    }

    /// Cancels the waits that are in progress.
    pub(crate) fn cancel_waits(&self) {
        // One that is about to begin sees it.
        self.canceled.fetch_add(1, Ordering::SeqCst);
        self.interrupt_waits();
    }

    /// The same, after the generation of the engine was changed.
    pub(crate) fn interrupt_waits(&self) {
        let waits = lock(&self.waits).values().cloned().collect();
        WakeList(waits).wake();
    }
}

impl Drop for OwnedRanges {
    fn drop(&mut self) {
        if self.process.is_parent() {
            return;
        }
        // A thread whose wait was canceled, and a forked child, may have copies of the descriptor.
        let _ = lock(&self.description).clear();
    }
}
