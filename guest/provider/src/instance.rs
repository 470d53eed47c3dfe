//! What the handles of one instance have in common.

use alloc::rc::{Rc, Weak};
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

use crate::lock::Lock;
use crate::mark::Mark;
use crate::time;

/// The locks that are open, and the numbers of what was made.
struct Instance {
    locks: RefCell<Vec<Weak<Lock>>>,
    next: Cell<u64>,
}

struct Single(Instance);

// SAFETY: an instance of a component has one thread, and the tests do not come here.
#[allow(unsafe_code, reason = "there are no other threads")]
unsafe impl Sync for Single {}

static INSTANCE: Single = Single(Instance {
    locks: RefCell::new(Vec::new()),
    next: Cell::new(0),
});

/// A number that nothing else in this instance has.
pub(crate) fn number() -> u64 {
    let next = &INSTANCE.0.next;
    next.replace(next.get() + 1)
}

/// A mark for a new hold.
pub(crate) fn mark() -> Mark {
    let wall = time::wall().as_nanos() as u64;
    Mark::new(wall, time::monotonic(), number())
}

/// The same lock, if a handle has it open already.
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

/// Whether a mark is that of a hold of this instance.
pub(crate) fn is_ours(mark: &Mark) -> bool {
    each().any(|lock| lock.mark().as_ref() == Some(mark))
}

/// Shows that the holder of all that this instance holds lives. There is no thread to do so in
/// between the calls of the guest, so each of them does.
pub(crate) fn refresh() {
    each().for_each(|lock| lock.refresh());
}

fn each() -> impl Iterator<Item = Rc<Lock>> {
    let locks: Vec<_> = INSTANCE.0.locks.borrow().clone();
    locks.into_iter().filter_map(|lock| lock.upgrade())
}
