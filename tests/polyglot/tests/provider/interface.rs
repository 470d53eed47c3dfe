//! What the provider imports, and its errors.

use super::{Result, Stage, dialogue};
use polyglot::PROVIDER;
use polyglot::host::component;
use std::fs;

#[test]
fn the_provider_imports_only_files_clocks_and_the_environment() -> Result {
    if !PROVIDER.is_ready() {
        return Ok(());
    }
    let provider = component(&PROVIDER.built()?.path)?;
    let engine = provider.engine();
    let kind = provider.component_type();
    let mut imports: Vec<_> = kind
        .imports(engine)
        .map(|(name, _)| name.split('@').next().unwrap_or(name).to_owned())
        .collect();
    imports.sort();
    assert_eq!(
        imports,
        [
            "wasi:cli/environment",
            "wasi:clocks/monotonic-clock",
            "wasi:clocks/wall-clock",
            "wasi:filesystem/preopens",
            "wasi:filesystem/types",
            "wasi:io/poll",
        ]
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_are_those_of_the_interface() -> Result {
    let Some(stage) = Stage::new()? else {
        return Ok(());
    };
    fs::create_dir(stage.host.path("folder"))?;
    std::os::unix::fs::symlink("/", stage.host.path("out"))?;
    let mut guest = stage.guest().await?;
    let (long, deep) = ("n".repeat(256), "d/".repeat(3000));
    let (long, deep) = (
        format!("open x /locks/{long}"),
        format!("open x /locks/{deep}x"),
    );
    dialogue(
        &mut guest,
        &[
            ("open x /elsewhere/x", "err access-denied"),
            ("open x x", "err access-denied"),
            ("open x /locks/../x", "err invalid-path"),
            ("open x /locks/out/x", "err invalid-path"),
            ("open x /locks/missing/x", "err no-entry"),
            ("open x /locks", "err invalid-path"),
            ("open x /locks/", "err invalid-path"),
            ("open x ", "err invalid-path"),
            (&long, "err invalid-path"),
            (&deep, "err invalid-path"),
            ("open x /locks/x native", "err not-supported"),
            ("open x /locks/x flock", "err not-supported"),
            ("open x /locks/x fcntl", "err not-supported"),
            ("open x /locks/x pid-file", "err not-supported"),
            ("open x /locks/x sqlite", "err not-supported"),
            ("open x locks/x", "ok"),
            ("acquire x shared 0", "err not-supported"),
            ("open f /locks/folder soft", "ok"),
            ("acquire f exclusive 0", "err invalid-path"),
            ("is-locked f", "err invalid-path"),
        ],
    )
    .await?;
    let mut guest = stage.guest_in(&[("LOCKET_STALE_AFTER", "soon")]).await?;
    let reply = guest.run("open x /locks/x").await?;
    assert!(reply.starts_with("err other"), "{reply}");
    Ok(())
}
