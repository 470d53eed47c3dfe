//! The ranges that each owner holds of a file. An owner has an open file description of its own, which
//! the kernel keeps them by.

use std::collections::BTreeMap;
use std::io;
use std::mem;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::task::Waker;

use crate::lock_path::LockPath;
use crate::object::{LockObject, OpenLock};
use crate::owner::OwnerId;
use crate::range::{Change, RangeMap, Span};
use crate::sync::{Mutex, WakeList, lock};
use crate::sys::{self, Backing, Identity, Process};
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
    description: Mutex<Arc<LockObject>>,
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

/// A lock that can still be undone.
#[derive(Debug)]
struct Tentative {
    number: u64,
    /// What it has changed, with what was held there before.
    before: Vec<(Span, Option<Mode>)>,
}

impl Tentative {
    /// Lets nothing be undone in `span`.
    fn settle(&mut self, span: Span) {
        self.before = without(mem::take(&mut self.before), span);
    }

    /// Takes over what an earlier one had replaced where this one replaced that, and returns the rest.
    fn inherit(&mut self, mut earlier: Vec<(Span, Option<Mode>)>) -> Vec<(Span, Option<Mode>)> {
        for (mine, _) in self.before.clone() {
            for &(part, mode) in &earlier {
                if let Some(common) = part.common(mine) {
                    self.settle(common);
                    self.before.push((common, mode));
                }
            }
            earlier = without(earlier, mine);
        }
        earlier
    }
}

/// Parts, as far as they are outside of `span`.
fn without(parts: Vec<(Span, Option<Mode>)>, span: Span) -> Vec<(Span, Option<Mode>)> {
    let left = |(part, mode): (Span, _)| part.without(span).map(move |part| (part, mode));
    parts.into_iter().flat_map(left).collect()
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
            description: Mutex::new(Arc::new(object)),
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
        if description.writable || !object.writable {
            return Ok(());
        }
        // All of them are shared, so the two descriptions can have them at once.
        for (span, mode) in lock(&self.held).map.iter() {
            if !matches!(sys::try_range(&object.file, Some(mode), span), Ok(true)) {
                sys::try_range(&object.file, None, Span::WHOLE)?;
                return Err(io::ErrorKind::WouldBlock.into());
            }
        }
        let former = mem::replace(&mut *description, Arc::new(object));
        // If that was lent, its lender has it open still.
        sys::try_range(&former.file, None, Span::WHOLE)?;
        Ok(())
    }

    /// Opens the file for writing, by what is open.
    pub(crate) fn reopen_for_writing(&self) -> io::Result<()> {
        let readable = Arc::clone(&lock(&self.description));
        let file = sys::reopen(&readable.file, true)?;
        self.offer(LockObject::file(file, true))
    }

    /// A descriptor of the description, for a wait.
    pub(crate) fn duplicate(&self) -> io::Result<Arc<LockObject>> {
        let description = Arc::clone(&lock(&self.description));
        let file = description.file.try_clone()?;
        Ok(Arc::new(LockObject::file(file, description.writable)))
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
        let description = lock(&self.description);
        if mode == Mode::Exclusive && !description.writable {
            return Ok(Tried::ReadOnly);
        }
        let Some(change) = self.change(span, Some(mode), limit) else {
            return Ok(Tried::TooMany);
        };
        if !sys::try_range(&description.file, Some(mode), span)? {
            return Ok(Tried::Conflict);
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

    /// Unlocks the span. Returns `false` if more than `limit` ranges would be left.
    pub(crate) fn unlock(&self, span: Span, limit: usize) -> io::Result<bool> {
        let description = lock(&self.description);
        let Some(change) = self.change(span, None, limit) else {
            return Ok(false);
        };
        sys::try_range(&description.file, None, span)?;
        let mut held = lock(&self.held);
        held.settle(span);
        held.map.apply(change);
        Ok(true)
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
        let description = lock(&self.description);
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
            self.reconcile_on(&description, part);
        }
    }

    /// Lets the kernel have what is recorded, after a wait whose grant is not wanted any more.
    pub(crate) fn reconcile(&self, span: Span) {
        if self.process.is_parent() {
            return;
        }
        self.reconcile_on(&lock(&self.description), span);
    }

    fn reconcile_on(&self, description: &LockObject, span: Span) {
        let parts = lock(&self.held).map.parts(span);
        for (part, mode) in parts {
            let kept = sys::try_range(&description.file, mode, part);
            // A shared lock that is not wanted any more had taken its place, and another owner shares
            // it by now.
            if mode == Some(Mode::Exclusive) && !matches!(kept, Ok(true)) {
                lock(&self.held).map.set(part, Some(Mode::Shared));
            }
        }
    }

    pub(crate) fn query(&self, span: Span, mode: Mode) -> io::Result<Option<(Span, Mode)>> {
        let description = Arc::clone(&lock(&self.description));
        sys::query_range(&description.file, mode, span)
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
        let description = lock(&self.description);
        let _ = sys::try_range(&description.file, None, Span::WHOLE);
    }
}
