//! Compares the waits of the control guest before an attack and during it.

use std::thread;
use std::time::Duration;

use anyhow::Result;
use locket_tests::harness::Host;

use super::steps::{in_runtime, millis};
use crate::attacks::support::control_guest::{Waits, beside};
use crate::stage::{Outcome, percentile};

/// How long 99 % of the waits of a guest may take. They take microseconds, but each ends with a wake-up,
/// which can take long on a busy machine.
pub(crate) const UNDISTURBED: Duration = Duration::from_millis(250);

/// For how long the control guest is measured while nothing attacks.
pub(crate) const QUIET: Duration = Duration::from_secs(2);

/// Measures the control guest while nothing happens, then runs an attack beside it, and compares.
pub(crate) fn attack_beside(
    host: &Host,
    threads: usize,
    attack: impl Future<Output = Result<Outcome>>,
) -> Result<Outcome> {
    let (normal, ()) = beside(host, "/locks/own", || thread::sleep(QUIET))?;
    let (attacked, outcome) = beside(host, "/locks/own", || in_runtime(threads, attack))?;
    let mut outcome = outcome?;
    compare(&mut outcome, normal, attacked);
    Ok(outcome)
}

/// Compares how long a guest waited before an attack and during it.
pub(crate) fn compare(outcome: &mut Outcome, mut normal: Waits, mut attacked: Waits) {
    let acquires = normal.acquires.len() + attacked.acquires.len();
    outcome.did("acquires by another guest", acquires as u64);
    let normal = percentile(&mut normal.acquires, 99);
    outcome.measured("99th percentile of its waits before", millis(normal));
    let disturbed = percentile(&mut attacked.acquires, 99);
    outcome.measured("and under attack", millis(disturbed));
    let late = percentile(&mut attacked.late, 99);
    outcome.measured("and of the delays of a clock under attack", millis(late));
    let most = normal.max(late).map(|normal| UNDISTURBED.max(normal * 2));
    outcome.must(disturbed.is_some() && disturbed <= most, || {
        format!("another guest waited {disturbed:?} under attack, and {normal:?} before")
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_of_another_guest_is_noticed() {
        let waits = |times: &[Duration]| Waits {
            acquires: times.to_vec(),
            late: times.iter().map(|_| Duration::from_micros(10)).collect(),
        };
        let quick = || waits(&[Duration::from_micros(10); 100]);
        let slow = || waits(&[Duration::from_secs(1); 100]);
        for (attacked, kept) in [(quick(), true), (slow(), false), (waits(&[]), false)] {
            let mut outcome = Outcome::default();
            compare(&mut outcome, quick(), attacked);
            assert_eq!(outcome.violations.is_empty(), kept, "{outcome:?}");
        }
    }
}
