//! What the guests of a tenant share: limits, and their owner if they have one.

use std::array;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use locket::State;
use locket::sandbox::{Hooks, Request, Tenant, TenantBuilder, Usage};

use super::*;

const GUESTS: usize = 20;

/// A tenant that knows `dir` as `/jobs`, and may do as much as it likes.
fn tenant(dir: &Dir) -> TenantBuilder {
    let limits = Limits::new().handles(100).held(100).waiters(100);
    let settings = Sandbox::builder(&Engine::new())
        .label("tenant")
        .limits(limits);
    Tenant::builder(
        settings
            .grant_dir(dir.0.path(), "/jobs", Rights::ALL)
            .unwrap(),
    )
}

fn limited(dir: &Dir, limits: Limits) -> Tenant {
    tenant(dir).limits(limits).build()
}

/// Limits of a tenant that has enough of everything.
fn enough() -> Limits {
    Limits::new().handles(1000).held(1000).waiters(1000)
}

fn guests(tenant: &Tenant) -> [Sandbox; GUESTS] {
    array::from_fn(|_| tenant.sandbox().build())
}

fn files(guests: &[Sandbox]) -> Vec<GuestLock> {
    let open = |(guest, file): (_, usize)| open(guest, &format!("/jobs/{file}")).unwrap();
    guests.iter().zip(0..).map(open).collect()
}

fn used(tenant: &Tenant) -> (usize, usize, usize) {
    let Usage {
        handles,
        held,
        waiters,
        ..
    } = tenant.usage();
    (handles, held, waiters)
}

/// Splits results into what was allowed and how many were beyond the limit.
fn within<T>(results: impl IntoIterator<Item = Result<T>>) -> (Vec<T>, usize) {
    let (mut allowed, mut beyond) = (Vec::new(), 0);
    for result in results {
        match result {
            Ok(one) => allowed.push(one),
            Err(e) => {
                assert!(e.is_limit_exceeded(), "{e}");
                beyond += 1;
            }
        }
    }
    (allowed, beyond)
}

#[test]
fn holds_of_all_guests_count() {
    let dir = Dir::new();
    let tenant = limited(&dir, enough().held(5));
    let guests = guests(&tenant);
    let locks = files(&guests);
    let acquire = || within(locks.iter().map(|lock| lock.acquire(EX, STUCK)));
    let (mut holds, beyond) = acquire();
    assert_eq!((holds.len(), beyond), (5, 15));
    assert_eq!(used(&tenant), (20, 5, 0));
    holds.remove(0).release().unwrap();
    drop(holds.remove(0));
    // The first two are free again, and the fifth is the last one that is held.
    let (more, beyond) = within(locks[5..].iter().map(|lock| lock.acquire(EX, STUCK)));
    assert_eq!((more.len(), beyond), (2, 13));
    drop((more, holds));
    assert_eq!(used(&tenant), (20, 0, 0));
    // Both kinds of limits count: that of each guest, too.
    tenant.set_limits(None);
    guests[0].set_limits(Limits::new().held(0));
    let (holds, beyond) = acquire();
    assert_eq!((holds.len(), beyond), (19, 1));
}

#[test]
fn lost_holds_do_not_count() {
    let dir = Dir::new();
    let tenant = limited(&dir, enough().held(1));
    let guests = guests(&tenant);
    let locks = files(&guests);
    let mut lost = Vec::new();
    for (guest, lock) in guests.iter().zip(&locks) {
        let hold = lock.acquire(EX, STUCK).unwrap();
        let more = locks[0].acquire(SH, Duration::ZERO).unwrap_err();
        assert!(more.is_limit_exceeded(), "{more}");
        assert_eq!(used(&tenant).1, 1);
        guest.release_all();
        assert_eq!(used(&tenant).1, 0);
        lost.push(hold);
    }
    // Nor do they when they are given back.
    let hold = locks[0].acquire(EX, STUCK).unwrap();
    for lost in lost {
        assert!(lost.release().unwrap_err().is_lost());
    }
    assert_eq!(used(&tenant).1, 1);
    drop(hold);
    assert_eq!(used(&tenant).1, 0);
}

/// An acquire that fails does not stand in the way of another one for a moment.
#[test]
fn a_try_takes_nothing_from_the_limit() {
    let dir = Dir::new();
    let tenant = limited(&dir, enough().held(1));
    let [one, other, ..] = guests(&tenant);
    let busy = Engine::new().open(dir.path("busy")).unwrap();
    let _busy = busy.acquire(EX, STUCK).unwrap();
    let tried = open(&one, "/jobs/busy").unwrap();
    let free = open(&other, "/jobs/free").unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                // Beyond the limit while the other one holds its lock.
                let refused = tried.acquire(EX, Duration::ZERO).unwrap_err();
                assert!(refused.is_would_block() || refused.is_limit_exceeded());
            }
        });
        let failed = (0..3000).find_map(|_| free.acquire(EX, STUCK).err());
        done.store(true, Ordering::Relaxed);
        assert!(failed.is_none(), "{failed:?}");
    });
}

