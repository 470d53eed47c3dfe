//! The rule by which a lock counts as left behind.

use alloc::format;
use core::time::Duration;

use wasip2::cli::environment;

use crate::bindings::api::Error;

/// The variable that sets the rule: whole seconds.
const VARIABLE: &str = "LOCKET_STALE_AFTER";

/// After which time without a sign of life the lock of another guest is taken away; none where it
/// never is, which is so unless the environment says otherwise.
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
