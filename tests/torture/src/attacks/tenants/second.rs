//! The second tenant, which must not be disturbed by the first.

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

/// The timeout of each of its waits, in milliseconds.
const WAIT: u32 = 100;

/// How late a wait may end, beyond the delay of the machine itself.
const LATE: Duration = Duration::from_millis(50);

/// The second tenant.
pub(in crate::attacks) struct SecondTenant {
    /// In the engine of the first one, with a directory of its own.
    host: Host,
    /// In an engine without the first one. What becomes slow there as well is not the engine's fault.
    elsewhere: Host,
}

/// What was measured of it.
#[derive(Debug, Default)]
pub(in crate::attacks) struct Observed {
    /// How late its waits ended, and how late the machine was at the same time.
    waits: Vec<(Duration, Duration)>,
    /// How long acquires of free locks took in its own engine, and in the other one.
    own: Vec<Duration>,
    elsewhere: Vec<Duration>,
}

/// The figures of that.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::attacks) struct Figures {
    /// How late a wait ended and how late the machine was, for the wait with the largest difference.
    wait: (Duration, Duration),
    /// The 99th percentile of the acquires of free locks.
    pub(in crate::attacks) own: Option<Duration>,
    elsewhere: Option<Duration>,
}

impl Observed {
    /// Checks that waits end in time, and that a free lock takes no longer than three times what is
    /// `usual`, both compared with the machine itself.
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
        // A machine that is always late shows nothing.
        let in_time = self.waits.iter().filter(|(_, machine)| *machine < LATE);
        outcome.must(in_time.count() * 2 > self.waits.len(), || {
            format!("{during}: the machine was late for most of the waits")
        });
        let own = percentile(&mut self.own, 99);
        let elsewhere = percentile(&mut self.elsewhere, 99);
        let most = usual.max(elsewhere).map(|usual| usual * 3);
        outcome.must(own.is_some() && own <= most, || {
            format!(
                "{during}: 99 % of free locks were acquired within {own:?}, usually within {usual:?}, and \
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

/// The worst figures, and the acts during which they were measured.
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

    /// Measures it while `act` runs.
    pub(in crate::attacks) fn watch<T>(&self, act: impl FnOnce() -> T) -> Result<(Observed, T)> {
        let stop = Arc::new(Stop::default());
        let (seen, waiter) = (Stop::default(), AtomicU32::new(0));
        thread::scope(|scope| {
            let dir = self.elsewhere.dir.path();
            let machine = scope.spawn(|| Machine::watch(dir, &seen, &waiter));
            // The machine is watched until the last wait has ended.
            let all = seen.when_dropped();
            let waits = scope.spawn(|| in_runtime(1, wait_until(&self.host, &stop, &waiter)));
            let end = stop.when_dropped();
            let own = scope.spawn(|| on_this_thread(acquire_until(&self.host, &stop)));
            let elsewhere = scope.spawn(|| on_this_thread(acquire_until(&self.elsewhere, &stop)));
            let done = act();
            drop(end);
            let own = own.join().expect("the thread does not panic")?;
            let elsewhere = elsewhere.join().expect("the thread does not panic")?;
            let waits = waits.join().expect("the thread does not panic")?;
            drop(all);
            let machine = machine.join().expect("the thread does not panic")?;
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

/// Acquires and releases a free lock again and again; returns how long each acquire took, without the
/// time during which the guest's thread waited for a processor.
async fn acquire_until(host: &Host, stop: &Stop) -> Result<Vec<Duration>> {
    const PACE: Duration = Duration::from_millis(1);
    // The runtime has only this thread.
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
        ensure!(both == Ok(0), "a free lock: {both:?}");
    }
    guest.keep_what_it_saw().await?;
    Ok(acquires)
}

/// Waits until the timeout in each protocol; returns when each wait was due to end, and when it ended.
async fn wait_until(
    host: &Host,
    stop: &Arc<Stop>,
    waiter: &AtomicU32,
) -> Result<Vec<(Instant, Instant)>> {
    // One thread runs all of its guests.
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
                ensure!(answer == Err("timeout"), "a wait for {name}: {answer:?}");
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
    fn a_disturbed_tenant_is_noticed() {
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
        // A machine that is always late shows nothing.
        assert_eq!(noticed(60 * MILLI, 60 * MILLI, MILLI), 1);
    }

    #[test]
    fn a_lock_that_is_held_is_noticed() {
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
