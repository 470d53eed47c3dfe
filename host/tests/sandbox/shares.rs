//! Turns that go round among tenants, or follow the order of arrival.

use locket::sandbox::Tenant;

use super::*;

/// Waiters for one lock, in the order of their arrival, and some tenants.
struct Crowd {
    engine: Engine,
    dir: Dir,
    tenants: Vec<Tenant>,
    waits: Vec<Option<GuestAcquire>>,
}

impl Crowd {
    fn new(fair: bool, tenants: usize) -> Self {
        let (engine, dir) = (Engine::builder().fair_shares(fair).build(), Dir::new());
        let tenant = |number| {
            let settings = Sandbox::builder(&engine).label(format!("tenant {number}"));
            let settings = settings.grant_dir(dir.0.path(), "/jobs", Rights::LOCKS);
            Tenant::builder(settings.unwrap()).build()
        };
        Self {
            tenants: (0..tenants).map(tenant).collect(),
            waits: Vec::new(),
            engine,
            dir,
        }
    }

    /// A lock of a new guest of a tenant.
    fn lock(&self, tenant: usize) -> GuestLock {
        open(&self.tenants[tenant].sandbox().build(), "/jobs/lock").unwrap()
    }

    /// A new guest of a tenant begins to wait.
    fn arrives(&mut self, tenant: usize, mode: Mode) {
        let mut wait = self.lock(tenant).acquire_suspended(mode, None).unwrap();
        assert!(poll(&mut wait).is_pending());
        self.waits.push(Some(wait));
    }

    /// Checks that these waiters have the lock next, all at a time, and has them release it.
    fn turn_of(&mut self, next: &[usize]) {
        let mut holds = Vec::new();
        for &index in next {
            let mut wait = self.waits[index].take().unwrap();
            eventually(&format!("{index} has its turn"), || {
                self.nobody_overtakes(next);
                let Poll::Ready(hold) = poll(&mut wait) else {
                    return false;
                };
                holds.push(hold.unwrap());
                true
            });
        }
        self.nobody_overtakes(next);
    }

    fn nobody_overtakes(&mut self, next: &[usize]) {
        for (index, wait) in self.waits.iter_mut().enumerate() {
            let wait = wait.as_mut().filter(|_| !next.contains(&index));
            let waits = wait.is_none_or(|wait| poll(wait).is_pending());
            assert!(waits, "{index} overtook {next:?}");
        }
    }

    fn turns(&mut self, order: impl IntoIterator<Item = usize>) {
        order.into_iter().for_each(|next| self.turn_of(&[next]));
    }

    /// Runs `turns` with waiters that arrived while the lock was held: by this engine, and by
    /// another one.
    fn with_holders(fair: bool, arrivals: &[(usize, Mode)], turns: impl Fn(&mut Self)) {
        let tenants = arrivals.iter().map(|(tenant, _)| tenant + 1).max().unwrap();
        for foreign in [false, true] {
            let mut crowd = Self::new(fair, tenants);
            let holder = if foreign {
                Engine::new()
            } else {
                crowd.engine.clone()
            };
            let held = crowd.dir.lock(&holder).acquire(EX, STUCK).unwrap();
            for &(tenant, mode) in arrivals {
                crowd.arrives(tenant, mode);
            }
            drop(held);
            turns(&mut crowd);
            assert!(crowd.waits.iter().all(Option::is_none));
        }
    }
}

#[test]
fn a_hundred_waits_of_one_tenant_put_another_at_the_second_place() {
    let mut arrivals = vec![(0, EX); 100];
    arrivals.push((1, EX));
    Crowd::with_holders(true, &arrivals, |crowd| {
        crowd.turns([0, 100]);
        crowd.turns(1..100);
    });
}

#[test]
fn without_fair_shares_turns_follow_arrival() {
    let mut arrivals = vec![(0, EX); 50];
    arrivals.push((1, EX));
    Crowd::with_holders(false, &arrivals, |crowd| crowd.turns(0..51));
}

