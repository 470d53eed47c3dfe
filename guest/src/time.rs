//! Converts durations to milliseconds and back.

use core::time::Duration;

/// Rounds up to whole milliseconds: a wait never ends before its timeout, and
/// only a timeout of zero tries once.
pub(crate) fn to_millis(duration: Duration) -> u32 {
    let rest = duration.subsec_nanos().div_ceil(1_000_000);
    let millis = duration
        .as_secs()
        .saturating_mul(1_000)
        .saturating_add(rest.into());
    u32::try_from(millis).unwrap_or(u32::MAX)
}

pub(crate) fn from_millis(millis: u32) -> Duration {
    Duration::from_millis(millis.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_stays_zero() {
        assert_eq!(to_millis(Duration::ZERO), 0);
    }

    #[test]
    fn a_fraction_of_a_millisecond_rounds_up() {
        assert_eq!(to_millis(Duration::from_nanos(1)), 1);
        assert_eq!(to_millis(Duration::from_micros(999)), 1);
        assert_eq!(to_millis(Duration::from_millis(1)), 1);
        assert_eq!(to_millis(Duration::from_nanos(1_000_001)), 2);
        assert_eq!(to_millis(Duration::from_nanos(1_999_999_999)), 2_000);
    }

    #[test]
    fn longer_durations_become_the_largest_number() {
        let largest = from_millis(u32::MAX);
        assert_eq!(to_millis(largest), u32::MAX);
        assert_eq!(to_millis(largest - Duration::from_millis(1)), u32::MAX - 1);
        assert_eq!(to_millis(largest + Duration::from_nanos(1)), u32::MAX);
        assert_eq!(to_millis(Duration::MAX), u32::MAX);
    }
}
