//! The tenant that must not notice the other, and how it fares.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use locket::{Engine, Mode};
use locket_tests::harness::Host;
use tokio::runtime;
use tokio::task::JoinSet;

use super::machine::{Machine, delay};
use super::{KERNEL, NAMED, open};
use crate::attacks::support::attacker::{Attacker, Call, INDEFINITELY};
use crate::attacks::support::stop::Stop;
use crate::attacks::{hold, in_runtime, millis};
use crate::stage::{Outcome, percentile};

/// How long each of its waits is, in milliseconds.
const WAIT: u32 = 100;

/// How much later than that, and than the machine itself, it may end.
const LATE: Duration = Duration::from_millis(50);

/// The second tenant.
pub(in crate::attacks) struct SecondTenant {
    /// In the engine of the first one, with a directory of its own.
    host: Host,
    /// Of an engine that the first one has nothing to do with: what becomes slow there as well is not
    /// the fault of the engine.
    elsewhere: Host,
}

/// How it fared.
#[derive(Debug, Default)]
pub(in crate::attacks) struct Observed {
    /// How late its waits ended, and how late the machine was at the same time.
    waits: Vec<(Duration, Duration)>,
    /// How long an acquire of a free lock took: in its own engine, and elsewhere.
    own: Vec<Duration>,
    elsewhere: Vec<Duration>,
}

/// What that comes to.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::attacks) struct Figures {
    /// The wait that ended latest, compared with the machine, which is the second.
    wait: (Duration, Duration),
    /// Within what 99 % of free locks were had.
    pub(in crate::attacks) own: Option<Duration>,
    elsewhere: Option<Duration>,
}

impl Observed {
    /// A wait ends in time, and a free lock is had within three times what is `usual`. Neither can be
    /// asked of a machine that is slow itself.
    pub(in crate::attacks) fn check(
        mut self,
        outcome: &mut Outcome,
        during: &str,
        usual: Option<Duration>,
    ) -> Figures {
        outcome.did("waits by another tenant", self.waits.len() as u64);
        outcome.did("acquires of free locks by it", self.own.len() as u64);
        let beyond = |(late, machine): &(Duration, Duration)| late.saturating_sub(*machine);
        let wait = self.waits.iter().max_by_key(|wait| beyond(wait));
        let wait = wait.copied().unwrap_or((Duration::MAX, Duration::ZERO));
        outcome.must(beyond(&wait) <= LATE, || {
            let late = self.waits.iter().filter(|wait| beyond(wait) > LATE).count();
            format!(
                "{during}: {late} of {} waits ended late, one by {:?}, when the machine was by {:?}",
                self.waits.len(),
                wait.0,
                wait.1
            )
        });
        // On a machine that is always late nothing has been shown.
        let in_time = self.waits.iter().filter(|(_, machine)| *machine < LATE);
        outcome.must(in_time.count() * 2 > self.waits.len(), || {
            format!("{during}: the machine was late for most of the waits")
        });
        let own = percentile(&mut self.own, 99);
        let elsewhere = percentile(&mut self.elsewhere, 99);
        let most = usual.max(elsewhere).map(|usual| usual * 3);
        outcome.must(own.is_some() && own <= most, || {
            format!(
                "{during}: 99 % of free locks were had within {own:?}, usually within {usual:?}, and \
                 in another engine within {elsewhere:?}"
            )
        });
        Figures {
            wait,
            own,
            elsewhere,
        }
    }
}

/// The most that came up, and during what.
#[derive(Debug, Default)]
pub(super) struct Worst {
    wait: (Figures, String),
    own: (Figures, String),
}

impl Worst {
    pub(super) fn take(&mut self, figures: Figures, during: &str) {
        let beyond = |figures: &Figures| figures.wait.0.saturating_sub(figures.wait.1);
        if beyond(&figures) > beyond(&self.wait.0) {
            self.wait = (figures, during.to_owned());
        }
        if figures.own > self.own.0.own {
            self.own = (figures, during.to_owned());
        }
    }

    pub(super) fn report(&self, outcome: &mut Outcome) {
        let (Figures { wait, .. }, during) = &self.wait;
        let (late, machine) = (millis(Some(wait.0)), millis(Some(wait.1)));
        let figure = format!("{late}, the machine by {machine} ({during})");
        outcome.measured("a wait ended late by at most", figure);
        let (Figures { own, elsewhere, .. }, during) = &self.own;
        let (own, elsewhere) = (millis(*own), millis(*elsewhere));
        let figure = format!("{own}, in another engine {elsewhere} ({during})");
        outcome.measured("99th percentile of free locks at worst", figure);
    }
}

impl SecondTenant {
    pub(in crate::attacks) fn beside(first: &Host) -> Self {
        let host = Host {
            locks: first.locks.clone(),
            ..Host::new()
        };
        Self {
            host,
            elsewhere: Host::new(),
        }
    }

