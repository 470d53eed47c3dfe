//! Who may use the host, and how much: read from a file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use locket::sandbox::{Limits, Rights};
use serde::{Deserialize, Deserializer};
use wasmtime::Result;
use wasmtime::error::Context as _;

/// The settings of the host. `tenants.toml` explains them.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Config {
    /// The component.
    pub(crate) plugin: PathBuf,
    /// For how long a call may run, without its waits.
    #[serde(deserialize_with = "seconds")]
    pub(crate) running_time: Duration,
    /// How long a call may last once it has an instance, with its waits.
    #[serde(deserialize_with = "seconds")]
    pub(crate) longest_call: Duration,
    /// How long calls that should end may still run.
    #[serde(deserialize_with = "seconds")]
    pub(crate) grace: Duration,
    /// Directories, by their names in plugins.
    pub(crate) directories: BTreeMap<String, PathBuf>,
    /// The tenants, by name.
    pub(crate) tenants: BTreeMap<String, TenantConfig>,
}

/// What a tenant may do.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct TenantConfig {
    /// How many of its calls have an instance at a time.
    pub(crate) calls: u32,
    /// What all of its calls may use together.
    pub(crate) limits: Limits,
    /// What each of its calls may use.
    #[serde(default)]
    pub(crate) call_limits: Limits,
    /// Its rights in directories, by their names in plugins.
    pub(crate) grants: BTreeMap<String, Rights>,
}

fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let seconds = f64::deserialize(deserializer)?;
    Duration::try_from_secs_f64(seconds).map_err(serde::de::Error::custom)
}

impl Config {
    /// Reads a file.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let config = std::fs::read_to_string(path)
            .map_err(wasmtime::Error::from)
            .and_then(|text| Ok(toml::from_str::<Self>(&text)?));
        let mut config = config.with_context(|| format!("cannot read {}", path.display()))?;
        let folder = path.parent().unwrap_or(Path::new(""));
        config.plugin = folder.join(config.plugin);
        Ok(config)
    }

    /// The settings beside this program.
    pub(crate) fn example() -> Result<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/plugin_host");
        Self::read(&folder.join("tenants.toml"))
    }
}
