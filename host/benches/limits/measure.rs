//! Measures in interleaved rounds.
//!
//! Absolute times on a shared machine mean little, and two runs, one after the other, are not
//! comparable. So each round gives every contestant one go, in an order that rotates, and a ratio
//! is the median over the rounds of the ratio within each. What a go yields is kept: medians and
//! percentiles are those of all samples.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use crate::report::{Row, Section, Target, Unit};
use crate::samples::Samples;

/// Appends samples.
type Go<'a> = Box<dyn FnMut(&mut Vec<f64>) + 'a>;

/// A contestant; the first of several is the baseline.
pub(crate) struct Contestant<'a> {
    name: String,
    target: Option<Target>,
    go: Go<'a>,
}

impl<'a> Contestant<'a> {
    /// `go` appends one sample or several, in nanoseconds; the round counts their median.
    pub(crate) fn new(name: impl Into<String>, go: impl FnMut(&mut Vec<f64>) + 'a) -> Self {
        Self {
            name: name.into(),
            target: None,
            go: Box::new(go),
        }
    }

    /// One sample: the mean time of a turn over a batch of them.
    pub(crate) fn batch(
        name: impl Into<String>,
        batch: u32,
        mut turns: impl FnMut(u32) + 'a,
    ) -> Self {
        Self::new(name, move |samples| {
            let start = Instant::now();
            turns(batch);
            samples.push(start.elapsed().as_nanos() as f64 / f64::from(batch));
        })
    }

    /// What the ratio to the baseline is to be.
    pub(crate) fn target(mut self, target: impl Into<Option<Target>>) -> Self {
        self.target = target.into();
        self
    }
}

/// How many rounds there are before those that count.
const WARM_UP: usize = 2;

/// Gives each contestant a go in every round, and returns the results.
pub(crate) fn compare(title: &str, rounds: usize, mut contestants: Vec<Contestant<'_>>) -> Section {
    let count = contestants.len();
    let mut results: Vec<Samples> = contestants.iter().map(|_| Samples::default()).collect();
    for round in 0..rounds + WARM_UP {
        for i in 0..count {
            let index = (i + round) % count;
            let mut samples = Vec::new();
            (contestants[index].go)(&mut samples);
            if round >= WARM_UP {
                results[index].push_round(samples);
            }
        }
    }
    let ratios: Vec<_> = results.iter().map(|own| own.ratio(&results[0])).collect();
    let rows = contestants.iter().zip(results).zip(ratios).enumerate();
    let rows = rows.map(|(index, ((contestant, samples), ratio))| {
        let row = Row::new(&contestant.name, Unit::Nanoseconds, samples);
        let row = row.target(contestant.target);
        if index > 0 { row.ratio(ratio) } else { row }
    });
    Section {
        title: title.to_owned(),
        rows: rows.collect(),
    }
}

fn clock(id: ClockId) -> Duration {
    let time = clock_gettime(id);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Nanoseconds on a clock that all processes share.
pub(crate) fn now() -> u64 {
    clock(ClockId::Monotonic).as_nanos() as u64
}

/// Works for so long.
pub(crate) fn spin(time: Duration) {
    let start = Instant::now();
    while start.elapsed() < time {
        std::hint::spin_loop();
    }
}

/// Processor time of this process so far, that of all its threads.
pub(crate) fn processor_time() -> Duration {
    clock(ClockId::ProcessCPUTime)
}
