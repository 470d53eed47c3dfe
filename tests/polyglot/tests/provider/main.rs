//! Guests with the provider plugged in, on a host without locks: they exclude each other, and native
//! processes.

mod filelock;
mod interface;
mod languages;
mod native;
mod node;
mod stale;

use locket::{LockFile, Options};
use locket_tests::harness::{Host, STUCK};
use polyglot::host::{Guest, component_of};
use polyglot::{Language, PROVIDER};
use std::fs;
use std::time::Duration;
use wasmtime::component::Component;

type Result<T = (), E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// The protocols of the provider. The first is the default.
const PROTOCOLS: [&str; 4] = ["link", "soft", "symlink", "mkdir"];

/// A host without locks, and guests for it.
struct Stage {
    host: Host,
    component: Component,
}

impl Stage {
    /// With guests in this language. `None` if they cannot be built.
    fn of(language: &Language) -> Result<Option<Self>> {
        if !(language.is_ready() && PROVIDER.is_ready()) {
            return Ok(None);
        }
        Ok(Some(Self {
            component: component_of(&language.plugged()?)?,
            host: Host::new(),
        }))
    }

    /// With guests in Rust.
    fn new() -> Result<Option<Self>> {
        Self::of(Language::named("rust").expect("Rust has a guest"))
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

/// Sends commands, and checks the reply to each.
#[track_caller]
fn dialogue<'a>(
    guest: &'a mut Guest,
    lines: &'a [(&'a str, &'a str)],
) -> impl Future<Output = Result> + 'a {
    guest.dialogue(lines, STUCK)
}
