//! A clone of a sandbox is a handle on its guest, while that runs or waits.

use std::sync::{Arc, Mutex};

use locket::State;
use locket::sandbox::{Directory, Hooks, Request, Usage};

use super::*;

/// A guest whose lock `busy` another engine holds.
struct Fixture {
    dir: Dir,
    guest: Sandbox,
    _foreign: locket::Guard,
}

impl Fixture {
    fn new() -> Self {
        let dir = Dir::new();
        let foreign = Engine::new().open(dir.path("busy")).unwrap();
        Self {
            guest: guest(&Engine::new(), dir.0.path(), Limits::new()),
            _foreign: foreign.acquire(EX, STUCK).unwrap(),
            dir,
        }
    }

    fn open(&self, name: &str) -> GuestLock {
        open(&self.guest, &format!("/jobs/{name}")).unwrap()
    }

    /// Whether another engine can acquire the lock of a file. A wait that was just canceled may have it
    /// for a moment.
    fn is_free(&self, name: &str) -> bool {
        let lock = Engine::new().open(self.dir.path(name)).unwrap();
        lock.acquire(EX, STUCK).is_ok()
    }
}

/// The parts of a usage that are not files.
fn used(guest: &Sandbox) -> (usize, usize, usize) {
    let Usage {
        handles,
        held,
        waiters,
        ..
    } = guest.usage();
    (handles, held, waiters)
}

fn paths(claims: &[Claim]) -> Vec<&str> {
    claims.iter().map(|claim| claim.path.as_str()).collect()
}

#[test]
fn a_handle_ends_waits_of_threads_and_of_tasks() {
    let fixture = Fixture::new();
    for round in 0..100 {
        let lock = fixture.open("busy");
        // Another lock: a suspended guest that waits behind its own task never gets on.
        let other = fixture.open("other");
        let hold = other.acquire(EX, STUCK).unwrap();
        let mut task = other.acquire_async(EX, None).unwrap();
        assert!(poll(&mut task).is_pending());
        let handle = fixture.guest.clone();
        thread::scope(|scope| {
            let blocked = scope.spawn(|| lock.acquire(EX, None).map(drop));
            // It is listed from the moment at which it can be canceled.
            eventually("both wait", || handle.waits().len() == 2);
            if round % 2 == 0 {
                handle.cancel_waits();
            } else {
                handle.release_all();
            }
            let canceled = blocked.join().unwrap().unwrap_err();
            assert!(canceled.is_canceled(), "{canceled}");
        });
        assert!(block_on(task).unwrap_err().is_canceled());
        drop(hold);
        assert_eq!(used(&fixture.guest), (2, 0, 0));
    }
}

#[test]
fn waits_for_existence_locks_end_too() {
    let fixture = Fixture::new();
    let options = locket::Options::new().protocol(Protocol::Soft);
    let foreign = Engine::new().open_with(fixture.dir.path("soft"), &options);
    let _foreign = foreign.unwrap().acquire(EX, STUCK).unwrap();
    let lock = open_as(&fixture.guest, "soft", Protocol::Soft);
    let handle = fixture.guest.clone();
    thread::scope(|scope| {
        let blocked = scope.spawn(|| lock.acquire(EX, None).map(drop));
        eventually("it waits", || handle.waits().len() == 1);
        handle.cancel_waits();
        assert!(blocked.join().unwrap().unwrap_err().is_canceled());
    });
}

