//! What the host is told of its guests, and when.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use locket::sandbox::{Hooks, Request, SandboxBuilder, Tenant};
use locket::{Error, LostReason};

use super::*;

/// Counts everything, and looks at the guest each time.
#[derive(Default)]
struct Metrics {
    admitted: AtomicUsize,
    waiting: AtomicUsize,
    acquired: AtomicUsize,
    refused: AtomicUsize,
    not_opened: AtomicUsize,
    abandoned: AtomicUsize,
    released: AtomicUsize,
    lost: AtomicUsize,
    guest: OnceLock<(Sandbox, Tenant)>,
}

impl Metrics {
    fn count(&self, number: &AtomicUsize, request: &Request<'_>) {
        number.fetch_add(1, Ordering::SeqCst);
        assert_eq!(request.label, Some("guest"));
        assert!(request.path.starts_with("/jobs/"));
        if let Some((guest, tenant)) = self.guest.get() {
            let _ = (guest.holds(), guest.waits(), guest.usage(), tenant.usage());
        }
    }
}

impl Hooks for Metrics {
    fn admit(&self, request: &Request<'_>) -> bool {
        self.count(&self.admitted, request);
        request.path != "/jobs/forbidden"
    }

    fn waiting(&self, request: &Request<'_>) {
        self.count(&self.waiting, request);
    }

    fn acquired(&self, request: &Request<'_>, _: Duration) {
        self.count(&self.acquired, request);
    }

    fn refused(&self, request: &Request<'_>, _: &Error) {
        let kind = match request.mode {
            Some(_) => &self.refused,
            None => &self.not_opened,
        };
        self.count(kind, request);
    }

    fn abandoned(&self, request: &Request<'_>, _: Duration) {
        self.count(&self.abandoned, request);
    }

    fn released(&self, request: &Request<'_>, _: Duration) {
        self.count(&self.released, request);
    }

    fn lost(&self, request: &Request<'_>, _: LostReason, _: Duration) {
        self.count(&self.lost, request);
    }
}

fn now(number: &AtomicUsize) -> usize {
    number.load(Ordering::SeqCst)
}

/// A guest whose host counts, and that knows `dir` as `/jobs`.
fn counted(engine: &Engine, dir: &Dir, limits: Limits) -> (SandboxBuilder, Arc<Metrics>) {
    let metrics = Arc::new(Metrics::default());
    let guest = Sandbox::builder(engine).label("guest").limits(limits);
    let guest = guest.hooks(Arc::clone(&metrics) as _);
    (
        guest.grant_dir(dir.0.path(), "/jobs", Rights::ALL).unwrap(),
        metrics,
    )
}

#[test]
fn a_wait_is_told_once_and_only_if_there_is_one() {
    let dir = Dir::new();
    let (guest, metrics) = counted(&Engine::new(), &dir, Limits::new().waiters(2));
    let guest = guest.build();
    let lock = open(&guest, "/jobs/lock").unwrap();
    let hold = lock.acquire(EX, STUCK).unwrap();
    assert!(lock.acquire(EX, Duration::ZERO).is_err());
    assert!(lock.acquire(EX, STUCK).unwrap_err().is_deadlock());
    drop(lock.acquire_async(EX, None).unwrap());
    assert_eq!(now(&metrics.waiting), 0);

    let mut task = lock.acquire_async(EX, None).unwrap();
    for _ in 0..3 {
        assert!(poll(&mut task).is_pending());
    }
    assert_eq!(now(&metrics.waiting), 1);
    let mut other = lock.acquire_async(SH, None).unwrap();
    assert!(poll(&mut other).is_pending());
    // Beyond the limit, there is one try.
    assert!(lock.acquire(EX, STUCK).unwrap_err().is_limit_exceeded());
    drop(other);
    assert_eq!(now(&metrics.waiting), 2);

    let foreign = Engine::new().open(dir.path("busy")).unwrap();
    let foreign = foreign.acquire(EX, STUCK).unwrap();
    let busy = open(&guest, "/jobs/busy").unwrap();
    thread::scope(|scope| {
        let thread = scope.spawn(|| busy.acquire(EX, None).map(drop));
        eventually("it is told", || now(&metrics.waiting) == 3);
        drop(foreign);
        thread.join().unwrap().unwrap();
    });
    drop(hold);
    drop(block_on(task).unwrap());
    assert_eq!(now(&metrics.waiting), 3);
    assert_eq!(now(&metrics.abandoned), 2);
    assert_eq!(now(&metrics.acquired), 3);
    assert_eq!(now(&metrics.released), 3);
    assert_eq!(now(&metrics.refused), 3);
}

