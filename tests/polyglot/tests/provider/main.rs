//! Guests with the provider plugged in, on a host without locks: they exclude each other, and native
//! processes.

mod exclusion;
mod filelock;
mod interface;
mod node;
mod takeover;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use locket::{LockFile, Mode, Options};
use locket_tests::harness::{Host, QUIESCENT, STUCK};
use locket_tests::process::Process;
use polyglot::host::{Guest, component_of};
use polyglot::{Language, PROVIDER};
use tokio::time::{sleep, timeout};
use wasmtime::component::Component;

type Result<T = (), E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// The protocols of the provider; the first is the default.
const PROTOCOLS: [&str; 4] = ["link", "soft", "symlink", "mkdir"];

/// Longer than a busy machine keeps a guest from running.
const STALE_AFTER: Duration = Duration::from_secs(2);

const STALE: [(&str, &str); 1] = [("LOCKET_STALE_AFTER", "2")];

/// A host without locks, and guests for it.
struct Stage {
    host: Host,
    component: Component,
}

impl Stage {
    /// One with guests of a language; none if that cannot be built.
    fn of(language: &Language) -> Result<Option<Self>> {
        if !(language.is_ready() && PROVIDER.is_ready()) {
            return Ok(None);
        }
        Ok(Some(Self {
            component: component_of(&language.plugged()?)?,
            host: Host::new(),
        }))
    }

    /// One with guests in Rust.
    fn new() -> Result<Option<Self>> {
        Self::of(Language::named("rust").expect("there is such a language"))
    }

    async fn guest(&self) -> Result<Guest> {
        self.guest_in(&[]).await
    }

    async fn guest_in(&self, environment: &[(&str, &str)]) -> Result<Guest> {
        Ok(Guest::start_without_locks(&self.component, &self.host, environment).await?)
    }

    /// The lock of a file, for this process.
    fn native(&self, name: &str, protocol: &str) -> Result<LockFile> {
        self.native_with(name, protocol, None)
    }

    fn native_with(&self, name: &str, protocol: &str, stale: Option<Duration>) -> Result<LockFile> {
        let options = Options::new()
            .protocol(protocol.parse()?)
            .stale_after(stale);
        Ok(locket::Engine::new().open_with(self.host.path(name), &options)?)
    }

    /// The names in the directory.
    fn names(&self) -> Result<Vec<String>> {
        let entries = fs::read_dir(self.host.dir.path())?;
        let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        names.collect()
    }
}

/// Gives commands, each with the reply that is expected.
#[track_caller]
fn dialogue<'a>(
    guest: &'a mut Guest,
    lines: &'a [(&'a str, &'a str)],
) -> impl Future<Output = Result> + 'a {
    guest.dialogue(lines, STUCK)
}
