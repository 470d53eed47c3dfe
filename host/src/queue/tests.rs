use std::io;
use std::path::Path;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use locket_test_support::waits::eventually;

use super::events::Event;
use super::state::Contender;
use super::{Enqueued, Failure, LockQueue, Name, WaitStatus};
use crate::backend::Request;
use crate::lock_path::LockPath;
use crate::owner::{OwnerId, Requester, Ticket};
use crate::protocol::Protocol;
use crate::services::Services;
use crate::sync::lock;
use crate::sys::Backing;
use crate::table::Table;
use crate::types::{LostReason, Mode};
use crate::waiter::Outcome;

/// A queue for a lock, in an engine of its own.
fn queue(path: &Path, protocol: Protocol, services: Arc<Services>) -> Arc<LockQueue> {
    queue_on(Backing::Kernel, path, protocol, services)
}

fn queue_on(
    backing: Backing,
    path: &Path,
    protocol: Protocol,
    services: Arc<Services>,
) -> Arc<LockQueue> {
    let mut lock_path = LockPath::ambient(path, true, true).expect("the path is absolute");
    let kept = lock_path.keep_by(protocol, None);
    kept.expect("the protocol is one of this system");
    let mut open_lock = lock_path.open().expect("the lock can be opened");
    open_lock.backing = backing;
    let key = (open_lock.identity, None);
    let name = lock_path.whole();
    let new = |open_lock, entry| LockQueue::new(open_lock, name, services, entry);
    let (queue, _) = Arc::new(Table::default()).get(key, open_lock, |_| true, new);
    queue
}

fn enter(queue: &Arc<LockQueue>, protocol: Protocol, wait: bool, blocking: bool) -> Enqueued {
    let request = Request {
        mode: Mode::Exclusive,
        protocol,
        stale_after: None,
        fencing: false,
    };
    let requester = Requester {
        owner: OwnerId::PROCESS,
        handle: 1,
        share: 0,
    };
    queue.enter(request, requester, None, wait, blocking)
}

fn acquire(queue: &Arc<LockQueue>, protocol: Protocol) -> Ticket {
    match enter(queue, protocol, false, true) {
        Enqueued::Granted(ticket) => ticket,
        entered => panic!("{entered:?}"),
    }
}

fn wait(queue: &Arc<LockQueue>, protocol: Protocol) -> Ticket {
    match enter(queue, protocol, true, false) {
        Enqueued::Queued(ticket) => ticket,
        entered => panic!("{entered:?}"),
    }
}

#[test]
fn a_helpers_error_reaches_the_waiter_it_stands_in_for() {
    let dir = tempfile::tempdir().expect("a directory can be created");
    let flock = |helpers| {
        let services = Services::of_test(helpers);
        queue(&dir.path().join("lock"), Protocol::Flock, services)
    };
    let (holder, waiter) = (flock(0), flock(1));
    let held = acquire(&holder, Protocol::Flock);
    let ticket = wait(&waiter, Protocol::Flock);
    let wait = match &waiter.state().contender {
        Contender::Blocked { wait, by: None } => Arc::clone(wait),
        contender => panic!("{contender:?}"),
    };
    let error = io::Error::from_raw_os_error(libc::ENOLCK);
    waiter.settle(&wait, Outcome::Failed(error)).wake();
    let turn = waiter.turn(ticket, Waker::noop());
    let WaitStatus::Failed(Failure::Io(error)) = turn else {
        panic!("{turn:?}");
    };
    assert_eq!(error.raw_os_error(), Some(libc::ENOLCK));
    // The real helper keeps waiting, on behalf of no waiter, and gives back the lock it gets.
    let released = holder.release(held, None, Name::Kept);
    assert!(matches!(released, Ok(Some(Ok(())))));
}

/// A notice of the loss keeps it from being handed on, too, but may come too late.
#[test]
fn what_was_lost_without_a_notice_is_not_handed_on() {
    let dir = tempfile::tempdir().expect("a directory can be created");
    let soft = || {
        // However slowly this runs, the bound is not reached.
        let services = Services::of_test(0).with_hand_off(1, Duration::MAX);
        queue(&dir.path().join("lock"), Protocol::Soft, services)
    };
    let (ours, theirs) = (soft(), soft());
    let held = acquire(&ours, Protocol::Soft);
    let waits = wait(&ours, Protocol::Soft);
    let watch = lock(&ours.watch).take();
    assert!(watch.is_some(), "it was watched");
    drop(watch);
    let broken = theirs.break_lock(Protocol::Soft, false);
    assert!(broken.expect("it can be broken"));
    let another = acquire(&theirs, Protocol::Soft);
    let released = ours.release(held, None, Name::IsTheLock);
    assert!(matches!(released, Ok(Some(Err(LostReason::Broken)))));
    assert_eq!(ours.len(), (0, 1), "it is not handed on");
    ours.abandon(waits);
    let released = theirs.release(another, None, Name::IsTheLock);
    assert!(matches!(released, Ok(Some(Ok(())))));
}

/// A waiter that gives up during its pause leaves the pause behind.
#[test]
fn a_try_of_a_task_does_not_wait_for_a_pause_that_was_left() {
    let dir = tempfile::tempdir().expect("a directory can be created");
    let services = Services::of_test(1);
    let queue = queue_on(
        Backing::Network,
        &dir.path().join("lock"),
        Protocol::Flock,
        services,
    );
    let never = Instant::now() + Duration::from_secs(3600);
    let resume = queue.teller(Event::Resume);
    let pause = queue.services.timer.wake_at(never, resume);
    queue.state().contender = Contender::Yielding(pause.expect("there is a timer"));
    let entered = enter(&queue, Protocol::Flock, false, false);
    let Enqueued::Queued(ticket) = entered else {
        panic!("{entered:?}");
    };
    eventually("it is answered", || {
        matches!(queue.turn(ticket, Waker::noop()), WaitStatus::Granted)
    });
}