#[test]
fn a_loss_is_told_when_it_happens_and_no_release_after_it() {
    let dir = Dir::new();
    let limits = Limits::new().longest_hold(Some(Duration::from_millis(20)));
    let (expiring, expired) = counted(&Engine::new(), &dir, limits);
    let engine = Engine::new();
    let (guest, metrics) = counted(&engine, &dir, Limits::new());
    let (expiring, guest) = (expiring.build(), guest.build());

    let hold = open(&expiring, "/jobs/a")
        .unwrap()
        .acquire(EX, STUCK)
        .unwrap();
    eventually("it expires", || now(&expired.lost) == 1);
    assert!(hold.release().unwrap_err().is_lost());

    let by_the_host = || engine.break_lock(dir.path("a")).map(drop).unwrap();
    let by_itself = || guest.break_lock("/jobs/a").unwrap();
    let ways: [&dyn Fn(); 4] = [
        &by_the_host,
        &by_itself,
        &|| assert!(guest.revoke("/jobs/a")),
        &|| guest.release_all(),
    ];
    for (way, number) in ways.iter().zip(1..) {
        let hold = open(&guest, "/jobs/a").unwrap().acquire(EX, STUCK).unwrap();
        way();
        assert_eq!(now(&metrics.lost), number);
        drop(hold);
    }
    // What only the release finds out.
    let lock = open(&guest, "/jobs/moved").unwrap();
    let hold = lock.acquire(EX, STUCK).unwrap();
    fs::rename(dir.path("moved"), dir.path("elsewhere")).unwrap();
    assert!(hold.release().unwrap_err().is_lost());
    let told = [(&metrics, 5), (&expired, 1)];
    for (metrics, losses) in told {
        assert_eq!(now(&metrics.acquired), losses);
        assert_eq!((now(&metrics.lost), now(&metrics.released)), (losses, 0));
    }
}

#[test]
fn the_host_decides_what_is_acquired() {
    let dir = Dir::new();
    let (guest, metrics) = counted(&Engine::new(), &dir, Limits::new());
    let guest = guest.build();
    let lock = open(&guest, "/jobs/forbidden").unwrap();
    assert!(lock.acquire(EX, STUCK).unwrap_err().is_denied());
    assert!(lock.acquire_async(SH, STUCK).unwrap_err().is_denied());
    assert!(lock.acquire_suspended(SH, STUCK).unwrap_err().is_denied());
    assert!(!lock.is_locked().unwrap());
    assert_eq!((now(&metrics.admitted), now(&metrics.refused)), (3, 3));
    assert!(guest.open("/jobs/a/..", None, OnRelease::Keep).is_err());
    assert_eq!((now(&metrics.not_opened), now(&metrics.refused)), (1, 3));
}

/// What came of the acquires of one thread, as it saw it.
#[derive(Debug, Default, Eq, PartialEq)]
struct Seen {
    acquired: usize,
    refused: usize,
    abandoned: usize,
}

