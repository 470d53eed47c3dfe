//! Measures in interleaved rounds, and prints ratios.
//!
//! Absolute times on a shared machine mean little. Each round runs every contestant once, for a
//! batch of operations, in an order that rotates; a ratio is the median over the rounds of the
//! ratio within each.

use std::time::Instant;

/// One contestant: a name, and a function that does its operation so many times.
pub(crate) struct Row<'a> {
    pub(crate) name: &'a str,
    pub(crate) run: Box<dyn FnMut(u32) + 'a>,
}

/// Something to compare: the first row is the baseline.
pub(crate) struct Group<'a> {
    pub(crate) title: &'a str,
    pub(crate) rows: Vec<Row<'a>>,
    /// What the ratio of the last row is to be at most.
    pub(crate) target: Option<f64>,
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

pub(crate) fn heading() {
    println!("{:<66} {:>10} {:>8} {:>8}", "", "median", "ratio", "target");
}

pub(crate) fn line(name: &str, nanos: f64, ratio: Option<f64>, target: Option<f64>) {
    let time = if nanos < 10_000.0 {
        format!("{nanos:.0} ns")
    } else {
        format!("{:.1} µs", nanos / 1e3)
    };
    let ratio = ratio.map_or(String::new(), |ratio| format!("{ratio:.2}"));
    let target = target.map_or(String::new(), |target| format!("≤ {target:.2}"));
    println!("  {name:<64} {time:>10} {ratio:>8} {target:>8}");
}

impl Group<'_> {
    /// Runs all rows `rounds` times, each for a batch of `batch`, and prints the comparison.
    pub(crate) fn run(mut self, rounds: usize, batch: u32) {
        let count = self.rows.len();
        let mut times = vec![Vec::with_capacity(rounds); count];
        for round in 0..rounds + 3 {
            for i in 0..count {
                let index = (i + round) % count;
                let start = Instant::now();
                (self.rows[index].run)(batch);
                let nanos = start.elapsed().as_nanos() as f64 / f64::from(batch);
                // The first rounds warm up.
                if round >= 3 {
                    times[index].push(nanos);
                }
            }
        }
        println!("{}", self.title);
        for (index, row) in self.rows.iter().enumerate() {
            let ratios = times[index]
                .iter()
                .zip(&times[0])
                .map(|(time, base)| time / base)
                .collect();
            let ratio = (index > 0).then(|| median(ratios));
            let target = self.target.filter(|_| index + 1 == count);
            line(row.name, median(times[index].clone()), ratio, target);
        }
    }
}
