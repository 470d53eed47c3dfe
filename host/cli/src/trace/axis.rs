//! The marks of a time axis.

use std::time::Duration;

/// A time, and how it is written.
pub(super) type Tick = (Duration, String);

/// The steps that read well, in milliseconds. Longer ones are whole days.
const STEPS: &[u64] = &[
    1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 15_000, 30_000, 60_000,
    120_000, 300_000, 600_000, 900_000, 1_800_000, 3_600_000, 7_200_000, 21_600_000, 43_200_000,
];
const DAY: u64 = 86_400_000;

/// Marks at even times from zero to `length`: at most so many, and one more at zero.
pub(super) fn ticks(length: Duration, most: u64) -> Vec<Tick> {
    let length = u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
    let least = length.div_ceil(most.max(1));
    let step = STEPS.iter().copied().find(|step| *step >= least);
    let step = step.unwrap_or_else(|| least.next_multiple_of(DAY));
    let times = (0..=length / step).map(|i| i * step);
    times
        .map(|time| (Duration::from_millis(time), label(time, step)))
        .collect()
}

/// Seconds, or from a step of a minute on minutes and hours.
fn label(time: u64, step: u64) -> String {
    match step {
        ..10 => format!("{:.3} s", time as f64 / 1000.),
        10..100 => format!("{:.2} s", time as f64 / 1000.),
        100..1000 => format!("{:.1} s", time as f64 / 1000.),
        1000..60_000 => format!("{} s", time / 1000),
        60_000..3_600_000 => format!("{} min", time / 60_000),
        _ => format!("{} h", time / 3_600_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_even_and_not_too_many() {
        let labels = |ms: u64, most| -> Vec<String> {
            let ticks = ticks(Duration::from_millis(ms), most);
            ticks.into_iter().map(|(_, label)| label).collect()
        };
        assert_eq!(labels(1000, 4), ["0.0 s", "0.5 s", "1.0 s"]);
        assert_eq!(labels(59_000, 4), ["0 s", "15 s", "30 s", "45 s"]);
        assert_eq!(
            labels(7_200_000, 4),
            ["0 min", "30 min", "60 min", "90 min", "120 min"]
        );
        assert_eq!(labels(10 * DAY, 5).len(), 6);
        assert_eq!(labels(0, 5), ["0.000 s"]);
        for ms in [1, 7, 99, 12_345, 999_999_999] {
            assert!(labels(ms, 6).len() <= 7, "{ms}");
        }
    }
}
