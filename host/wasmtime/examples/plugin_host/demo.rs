//! What the example shows: many calls, a plugin that is replaced while a call of the old one holds a
//! lock, and a shutdown while calls wait.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use locket_wasmtime::bindings::api;
use tokio::task::JoinSet;
use wasmtime::Result;

use super::host::{Answer, Host};
use super::metrics::Counts;

/// The locks that the tenants share.
pub(crate) const LOCKS: [&str; 3] = ["/shared/a", "/shared/b", "/shared/c"];

/// Who calls: of ten calls, the first tenant makes six, and the last one.
const CALLERS: [&str; 10] = [
    "alice", "alice", "bob", "alice", "alice", "bob", "alice", "carol", "alice", "bob",
];

/// For how long a call holds its lock, in milliseconds.
const SHORT: u32 = 1;
const ENDLESS: u32 = u32::MAX;

/// How the calls of one tenant ended.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Ends {
    /// The plugin did what it was called for.
    pub(crate) added: u64,
    /// It lost its lock before it could.
    pub(crate) lost: u64,
    /// Its wait for the lock was canceled.
    pub(crate) canceled: u64,
    /// Anything else, which should not happen.
    pub(crate) others: Vec<String>,
}

/// What happened.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// How calls ended, by tenant.
    pub(crate) ends: BTreeMap<String, Ends>,
    /// What the hooks counted, by tenant.
    pub(crate) counts: BTreeMap<String, Counts>,
    /// The numbers that the locks protected.
    pub(crate) numbers: BTreeMap<String, u64>,
    /// The sums that plugins returned, by lock.
    pub(crate) sums: BTreeMap<String, Vec<u64>>,
    /// Listings of moments in which calls wait: after a reload, and before the shutdown.
    pub(crate) listings: Vec<(&'static str, String)>,
}

/// Calls in progress: of a tenant, for a lock.
type Calls = JoinSet<(&'static str, &'static str, Answer)>;

/// Makes so many calls, and what comes with them.
pub(crate) async fn run(host: &Arc<Host>, calls: usize) -> Result<Report> {
    let mut report = Report::default();
    report.add(&mut short_calls(host, calls / 2)).await?;

    // The new plugin does not wait for a call of the old one for longer than a time of grace.
    let mut old = begin(host, [("carol", LOCKS[0], ENDLESS)]);
    until(|| host.counts().0 == 1).await;
    let loading = Arc::clone(host);
    let version = tokio::task::spawn_blocking(move || loading.load()).await??;
    let retiring = Arc::clone(host);
    let retired = tokio::spawn(async move { retiring.retire(version).await });
    let mut new = short_calls(host, calls - calls / 2);
    until(|| host.counts().1 > 0 || retired.is_finished()).await;
    report.list("After the reload", host);
    retired.await?;
    report.add(&mut old).await?;
    report.add(&mut new).await?;

    // A shutdown cancels all waits, and then ends the call that holds the lock.
    let mut last = begin(host, [("carol", LOCKS[1], ENDLESS)]);
    until(|| host.counts().0 == 1).await;
    let mut waiting = begin(host, CALLERS.map(|tenant| (tenant, LOCKS[1], SHORT)));
    until(|| host.counts().1 == CALLERS.len()).await;
    report.list("Before the shutdown", host);
    host.shut_down().await;
    report.add(&mut waiting).await?;
    report.add(&mut last).await?;

    let tenants = host.tenants.iter();
    let counts = tenants.map(|(name, tenant)| (name.clone(), tenant.metrics.counts()));
    report.counts = counts.collect();
    report.numbers = host.ledger.all();
    Ok(report)
}

/// Begins calls that hold a lock briefly.
fn short_calls(host: &Arc<Host>, calls: usize) -> Calls {
    let callers = CALLERS.into_iter().cycle();
    let locks = LOCKS.into_iter().cycle();
    let calls = callers.zip(locks).take(calls);
    begin(host, calls.map(|(tenant, lock)| (tenant, lock, SHORT)))
}

fn begin(
    host: &Arc<Host>,
    calls: impl IntoIterator<Item = (&'static str, &'static str, u32)>,
) -> Calls {
    let mut begun = Calls::new();
    for (tenant, lock, milliseconds) in calls {
        let host = Arc::clone(host);
        begun.spawn(async move {
            let answer = host.call(tenant, lock, milliseconds).await;
            (tenant, lock, answer)
        });
    }
    begun
}

/// Waits for a condition that nothing tells of.
pub(crate) async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

impl Host {
    /// How many holders and how many waiters there are.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let locks = self.locks.snapshot().locks;
        let counts = locks
            .iter()
            .map(|lock| (lock.holders.len(), lock.waiters.len()));
        counts.fold((0, 0), |sum, counts| (sum.0 + counts.0, sum.1 + counts.1))
    }
}

impl Report {
    /// Awaits calls, and adds how they end.
    async fn add(&mut self, calls: &mut Calls) -> Result<()> {
        while let Some(call) = calls.join_next().await {
            let (tenant, lock, answer) = call?;
            let ends = self.ends.entry(tenant.to_owned()).or_default();
            match answer {
                Answer::Added(sum) => {
                    ends.added += 1;
                    self.sums.entry(lock.to_owned()).or_default().push(sum);
                }
                Answer::Failed(api::Error::Lost(_)) => ends.lost += 1,
                Answer::Failed(api::Error::Canceled) => ends.canceled += 1,
                Answer::Failed(error) => ends.others.push(error.to_string()),
                Answer::Killed(error) => ends.others.push(format!("killed: {error:#}")),
                Answer::TimedOut => ends.others.push("timed out".to_owned()),
                Answer::Refused => ends.others.push("refused".to_owned()),
            }
        }
        Ok(())
    }

    fn list(&mut self, moment: &'static str, host: &Host) {
        self.listings.push((moment, host.list().to_string()));
    }

    /// Whether every call ended as it should, each addition had a sum of its own, and the hooks counted
    /// what the plugins reported.
    pub(crate) fn is_right(&self) -> bool {
        let counted = |(tenant, ends): (&String, &Ends)| {
            let counts = self.counts[tenant];
            counts.add_up()
                && ends.others.is_empty()
                && counts.released == ends.added
                && counts.lost == ends.lost
                && counts.refused == ends.canceled
        };
        let exact = |(lock, number): (&String, &u64)| {
            let mut sums = self.sums.get(lock).cloned().unwrap_or_default();
            sums.sort_unstable();
            sums.into_iter().eq(1..=*number)
        };
        self.ends.iter().all(counted) && self.numbers.iter().all(exact)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (moment, listing) in &self.listings {
            writeln!(f, "{moment}:\n\n{listing}")?;
        }
        writeln!(f, "tenant      added      lost  canceled    others")?;
        for (tenant, ends) in &self.ends {
            write!(f, "{tenant:<8} {:>8} {:>9} ", ends.added, ends.lost)?;
            writeln!(f, "{:>9} {:>9}", ends.canceled, ends.others.len())?;
        }
        for other in self.ends.values().flat_map(|ends| &ends.others) {
            writeln!(f, "{other}")?;
        }
        writeln!(f)?;
        for (lock, number) in &self.numbers {
            writeln!(f, "{lock} protected the number {number}")?;
        }
        Ok(())
    }
}