/// Numbers by chance, from a seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// Acquires in all ways, and ends waits and holds in all ways.
fn mix(seed: u64, engine: &Engine, dir: &Dir, guest: &Sandbox) -> Seen {
    let mut chance = Chance(seed);
    let mut seen = Seen::default();
    let mut holds = Vec::new();
    for _ in 0..400 {
        let name = ["a", "b", "c", "forbidden"][usize::try_from(chance.below(4)).unwrap()];
        let protocol = [Protocol::Native, Protocol::Soft][usize::from(chance.below(6) == 0)];
        // One that is already the lock of the other protocol is left alone.
        let name = format!("{name}-{protocol}");
        let lock = open_as(
            guest,
            if name.starts_with('f') {
                "forbidden"
            } else {
                &name
            },
            protocol,
        );
        let mode = [EX, SH][usize::from(chance.below(3) == 0)];
        let timeout = Duration::from_micros(chance.below(2) * chance.below(3000));
        let result = if chance.below(2) == 0 {
            lock.acquire(mode, timeout)
        } else {
            match lock.acquire_async(mode, timeout) {
                Err(e) => Err(e),
                Ok(mut wait) => {
                    let at_once = (chance.below(4) > 0).then(|| poll(&mut wait));
                    match at_once {
                        Some(Poll::Ready(result)) => result,
                        _ if chance.below(3) == 0 => {
                            seen.abandoned += 1;
                            drop(wait);
                            continue;
                        }
                        _ => block_on(wait),
                    }
                }
            }
        };
        match result {
            Err(_) => seen.refused += 1,
            Ok(hold) => {
                seen.acquired += 1;
                match chance.below(5) {
                    0 => drop(hold),
                    1 => drop(hold.release()),
                    2 => hold.keep(),
                    3 => {
                        hold.keep();
                        let _ = lock.release();
                    }
                    _ => holds.push(hold),
                }
            }
        }
        match chance.below(30) {
            0 => drop(engine.break_lock(dir.path(&name))),
            1 => drop(guest.break_lock(&format!("/jobs/{name}"))),
            2 => drop(guest.revoke(&format!("/jobs/{name}"))),
            3 => guest.release_all(),
            4 => guest.cancel_waits(),
            5..9 => holds.clear(),
            _ => {}
        }
    }
    seen
}

#[test]
fn the_numbers_add_up() {
    let dir = Dir::new();
    let engine = Engine::new();
    let limits = Limits::new().held(6).waiters(3).handles(1000);
    let limits = limits.longest_hold(Some(Duration::from_millis(1)));
    let (settings, metrics) = counted(&engine, &dir, limits);
    let tenant = Tenant::builder(settings)
        .limits(Limits::new().handles(1000))
        .build();
    let guest = tenant.sandbox().build();
    let looked_at = (guest.clone(), tenant.clone());
    assert!(metrics.guest.set(looked_at).is_ok());
    let seen = thread::scope(|scope| {
        let threads = [1_u64, 2, 3, 4].map(|seed| {
            let (engine, dir, guest) = (&engine, &dir, &guest);
            scope.spawn(move || mix(seed * 0x9e37_79b9, engine, dir, guest))
        });
        threads.map(|thread| thread.join().unwrap())
    });
    let sum = |count: fn(&Seen) -> usize| seen.iter().map(count).sum::<usize>();
    println!("{seen:?}");
    let told = Seen {
        acquired: now(&metrics.acquired),
        refused: now(&metrics.refused),
        abandoned: now(&metrics.abandoned),
    };
    let seen = Seen {
        acquired: sum(|seen| seen.acquired),
        refused: sum(|seen| seen.refused),
        abandoned: sum(|seen| seen.abandoned),
    };
    assert_eq!(told, seen);
    let acquires = seen.acquired + seen.refused + seen.abandoned;
    assert_eq!(now(&metrics.admitted), acquires);
    let (released, lost) = (now(&metrics.released), now(&metrics.lost));
    println!("released {released}, lost {lost}");
    assert_eq!(released + lost, seen.acquired);
    assert!(released > 0 && lost > 0 && seen.refused > 0 && seen.abandoned > 0);
    assert_eq!((tenant.usage().handles, tenant.usage().held), (0, 0));
}
