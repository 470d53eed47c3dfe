//! What every language must do. A guest gets commands line by line and carries them out through the
//! bindings of its language.

mod disposal;
mod failures;
mod locking;

use std::fs;
use std::time::{Duration, Instant};

use locket::sandbox::{Limits, Rights};
use locket::{Mode, Options, Protocol};
use locket_tests::harness::{AT_ONCE, Host, QUIESCENT, STUCK};
use locket_wasmtime::LocketCtx;
use polyglot::host::{Guest, component};
use polyglot::{Language, bindings};
use tokio::time::timeout;

type Result<T = (), E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

macro_rules! languages {
    ($($name:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() -> Result {
                speaks_locket(stringify!($name)).await
            }
        )*

        #[test]
        fn every_language_is_tested() {
            let tested = [$(stringify!($name)),*];
            let languages: Vec<_> = polyglot::LANGUAGES.iter().map(|l| l.name).collect();
            assert_eq!(languages, tested);
        }
    };
}

languages! {
    assemblyscript
    c
    cpp
    go
    javascript
    python
    rust
    starlingmonkey
    typescript
    zig
}

#[test]
fn generated_bindings_are_fresh() -> Result {
    for (path, generated) in bindings::generated()? {
        let is_fresh = fs::read(&path)? == generated;
        assert!(is_fresh, "{}: run `{}`", path.display(), bindings::GENERATE);
    }
    Ok(())
}

/// A host, and what is needed to start guests of one language on it.
struct Stage {
    host: Host,
    component: wasmtime::component::Component,
}

async fn speaks_locket(name: &str) -> Result {
    let language = Language::named(name).expect("there is such a language");
    if !language.is_ready() {
        return Ok(());
    }
    let stage = Stage {
        component: component(&language.built()?.path)?,
        host: Host::new(),
    };
    locking::holds_and_releases(&stage).await?;
    locking::waits(&stage).await?;
    locking::shares(&stage).await?;
    locking::chooses_a_protocol(&stage).await?;
    failures::fails_as_the_interface_says(&stage).await?;
    failures::loses_what_is_taken_away(&stage).await?;
    failures::survives_bad_input(&stage).await?;
    disposal::disposes(&stage).await?;
    disposal::releases_when_the_scope_fails(&stage).await?;
    locking::counts(&stage).await?;
    disposal::leaves_nothing_behind_when_it_traps(&stage).await?;
    Ok(())
}

impl Stage {
    async fn guest(&self) -> Result<Guest> {
        Ok(Guest::start(&self.component, &self.host).await?)
    }
}

/// Gives commands that do not wait, each with the reply that is expected.
#[track_caller]
fn dialogue<'a>(
    guest: &'a mut Guest,
    lines: &'a [(&'a str, &'a str)],
) -> impl Future<Output = Result> + 'a {
    guest.dialogue(lines, AT_ONCE)
}
