//! The state that all handles of one instance share.

use alloc::rc::{Rc, Weak};
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

use crate::lock::Lock;
use crate::owner_record::OwnerRecord;
use crate::time;

/// The open locks, and the next unused number.
struct Instance {
    locks: RefCell<Vec<Weak<Lock>>>,
    next: Cell<u64>,
}

struct Single(Instance);

// SAFETY: a component instance has only one thread, and the tests do not access this.
#[allow(unsafe_code, reason = "there are no other threads")]
unsafe impl Sync for Single {}

static INSTANCE: Single = Single(Instance {
    locks: RefCell::new(Vec::new()),
    next: Cell::new(0),
});

/// A number that is unique in this instance.
pub(crate) fn number() -> u64 {
    let next = &INSTANCE.0.next;
    next.replace(next.get() + 1)
}

/// Creates the owner record of a new hold.
pub(crate) fn owner() -> OwnerRecord {
    let wall = time::wall().as_nanos() as u64;
    OwnerRecord::new(wall, time::monotonic(), number())
}

/// Returns the existing lock if a handle already has it open, and otherwise `lock`.
pub(crate) fn join(lock: Lock) -> Rc<Lock> {
    let mut locks = INSTANCE.0.locks.borrow_mut();
    locks.retain(|lock| lock.strong_count() > 0);
    let open = locks.iter().filter_map(Weak::upgrade);
    let same = open.into_iter().find(|other| other.is(&lock));
    same.unwrap_or_else(|| {
        let lock = Rc::new(lock);
        locks.push(Rc::downgrade(&lock));
        lock
    })
}

/// Whether the record is that of a hold of this instance.
pub(crate) fn is_ours(owner: &OwnerRecord) -> bool {
    each().any(|lock| lock.owner().as_ref() == Some(owner))
}

/// Shows a sign of life for all holds of this instance. Each call of the guest does this, because
/// no thread can do it between the calls.
pub(crate) fn refresh() {
    each().for_each(|lock| lock.refresh());
}

fn each() -> impl Iterator<Item = Rc<Lock>> {
    let locks: Vec<_> = INSTANCE.0.locks.borrow().clone();
    locks.into_iter().filter_map(|lock| lock.upgrade())
}