#[test]
fn waits_of_all_guests_count() {
    let dir = Dir::new();
    let tenant = limited(&dir, enough().waiters(3));
    let guests = guests(&tenant);
    let foreign = dir.lock(&Engine::new()).acquire(EX, STUCK).unwrap();
    let locks = guests
        .each_ref()
        .map(|guest| open(guest, "/jobs/lock").unwrap());
    let mut waits: Vec<_> = locks
        .iter()
        .map(|lock| lock.acquire_suspended(EX, None).unwrap())
        .collect();
    let beyond = waits.iter_mut().filter_map(|wait| match poll(wait) {
        Poll::Ready(result) => Some(result.unwrap_err()),
        Poll::Pending => None,
    });
    let beyond: Vec<_> = beyond.collect();
    assert_eq!(beyond.len(), GUESTS - 3);
    assert!(beyond.iter().all(locket::Error::is_limit_exceeded));
    assert_eq!(used(&tenant).2, 3);
    // A free lock takes no wait.
    let free = open(&guests[19], "/jobs/free").unwrap();
    free.acquire(EX, STUCK).unwrap().release().unwrap();
    tenant.cancel_waits();
    waits.truncate(3);
    for wait in waits {
        assert!(block_on(wait).unwrap_err().is_canceled());
    }
    drop(foreign);
    assert_eq!(used(&tenant), (21, 0, 0));
}

#[test]
fn handles_of_all_guests_count() {
    let dir = Dir::new();
    let tenant = limited(&dir, enough().handles(6));
    let guests = guests(&tenant);
    let (mut locks, beyond) = within(guests.iter().map(|guest| open(guest, "/jobs/lock")));
    assert_eq!((locks.len(), beyond), (6, 14));
    assert!(locks[0].handle().unwrap_err().is_limit_exceeded());
    // What cannot fail goes up to twice the limit.
    let (losses, beyond) = within((0..10).map(|_| locks[0].lost()));
    assert_eq!((losses.len(), beyond), (6, 4));
    assert_eq!(used(&tenant).0, 12);
    drop(losses);
    locks.pop();
    let permit = locks[0].handle().unwrap();
    assert_eq!(used(&tenant).0, 6);
    drop((permit, locks));
    assert_eq!(used(&tenant).0, 0);
}

#[test]
fn created_files_of_all_guests_count() {
    let dir = Dir::new();
    fs::write(dir.path("old"), "").unwrap();
    let tenant = limited(&dir, enough().created(4));
    let guests = guests(&tenant);
    let create = |file: usize| open(&guests[file], &format!("/jobs/{file}"));
    let (locks, beyond) = within((0..GUESTS).map(create));
    assert_eq!((locks.len(), beyond), (4, 16));
    assert_eq!(tenant.usage().created, 4);
    open(&guests[7], "/jobs/old").unwrap();
    open(&guests[7], "/jobs/0").unwrap();
    // A guest that is gone leaves its files.
    drop(locks);
    drop(guests.map(|guest| open(&guest, "/jobs/0").unwrap()));
    let another = tenant.sandbox().build();
    assert!(open(&another, "/jobs/new").unwrap_err().is_limit_exceeded());
    fs::remove_file(dir.path("2")).unwrap();
    open(&another, "/jobs/new").unwrap();
    assert!(
        open(&another, "/jobs/newer")
            .unwrap_err()
            .is_limit_exceeded()
    );
    // Without a limit, what the host keeps of created files does not grow.
    tenant.set_limits(None);
    open(&another, "/jobs/newer").unwrap();
    assert_eq!(tenant.usage().created, 4);
}

/// The guests of a tenant that the host no longer has, in every state in which it can leave them.
#[test]
fn nothing_of_a_guest_that_is_gone_counts() {
    let dir = Dir::new();
    let tenant = limited(&dir, enough());
    let busy = Engine::new().open(dir.path("busy")).unwrap();
    let _busy = busy.acquire(EX, STUCK).unwrap();
    let lock = |guest: &Sandbox, name: &str| open(guest, &format!("/jobs/{name}")).unwrap();
    let states: [(&str, &dyn Fn(Sandbox)); 10] = [
        ("a hold", &|guest| {
            drop(lock(&guest, "a").acquire(EX, STUCK).unwrap());
        }),
        ("a lost hold", &|guest| {
            let hold = lock(&guest, "a").acquire(EX, STUCK).unwrap();
            guest.release_all();
            drop((guest, hold));
        }),
        ("a hold that is kept", &|guest| {
            let lock = lock(&guest, "a");
            lock.acquire(EX, STUCK).unwrap().keep();
            drop((guest, lock));
        }),
        ("a hold that is kept and lost", &|guest| {
            let lock = lock(&guest, "a");
            lock.acquire(EX, STUCK).unwrap().keep();
            guest.release_all();
            drop((guest, lock));
        }),
        ("a wait", &|guest| {
            let mut wait = lock(&guest, "busy").acquire_async(EX, None).unwrap();
            assert!(poll(&mut wait).is_pending());
            drop((guest, wait));
        }),
        ("a wait that has yet to begin", &|guest| {
            drop(lock(&guest, "busy").acquire_async(EX, None).unwrap());
        }),
        ("a wait that is canceled", &|guest| {
            let mut wait = lock(&guest, "busy").acquire_async(EX, None).unwrap();
            assert!(poll(&mut wait).is_pending());
            guest.cancel_waits();
            drop((wait, guest));
        }),
        ("a grant that the guest has not seen", &|guest| {
            let lock = lock(&guest, "a");
            let hold = lock.acquire(EX, STUCK).unwrap();
            let mut wait = lock.acquire_async(EX, None).unwrap();
            assert!(poll(&mut wait).is_pending());
            drop(hold);
            drop((wait, guest));
        }),
        ("a timeout", &|guest| {
            let short = Duration::from_millis(1);
            assert!(
                lock(&guest, "busy")
                    .acquire(EX, short)
                    .unwrap_err()
                    .is_timeout()
            );
        }),
        ("a loss, a permit and a call", &|guest| {
            let lock = lock(&guest, "a");
            let other = tenant.sandbox().build();
            let call = guest.calls(&other).unwrap();
            drop((lock.lost(), lock.handle(), guest, other, lock, call));
        }),
    ];
    for (state, leave) in states {
        leave(tenant.sandbox().build());
        assert_eq!(used(&tenant), (0, 0, 0), "{state}");
        assert!(tenant.guests().is_empty(), "{state}");
        let free = Engine::new().open(dir.path("a")).unwrap();
        assert!(free.acquire(EX, STUCK).is_ok(), "{state}");
    }
}

