//! What the package for JavaScript promises beyond what every language must do, in both engines.

use locket_tests::harness::Host;
use polyglot::Language;
use polyglot::host::{Guest, component};

type Result<T = (), E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_package_checks_what_it_is_given() -> Result {
    for name in ["javascript", "starlingmonkey"] {
        let language = Language::named(name).expect("a language");
        if !language.is_ready() {
            continue;
        }
        let component = component(&language.built()?.path)?;
        let host = Host::new();
        let mut guest = Guest::start(&component, &host).await?;
        assert_eq!(guest.run("check").await?, "14 checks", "{name}");
        assert!(!host.path("checks-removed").exists());
    }
    Ok(())
}
