//! Options that several subcommands share.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use locket::{Options, Protocol};

/// The choice of a protocol. Subcommands for which it means something else replace the help.
#[derive(Args, Debug)]
pub(crate) struct ProtocolArgs {
    /// Locking mechanism; `locket exec --help` lists them [default: native]
    #[arg(long, value_name = "PROTOCOL", value_parser = protocol())]
    pub(crate) protocol: Option<Protocol>,

    /// Database that contains the lock, for `--protocol sqlite`
    #[arg(long, value_name = "FILE")]
    pub(crate) database: Option<PathBuf>,
}

impl ProtocolArgs {
    /// The protocol that the user chose, or else the default.
    #[cfg(feature = "run")]
    pub(crate) fn protocol_or_default(&self) -> Protocol {
        self.protocol.unwrap_or_default()
    }

    /// The options of a lock with this protocol.
    pub(crate) fn options(&self, protocol: Protocol) -> Options {
        let options = Options::new().protocol(protocol);
        match &self.database {
            Some(database) => options.database(database),
            None => options,
        }
    }
}

/// Parses a protocol name.
pub(crate) fn protocol() -> impl TypedValueParser<Value = Protocol> {
    PossibleValuesParser::new(Protocol::ALL.iter().map(|protocol| protocol.name()))
        .try_map(|name| name.parse::<Protocol>())
}

/// Parses a number of seconds, which may have a fraction.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text
        .parse()
        .map_err(|_| "not a number of seconds, such as 2.5".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|e| e.to_string())
}