#[test]
fn a_tenant_that_owns_its_locks_lets_any_guest_release_them() {
    let dir = Dir::new();
    let tenant = tenant(&dir).limits(enough().held(1)).one_owner().build();
    let told = Arc::new(Releases::default());
    let one = tenant.sandbox().hooks(Arc::clone(&told) as _).build();
    let other = tenant.sandbox().build();
    let stranger = guest(&Engine::new(), dir.0.path(), Limits::new());
    let [first, second, third] =
        [&one, &other, &stranger].map(|guest| open(guest, "/jobs/lock").unwrap());
    let hold = first.acquire(EX, STUCK).unwrap();
    assert_eq!(second.state(), State::Held);
    assert!(second.holder().unwrap().unwrap().is_self);
    assert!(third.release().unwrap_err().is_not_owner());
    second.release().unwrap();
    // The guest that acquired it has nothing any more, nothing counts, and the host knows.
    assert_eq!(told.0.load(Ordering::SeqCst), 1);
    assert!(one.holds().is_empty());
    assert_eq!((one.usage().held, used(&tenant).1), (0, 0));
    assert!(third.acquire(EX, STUCK).is_ok());
    second.acquire(EX, STUCK).unwrap().release().unwrap();
    assert!(hold.release().unwrap_err().is_not_locked());
    assert_eq!(told.0.load(Ordering::SeqCst), 1);
}

#[derive(Default)]
struct Releases(AtomicUsize);

impl Hooks for Releases {
    fn released(&self, _: &Request<'_>, _: Duration) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn a_tenant_that_owns_its_locks_is_never_told_of_a_deadlock() {
    let dir = Dir::new();
    let tenant = tenant(&dir).one_owner().build();
    let [one, other, ..] = guests(&tenant);
    let [first, second] = [&one, &other].map(|guest| open(guest, "/jobs/lock").unwrap());
    let hold = first.acquire(EX, STUCK).unwrap();
    let call = one.calls(&other).unwrap();
    let mut own = first.acquire_suspended(EX, None).unwrap();
    let mut others = second.acquire_suspended(EX, None).unwrap();
    assert!(poll(&mut own).is_pending() && poll(&mut others).is_pending());
    second.release().unwrap();
    drop(block_on(own).unwrap());
    drop((block_on(others).unwrap(), hold, call));
}

#[test]
fn everything_is_taken_from_all_guests_of_a_tenant() {
    for one_owner in [false, true] {
        let dir = Dir::new();
        let tenant = tenant(&dir);
        let tenant = if one_owner {
            tenant.one_owner()
        } else {
            tenant
        }
        .build();
        let guests = guests(&tenant);
        let locks = files(&guests);
        let holds = locks.iter().map(|lock| lock.acquire(EX, STUCK).unwrap());
        let holds: Vec<_> = holds.collect();
        let mut waits = guests.each_ref().map(|guest| {
            let lock = open(guest, "/jobs/0").unwrap();
            lock.acquire_async(EX, None).unwrap()
        });
        assert!(waits.iter_mut().all(|wait| poll(wait).is_pending()));
        assert_eq!(tenant.guests().len(), GUESTS);
        assert_eq!(used(&tenant), (40 - GUESTS, GUESTS, GUESTS));
        tenant.release_all();
        assert_eq!(used(&tenant).1, 0);
        for wait in waits {
            assert!(block_on(wait).unwrap_err().is_canceled());
        }
        for hold in holds {
            assert!(hold.release().unwrap_err().is_lost());
        }
        assert_eq!(used(&tenant), (GUESTS, 0, 0));
    }
}
