//! Measured values: all of them for their distribution, and one for each round for ratios.

/// What one contestant, or one quantity, came to.
#[derive(Default)]
pub(crate) struct Samples {
    all: Vec<f64>,
    rounds: Vec<f64>,
}

impl Samples {
    /// Adds a round of one sample.
    pub(crate) fn push(&mut self, sample: f64) {
        self.all.push(sample);
        self.rounds.push(sample);
    }

    /// The median over the rounds of the ratio to `base` within each.
    pub(crate) fn ratio(&self, base: &Self) -> f64 {
        let ratios = self.rounds.iter().zip(&base.rounds);
        percentile(ratios.map(|(own, base)| own / base).collect(), 50)
    }

    /// Adds a round, of which the median counts in ratios.
    pub(crate) fn push_round(&mut self, samples: Vec<f64>) {
        self.all.extend(&samples);
        self.rounds.push(percentile(samples, 50));
    }

    pub(crate) fn percentile(&self, percent: usize) -> f64 {
        percentile(self.all.clone(), percent)
    }

    pub(crate) fn values(&self) -> &[f64] {
        &self.all
    }
}

/// The value below which so many in a hundred are.
fn percentile(mut values: Vec<f64>, percent: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    values[(values.len() * percent / 100).min(values.len() - 1)]
}
