use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use super::state::Contender;
use super::{Enqueued, Failure, LockQueue, Name, WaitStatus};
use crate::Engine;
use crate::backend::Request;
use crate::lock_path::LockPath;
use crate::options::Options;
use crate::owner::{OwnerId, Requester};
use crate::protocol::Protocol;
use crate::services::Services;
use crate::sync::lock;
use crate::table::Table;
use crate::types::Mode;
use crate::waiter::Outcome;

/// A queue for a file, in an engine of its own with `limit` helper threads.
fn queue(path: &std::path::Path, limit: usize) -> Arc<LockQueue> {
    let lock_path = LockPath::ambient(path, true, true).expect("the file can be created");
    let open_lock = lock_path.open().expect("the file can be opened");
    let key = (open_lock.identity, None);
    let new = |open_lock, entry| LockQueue::new(open_lock, Services::of_test(limit), entry);
    let (queue, _) = Arc::new(Table::default()).get(key, open_lock, |_| true, new);
    queue
}

#[test]
fn a_helpers_error_reaches_the_waiter_it_stands_in_for() {
    let dir = tempfile::tempdir().expect("a directory can be created");
    let path = dir.path().join("lock");
    let request = Request {
        mode: Mode::Exclusive,
        protocol: Protocol::Flock,
        stale_after: None,
    };
    let requester = Requester {
        owner: OwnerId::PROCESS,
        handle: 1,
    };
    let (holder, waiter) = (queue(&path, 0), queue(&path, 1));
    let held = holder.enter(request, requester, None, false, true);
    let Enqueued::Granted(held) = held else {
        panic!("{held:?}");
    };
    let entered = waiter.enter(request, requester, None, true, false);
    let Enqueued::Queued(ticket) = entered else {
        panic!("{entered:?}");
    };
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
    // However slowly this runs, nothing else keeps it from being handed on.
    let engine = || {
        let engine = Engine::builder().hand_off(1000, Duration::from_secs(1));
        engine
            .fairness_pause(Duration::ZERO, Duration::ZERO)
            .build()
    };
    let open = || {
        let options = Options::new().protocol(Protocol::Soft);
        let opened = engine().open_with(dir.path().join("lock"), &options);
        opened.expect("the lock can be opened")
    };
    let (ours, theirs) = (open(), open());
    let guard = ours.acquire(Mode::Exclusive, None).expect("it is free");
    let mut waits = ours.acquire_async(Mode::Exclusive, None);
    let mut is_pending = || {
        let mut context = Context::from_waker(Waker::noop());
        Pin::new(&mut waits).poll(&mut context).is_pending()
    };
    assert!(is_pending());
    let watch = lock(&ours.handle.queue().watch).take();
    assert!(watch.is_some(), "it was watched");
    drop(watch);
    theirs.break_lock().expect("it can be broken");
    let another = theirs.acquire(Mode::Exclusive, None).expect("it is free");
    drop(guard);
    assert!(is_pending());
    another.release().expect("it is held");
}