#[test]
fn one_lock_is_revoked_and_others_are_left() {
    let fixture = Fixture::new();
    let (one, two) = (fixture.open("one"), fixture.open("two"));
    let (first, second) = (
        one.acquire(EX, STUCK).unwrap(),
        two.acquire(SH, STUCK).unwrap(),
    );
    let mut own = one.acquire_async(SH, None).unwrap();
    let mut other = fixture.open("busy").acquire_async(EX, None).unwrap();
    assert!(poll(&mut own).is_pending() && poll(&mut other).is_pending());

    let handle = fixture.guest.clone();
    assert!(!handle.revoke("/jobs/none") && !handle.revoke("one"));
    assert!(handle.revoke("/jobs/one"));
    assert!(block_on(own).unwrap_err().is_canceled());
    assert_eq!(one.state(), State::Lost(locket::LostReason::Broken));
    assert!(first.release().unwrap_err().is_lost());
    assert!(fixture.is_free("one"));

    assert_eq!(paths(&handle.holds()), ["/jobs/two"]);
    assert_eq!(paths(&handle.waits()), ["/jobs/busy"]);
    assert!(poll(&mut other).is_pending());
    second.release().unwrap();
    // The lock can be acquired again.
    one.acquire(EX, STUCK).unwrap().release().unwrap();
}

#[test]
fn everything_is_taken_from_a_guest_that_holds_and_waits() {
    let fixture = Fixture::new();
    let (one, two) = (fixture.open("one"), fixture.open("two"));
    let held = one.acquire(EX, STUCK).unwrap();
    two.acquire(SH, STUCK).unwrap().keep();
    let busy = fixture.open("busy");
    let handle = fixture.guest.clone();
    thread::scope(|scope| {
        let blocked = scope.spawn(|| busy.acquire(EX, None).map(drop));
        eventually("it waits", || handle.waits().len() == 1);
        handle.release_all();
        assert!(blocked.join().unwrap().unwrap_err().is_canceled());
    });
    assert!(handle.holds().is_empty() && handle.waits().is_empty());
    assert!(fixture.is_free("one") && fixture.is_free("two"));
    assert!(held.release().unwrap_err().is_lost());
    assert!(two.release().unwrap_err().is_lost());
    assert_eq!(used(&handle), (3, 0, 0));
}

#[test]
fn listings_agree_with_what_was_done() {
    let fixture = Fixture::new();
    let handle = fixture.guest.clone();
    assert_eq!(used(&handle), (0, 0, 0));
    let (one, two) = (fixture.open("one"), fixture.open("two"));
    let shared = one.acquire(SH, STUCK).unwrap();
    let exclusive = two.acquire(EX, STUCK).unwrap();
    let again = one.acquire(SH, STUCK).unwrap();
    assert_eq!(
        paths(&handle.holds()),
        ["/jobs/one", "/jobs/two", "/jobs/one"]
    );
    assert_eq!(handle.holds()[0].mode, SH);
    assert_eq!(handle.holds()[1].mode, EX);
    assert_eq!(handle.holds()[0].protocol, Protocol::Native);
    let permit = one.handle().unwrap();
    let more = permit.extra().unwrap();
    let loss = two.lost().unwrap();
    let mut waits = two.acquire_async(SH, None).unwrap();
    assert!(poll(&mut waits).is_pending());
    // One that has not been polled counts, too.
    let idle = one.acquire_async(EX, None).unwrap();
    assert_eq!(paths(&handle.waits()), ["/jobs/two", "/jobs/one"]);
    assert_eq!(used(&handle), (5, 3, 2));
    assert!(handle.usage().created >= 2);

    // A granted wait counts as one until the guest has seen it.
    exclusive.release().unwrap();
    assert_eq!(used(&handle), (5, 2, 2));
    let granted = block_on(waits).unwrap();
    assert_eq!(used(&handle), (5, 3, 1));
    drop((idle, permit, more, loss, shared, again));
    assert_eq!(used(&handle), (2, 1, 0));
    granted.keep();
    assert_eq!(used(&handle), (2, 1, 0));
    drop((one, two));
    assert_eq!(used(&handle), (0, 0, 0));
    assert!(handle.holds().is_empty() && handle.waits().is_empty());
    assert!(fixture.is_free("one") && fixture.is_free("two"));
}

