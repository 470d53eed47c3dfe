//! The rule by which a lock counts as stale.

use alloc::format;
use core::time::Duration;

use wasip2::cli::environment;

use crate::bindings::api::Error;

/// The environment variable that sets the rule, in whole seconds.
const VARIABLE: &str = "LOCKET_STALE_AFTER";

/// The time without a sign of life after which this guest takes over the lock of another guest.
/// `None` means never, which is the default.
pub(crate) fn after() -> Result<Option<Duration>, Error> {
    let variables = environment::get_environment();
    let set = variables.into_iter().find(|(name, _)| name == VARIABLE);
    set.map(|(_, value)| parse(&value)).transpose()
}

fn parse(value: &str) -> Result<Duration, Error> {
    match value.parse() {
        Ok(seconds) if seconds > 0 => Ok(Duration::from_secs(seconds)),
        _ => {
            let why = format!("{VARIABLE} is not a number of seconds");
            Err(Error::Other(Some(why)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_seconds_and_nothing_else() {
        assert_eq!(parse("60"), Ok(Duration::from_secs(60)));
        for bad in ["", "0", "-1", "1.5", "60s", "never"] {
            assert!(matches!(parse(bad), Err(Error::Other(Some(_)))), "{bad}");
        }
    }
}
