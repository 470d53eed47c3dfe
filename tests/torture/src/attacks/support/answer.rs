//! The answers to the calls of a guest.

/// Errors by their number in the interface.
const ERRORS: [&str; 15] = [
    "would-block",
    "timeout",
    "not-locked",
    "not-owner",
    "deadlock",
    "access-denied",
    "no-entry",
    "invalid-path",
    "limit-exceeded",
    "not-supported",
    "unavailable",
    "lost",
    "canceled",
    "io",
    "other",
];

/// The answer to a call: its value, or the name of the error.
pub type Answer = Result<u32, &'static str>;

/// The answer for a number of the guest.
pub(super) fn answer(number: i32) -> Answer {
    match u32::try_from(number) {
        Ok(value) => Ok(value),
        Err(_) => Err(ERRORS[usize::try_from(-1 - number).expect("the number is negative")]),
    }
}

/// The answers to the calls of a storm.
#[derive(Debug)]
pub struct Tally(pub(super) Vec<u32>);

impl Tally {
    /// How many succeeded.
    pub fn done(&self) -> u32 {
        self.0[0]
    }

    /// How many failed with an error.
    pub fn failed_with(&self, error: &str) -> u32 {
        let number = ERRORS.iter().position(|name| *name == error);
        number.map_or(0, |number| self.0[number + 1])
    }

    /// How many calls there were.
    pub fn all(&self) -> u32 {
        self.0.iter().sum()
    }
}