#[test]
fn a_grant_that_is_added_later_works() {
    let fixture = Fixture::new();
    let handle = fixture.guest.clone();
    assert!(open(&fixture.guest, "/more/lock").unwrap_err().is_denied());
    let more = Dir::new();
    let directory = Directory::open(more.0.path()).unwrap();
    handle.grant(&directory, "/more", Rights::SHARED).unwrap();
    assert!(
        open(&fixture.guest, "/more/lock")
            .unwrap_err()
            .is_not_found()
    );
    fs::write(more.path("lock"), "").unwrap();
    let lock = open(&fixture.guest, "/more/lock").unwrap();
    lock.acquire(SH, STUCK).unwrap().release().unwrap();
    assert!(lock.acquire(EX, STUCK).unwrap_err().is_denied());
    // A later grant of the name counts; a lock that is open keeps its rights.
    handle.grant(&directory, "/more", Rights::LOCKS).unwrap();
    assert!(lock.acquire(EX, STUCK).unwrap_err().is_denied());
    let lock = open(&fixture.guest, "/more/lock").unwrap();
    lock.acquire(EX, STUCK).unwrap().release().unwrap();
}

#[test]
fn what_a_grant_led_to_is_lost_with_it() {
    let fixture = Fixture::new();
    let more = Dir::new();
    let directory = Directory::open(more.0.path()).unwrap();
    let handle = fixture.guest.clone();
    handle.grant(&directory, "/more/", Rights::LOCKS).unwrap();
    let foreign = Engine::new().open(more.path("busy")).unwrap();
    let _foreign = foreign.acquire(EX, STUCK).unwrap();
    let (held, busy) = (
        open(&fixture.guest, "/more/held").unwrap(),
        open(&fixture.guest, "/more/busy").unwrap(),
    );
    let hold = held.acquire(EX, STUCK).unwrap();
    let kept = fixture.open("kept").acquire(EX, STUCK).unwrap();
    let mut task = held.acquire_async(SH, None).unwrap();
    assert!(poll(&mut task).is_pending());
    thread::scope(|scope| {
        let blocked = scope.spawn(|| busy.acquire(EX, None).map(drop));
        eventually("both wait", || handle.waits().len() == 2);
        assert!(handle.revoke_grant("/more"));
        assert!(blocked.join().unwrap().unwrap_err().is_canceled());
    });
    assert!(block_on(task).unwrap_err().is_canceled());
    assert!(hold.release().unwrap_err().is_lost());
    let free = Engine::new().open(more.path("held")).unwrap();
    assert!(free.acquire(EX, STUCK).is_ok());
    // Locks that are open lead nowhere, and no others are opened.
    assert!(held.acquire(SH, STUCK).unwrap_err().is_denied());
    assert!(held.acquire_async(SH, STUCK).unwrap_err().is_denied());
    assert!(open(&fixture.guest, "/more/held").unwrap_err().is_denied());
    assert!(!handle.revoke_grant("/more"));
    kept.release().unwrap();
    fixture.open("kept");
}

/// However a revocation and an acquire meet, nothing is held through the grant afterwards.
#[test]
fn no_acquire_survives_the_revocation_of_its_grant() {
    let dir = Dir::new();
    let directory = Directory::open(dir.0.path()).unwrap();
    let guest = Sandbox::builder(&Engine::new()).build();
    for _ in 0..300 {
        guest.grant(&directory, "/jobs", Rights::LOCKS).unwrap();
        let lock = open(&guest, "/jobs/lock").unwrap();
        let other = open(&guest, "/jobs/lock").unwrap();
        let (lock, other) = (&lock, &other);
        thread::scope(|scope| {
            let run = |lock: &GuestLock| {
                while let Ok(wait) = lock.acquire_async(EX, None) {
                    drop(block_on(wait));
                }
                assert!(lock.acquire(EX, Duration::ZERO).unwrap_err().is_denied());
            };
            scope.spawn(move || run(lock));
            scope.spawn(move || run(other));
            thread::yield_now();
            assert!(guest.revoke_grant("/jobs"));
        });
        assert_eq!(used(&guest), (2, 0, 0));
    }
}

/// Does something once an acquire is admitted.
#[derive(Default)]
struct Meanwhile(Mutex<Option<Box<dyn FnOnce() + Send>>>);

