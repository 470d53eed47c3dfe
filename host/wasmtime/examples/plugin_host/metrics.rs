//! What the calls of a tenant did with locks, counted by hooks.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use locket::sandbox::{Hooks, Request};
use locket::{Error, LostReason};

/// The counters of one tenant.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    begun: Counter,
    waited: Counter,
    acquired: Counter,
    refused: Counter,
    abandoned: Counter,
    released: Counter,
    lost: Counter,
    waiting_time: Time,
    holding_time: Time,
}

#[derive(Debug, Default)]
struct Counter(AtomicU64);

impl Counter {
    fn count(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A sum of times.
#[derive(Debug, Default)]
struct Time(AtomicU64);

impl Time {
    fn add(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.0.fetch_add(micros, Ordering::Relaxed);
    }

    fn seconds(&self) -> f64 {
        Duration::from_micros(self.0.load(Ordering::Relaxed)).as_secs_f64()
    }
}

impl Hooks for Metrics {
    /// A policy would decide here. This host leaves all to rights and limits.
    fn admit(&self, _: &Request<'_>) -> bool {
        self.begun.count();
        true
    }

    fn waiting(&self, _: &Request<'_>) {
        self.waited.count();
    }

    fn acquired(&self, _: &Request<'_>, waited: Duration) {
        self.acquired.count();
        self.waiting_time.add(waited);
    }

    fn refused(&self, request: &Request<'_>, _: &Error) {
        // Without a mode it is the opening of a lock that failed.
        if request.mode.is_some() {
            self.refused.count();
        }
    }

    fn abandoned(&self, _: &Request<'_>, waited: Duration) {
        self.abandoned.count();
        self.waiting_time.add(waited);
    }

    fn released(&self, _: &Request<'_>, held: Duration) {
        self.released.count();
        self.holding_time.add(held);
    }

    fn lost(&self, _: &Request<'_>, _: LostReason, held: Duration) {
        self.lost.count();
        self.holding_time.add(held);
    }
}

/// The counters at one moment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Counts {
    /// Acquires that began, and of these, those that waited.
    pub(crate) begun: u64,
    pub(crate) waited: u64,
    /// How acquires ended.
    pub(crate) acquired: u64,
    pub(crate) refused: u64,
    pub(crate) abandoned: u64,
    /// How holds ended.
    pub(crate) released: u64,
    pub(crate) lost: u64,
}

impl Counts {
    /// Whether every acquire and every hold that began has ended, in one way each.
    pub(crate) fn add_up(&self) -> bool {
        self.begun == self.acquired + self.refused + self.abandoned
            && self.acquired == self.released + self.lost
    }
}

impl Metrics {
    /// The counters as they are.
    pub(crate) fn counts(&self) -> Counts {
        Counts {
            begun: self.begun.get(),
            waited: self.waited.get(),
            acquired: self.acquired.get(),
            refused: self.refused.get(),
            abandoned: self.abandoned.get(),
            released: self.released.get(),
            lost: self.lost.get(),
        }
    }

    /// Writes them in the text form that Prometheus reads.
    pub(crate) fn write(&self, tenant: &str, out: &mut impl fmt::Write) -> fmt::Result {
        let counts = self.counts();
        for (name, label, value) in [
            ("acquires_begun_total", "", counts.begun),
            ("acquires_waited_total", "", counts.waited),
            ("acquires_ended_total", "acquired", counts.acquired),
            ("acquires_ended_total", "refused", counts.refused),
            ("acquires_ended_total", "abandoned", counts.abandoned),
            ("holds_ended_total", "released", counts.released),
            ("holds_ended_total", "lost", counts.lost),
        ] {
            let end = match label {
                "" => String::new(),
                end => format!(",end=\"{end}\""),
            };
            writeln!(out, "locket_{name}{{tenant=\"{tenant}\"{end}}} {value}")?;
        }
        for (name, time) in [("wait", &self.waiting_time), ("hold", &self.holding_time)] {
            let seconds = time.seconds();
            writeln!(
                out,
                "locket_{name}_seconds_total{{tenant=\"{tenant}\"}} {seconds:.6}"
            )?;
        }
        Ok(())
    }
}