    /// Looks at how it fares for as long as something takes.
    pub(in crate::attacks) fn watch<T>(&self, act: impl FnOnce() -> T) -> Result<(Observed, T)> {
        let stop = Arc::new(Stop::default());
        let (seen, waiter) = (Stop::default(), AtomicU32::new(0));
        thread::scope(|scope| {
            let dir = self.elsewhere.dir.path();
            let machine = scope.spawn(|| Machine::watch(dir, &seen, &waiter));
            // It goes on until the last wait has ended.
            let all = seen.when_dropped();
            let waits = scope.spawn(|| in_runtime(1, wait_until(&self.host, &stop, &waiter)));
            let end = stop.when_dropped();
            let own = scope.spawn(|| on_this_thread(acquire_until(&self.host, &stop)));
            let elsewhere = scope.spawn(|| on_this_thread(acquire_until(&self.elsewhere, &stop)));
            let done = act();
            drop(end);
            let own = own.join().expect("it does not panic")?;
            let elsewhere = elsewhere.join().expect("it does not panic")?;
            let waits = waits.join().expect("it does not panic")?;
            drop(all);
            let machine = machine.join().expect("it does not panic")?;
            let late = |(due, end)| (end - due, machine.late(due, end));
            let observed = Observed {
                waits: waits.into_iter().map(late).collect(),
                own,
                elsewhere,
            };
            Ok((observed, done))
        })
    }
}

fn on_this_thread<T>(guest: impl Future<Output = Result<T>>) -> Result<T> {
    let mut runtime = runtime::Builder::new_current_thread();
    runtime.enable_all().build()?.block_on(guest)
}

/// Acquires and releases a lock that is free, over and over; how long each acquire took, but for how
/// long the guest's thread did not get a processor meanwhile.
async fn acquire_until(host: &Host, stop: &Stop) -> Result<Vec<Duration>> {
    const PACE: Duration = Duration::from_millis(1);
    // Of the only thread.
    let me = Path::new("/proc/thread-self/schedstat");
    let mut guest = Attacker::new(host).await?;
    let lock = guest.open("/locks/free").await?;
    let mut acquires = Vec::new();
    while !stop.is_due() {
        tokio::time::sleep(PACE).await;
        let before = delay(me).unwrap_or_default();
        let start = Instant::now();
        let granted = guest.acquire(lock, INDEFINITELY).await?;
        let took = start.elapsed();
        let delayed = delay(me).unwrap_or_default().saturating_sub(before);
        acquires.push(took.saturating_sub(delayed));
        let released = guest.call(Call::Release, [lock, 0, 0, 0]).await?;
        let both = granted.and(released);
        ensure!(both == Ok(0), "a free lock came to {both:?}");
    }
    guest.keep_what_it_saw().await?;
    Ok(acquires)
}

/// The second tenant waits in vain, in each protocol; when each wait was due to end, and when it ended.
async fn wait_until(
    host: &Host,
    stop: &Arc<Stop>,
    waiter: &AtomicU32,
) -> Result<Vec<(Instant, Instant)>> {
    // There is one thread for all of its guests.
    let number = tokio::spawn(async { rustix::thread::gettid().as_raw_nonzero().get() });
    waiter.store(number.await?.unsigned_abs(), Relaxed);
    let mut guests = JoinSet::new();
    let mut held = Vec::new();
    for protocol in KERNEL.into_iter().chain(NAMED) {
        let name = format!("waits-{protocol}");
        held.push(hold(
            &Engine::new(),
            &host.path(&name),
            protocol,
            Mode::Exclusive,
        )?);
        let mut guest = Attacker::new(host).await?;
        let lock = open(&mut guest, &format!("/locks/{name}"), protocol).await?;
        let stop = Arc::clone(stop);
        guests.spawn(async move {
            let mut waits = Vec::new();
            while !stop.is_due() {
                let due = Instant::now() + Duration::from_millis(WAIT.into());
                let answer = guest.acquire(lock, [1, WAIT]).await?;
                let end = Instant::now();
                ensure!(
                    answer == Err("timeout"),
                    "a wait for {name} came to {answer:?}"
                );
                ensure!(end >= due, "a wait for {name} ended early");
                waits.push((due, end));
            }
            guest.keep_what_it_saw().await?;
            Ok(waits)
        });
    }
    let mut all = Vec::new();
    while let Some(waits) = guests.join_next().await {
        all.extend(waits??);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_that_is_disturbed_is_noticed() {
        const MILLI: Duration = Duration::from_millis(1);
        let noticed = |late: Duration, machine: Duration, acquire: Duration| {
            let observed = Observed {
                waits: vec![(late, machine); 10],
                own: vec![acquire; 100],
                elsewhere: vec![MILLI / 10; 100],
            };
            let mut outcome = Outcome::default();
            observed.check(&mut outcome, "now", Some(MILLI));
            outcome.violations.len()
        };
        assert_eq!(noticed(2 * MILLI, MILLI, MILLI), 0);
        assert_eq!(noticed(60 * MILLI, 20 * MILLI, 3 * MILLI), 0);
        assert_eq!(noticed(60 * MILLI, MILLI, MILLI), 1);
        assert_eq!(noticed(2 * MILLI, MILLI, 4 * MILLI), 1);
        // A machine that is always late says nothing.
        assert_eq!(noticed(60 * MILLI, 60 * MILLI, MILLI), 1);
    }

    #[test]
    fn a_lock_that_others_hold_is_not_free() {
        let first = Host::new();
        let second = SecondTenant::beside(&first);
        let (usual, ()) = second
            .watch(|| thread::sleep(Duration::from_secs(1)))
            .unwrap();
        let usual = usual.check(&mut Outcome::default(), "normally", None);
        let lock = second.host.lock("free");
        let disturb = || {
            for _ in 0..20 {
                let held = lock.acquire(Mode::Exclusive, None).unwrap();
                thread::sleep(LATE);
                held.release().unwrap();
            }
        };
        let (observed, ()) = second.watch(disturb).unwrap();
        let mut outcome = Outcome::default();
        let _ = observed.check(&mut outcome, "now", usual.own);
        let violations = outcome.violations.join("; ");
        assert!(violations.contains("free locks"), "{violations}");
    }
}