impl Hooks for Meanwhile {
    fn admit(&self, _: &Request<'_>) -> bool {
        let act = self.0.lock().unwrap().take();
        act.into_iter().for_each(|act| act());
        true
    }
}

#[test]
fn what_a_handle_does_reaches_an_acquire_that_has_yet_to_begin() {
    let fixture = Fixture::new();
    let directory = Directory::open(fixture.dir.0.path()).unwrap();
    let hooks = Arc::new(Meanwhile::default());
    let guest = Sandbox::builder(&Engine::new()).hooks(Arc::clone(&hooks) as _);
    let guest = guest.build();
    let acquire = |name: &str, act: fn(&Sandbox)| {
        guest.grant(&directory, "/jobs", Rights::LOCKS).unwrap();
        let lock = open(&guest, &format!("/jobs/{name}")).unwrap();
        let meanwhile = || {
            let handle = guest.clone();
            *hooks.0.lock().unwrap() = Some(Box::new(move || act(&handle)));
        };
        meanwhile();
        let blocked = lock.acquire(EX, STUCK).map(drop);
        guest.grant(&directory, "/jobs", Rights::LOCKS).unwrap();
        let lock = open(&guest, &format!("/jobs/{name}")).unwrap();
        meanwhile();
        let task = block_on(lock.acquire_async(EX, STUCK).unwrap()).map(drop);
        [blocked, task]
    };
    let cancel: fn(&Sandbox) = |guest| guest.cancel_waits();
    let revoke: fn(&Sandbox) = |guest| assert!(guest.revoke_grant("/jobs"));
    for canceled in [acquire("busy", cancel), acquire("busy", revoke)]
        .into_iter()
        .flatten()
    {
        assert!(canceled.unwrap_err().is_canceled());
    }
    // It does not wait.
    assert!(acquire("free", cancel).iter().all(Result::is_ok));
    for refused in acquire("free", revoke) {
        assert!(refused.unwrap_err().is_denied());
    }
    assert!(fixture.is_free("free"));
}

#[test]
fn new_limits_count_at_once() {
    let fixture = Fixture::new();
    let handle = fixture.guest.clone();
    let (one, two) = (fixture.open("one"), fixture.open("two"));
    let hold = one.acquire(SH, STUCK).unwrap();
    handle.set_limits(
        Limits::new()
            .handles(2)
            .held(1)
            .waiters(0)
            .created(2)
            .path_length(9),
    );
    // What is in use stays.
    assert_eq!(used(&handle), (2, 1, 0));
    for refused in [
        two.acquire(SH, STUCK).unwrap_err(),
        fixture.open_anew("one").unwrap_err(),
    ] {
        assert!(refused.is_limit_exceeded(), "{refused}");
    }
    assert!(fixture.open_anew("three").unwrap_err().is_invalid_path());
    hold.release().unwrap();
    let busy = one.acquire(EX, STUCK).unwrap();
    drop(two);
    let another = fixture.open("one");
    handle.set_limits(Limits::new().held(5).waiters(0));
    let waits = another.acquire(EX, STUCK).unwrap_err();
    assert!(waits.is_limit_exceeded(), "{waits}");
    handle.set_limits(Limits::new().created(2));
    let created = fixture.open_anew("three").unwrap_err();
    assert!(created.is_limit_exceeded(), "{created}");
    handle.set_limits(Limits::new());
    let mut waits = another.acquire_async(EX, STUCK).unwrap();
    assert!(poll(&mut waits).is_pending());
    busy.release().unwrap();
    block_on(waits).unwrap().release().unwrap();
    fixture.open("three");
}

impl Fixture {
    fn open_anew(&self, name: &str) -> Result<GuestLock> {
        open(&self.guest, &format!("/jobs/{name}"))
    }
}

#[test]
fn a_host_tells_the_locks_of_its_guests_apart() {
    let fixture = Fixture::new();
    let other = guest(&Engine::new(), fixture.dir.0.path(), Limits::new());
    let lock = fixture.open("one");
    assert!(fixture.guest.opened(&lock) && fixture.guest.clone().opened(&lock));
    assert!(!other.opened(&lock));
}