#[test]
fn turns_go_round_and_each_tenant_keeps_its_order() {
    let arrivals = [0, 0, 1, 0, 2, 1, 1, 0, 2].map(|tenant| (tenant, EX));
    Crowd::with_holders(true, &arrivals, |crowd| {
        crowd.turns([0, 2, 4, 1, 5, 8, 3, 6, 7]);
    });
}

#[test]
fn readers_share_their_round() {
    let arrivals = [
        (0, EX),
        (0, EX),
        (0, SH),
        (1, SH),
        (2, SH),
        (1, SH),
        (2, EX),
    ];
    Crowd::with_holders(true, &arrivals, |crowd| {
        crowd.turn_of(&[0]);
        crowd.turn_of(&[3, 4]);
        // The second round begins with a writer, so its reader overtook no waiter.
        crowd.turn_of(&[1]);
        crowd.turn_of(&[5]);
        crowd.turn_of(&[6]);
        crowd.turn_of(&[2]);
    });
}

#[test]
fn a_newcomer_comes_after_the_head_only() {
    let mut crowd = Crowd::new(true, 3);
    let held = crowd.dir.lock(&crowd.engine).acquire(EX, STUCK).unwrap();
    for _ in 0..5 {
        crowd.arrives(0, EX);
    }
    drop(held);
    crowd.turns([0, 1]);
    // While 2 has the lock without having seen it, 3 is the head.
    crowd.arrives(1, EX);
    crowd.arrives(2, EX);
    crowd.arrives(1, EX);
    crowd.turns([2, 3, 5, 6, 4, 7]);
}

#[test]
fn a_wait_that_is_given_up_costs_no_turn() {
    let mut crowd = Crowd::new(true, 2);
    let held = crowd.dir.lock(&crowd.engine).acquire(EX, STUCK).unwrap();
    for _ in 0..20 {
        crowd.arrives(0, EX);
    }
    for _ in 0..50 {
        let impatient = crowd.lock(1).acquire_async(EX, None);
        assert!(poll(&mut impatient.unwrap()).is_pending());
    }
    crowd.arrives(1, EX);
    drop(held);
    crowd.turns([0, 20]);
    crowd.turns(1..20);
}

#[test]
fn a_guest_without_a_tenant_and_the_process_are_tenants_of_their_own() {
    let mut crowd = Crowd::new(true, 1);
    let lock = crowd.dir.lock(&crowd.engine);
    let held = lock.acquire(EX, STUCK).unwrap();
    for _ in 0..5 {
        crowd.arrives(0, EX);
    }
    let process = pending(&lock, EX);
    for _ in 0..2 {
        let alone = guest(&crowd.engine, crowd.dir.0.path(), Limits::new());
        let wait = open(&alone, "/jobs/lock")
            .unwrap()
            .acquire_suspended(EX, None);
        let mut wait = wait.unwrap();
        assert!(poll(&mut wait).is_pending());
        crowd.waits.push(Some(wait));
    }
    drop(held);
    crowd.turn_of(&[0]);
    drop(block_on(process).unwrap());
    crowd.turns([5, 6, 1, 2, 3, 4]);
}

#[test]
fn threads_have_their_turns_like_tasks() {
    const THREADS: usize = 10;
    let crowd = Crowd::new(true, 2);
    let held = crowd.dir.lock(&crowd.engine).acquire(EX, STUCK).unwrap();
    let order = std::sync::Mutex::new(Vec::new());
    thread::scope(|scope| {
        for number in 0..=THREADS {
            let lock = crowd.lock(usize::from(number == THREADS));
            let order = &order;
            scope.spawn(move || {
                let hold = lock.acquire(EX, None).unwrap();
                order.lock().unwrap().push(number);
                drop(hold);
            });
            eventually("it waits", || {
                crowd.engine.snapshot().locks[0].waiters.len() == number + 1
            });
        }
        drop(held);
    });
    let order = order.into_inner().unwrap();
    assert_eq!(order, [0, 10, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
}

#[test]
fn a_lock_promises_the_order_of_arrival_unless_shares_are_fair() {
    for fair in [false, true] {
        let crowd = Crowd::new(fair, 1);
        assert_eq!(crowd.lock(0).guarantee().fifo, !fair);
        assert_eq!(crowd.dir.lock(&crowd.engine).guarantee().fifo, !fair);
    }
}
