//! Guests in Node, which jco makes of components.

use super::{PROTOCOLS, Result, Stage, dialogue};
use locket::Mode;
use locket_tests::harness::STUCK;
use locket_tests::process::Process;
use polyglot::Language;
use polyglot::languages::JCO;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Starts a guest in Rust in Node, on the directory of a stage. `None` if there is no jco.
fn in_node(stage: &Stage, folder: &Path) -> Result<Option<Process>> {
    let typescript =
        Language::named("typescript").expect("TypeScript has a guest, which jco builds");
    if !typescript.is_ready() {
        return Ok(None);
    }
    let modules = JCO.folder()?.join("node_modules");
    let rust = Language::named("rust").expect("Rust has a guest");
    let plugged = folder.join("plugged.wasm");
    fs::write(&plugged, rust.plugged()?)?;
    polyglot::run(
        Command::new(modules.join(".bin/jco"))
            .args(["transpile", "--name", "plugged"])
            .args(["--map", "locket:test/counter=../counter.js", "--out-dir"])
            .arg(folder.join("guest"))
            .arg(plugged),
    )?;
    for file in ["main.js", "counter.js"] {
        let source = polyglot::root().join("tests/polyglot/node").join(file);
        fs::copy(source, folder.join(file))?;
    }
    fs::write(folder.join("package.json"), r#"{ "type": "module" }"#)?;
    std::os::unix::fs::symlink(modules, folder.join("node_modules"))?;
    let mut node = Command::new("node");
    node.arg(folder.join("main.js")).arg(stage.host.dir.path());
    Ok(Some(Process::spawn(&mut node)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_in_node_shares_locks() -> Result {
    const ROUNDS: u32 = 50;
    let Some(stage) = Stage::new()? else {
        return Ok(());
    };
    let folder = tempfile::tempdir()?;
    let Some(mut node) = in_node(&stage, folder.path())? else {
        return Ok(());
    };
    for protocol in PROTOCOLS {
        fs::write(stage.host.path("counter"), "0")?;
        let open = format!("open a /locks/a {protocol}");
        assert_eq!(node.ask(&open), "ok");
        let mut guest = stage.guest().await?;
        dialogue(&mut guest, &[(&open, "ok")]).await?;

        assert_eq!(node.ask("acquire a exclusive 0"), "ok");
        assert_eq!(node.ask("acquire a exclusive none"), "err deadlock");
        assert_eq!(node.ask("open b /locks/./a"), "ok");
        dialogue(&mut guest, &[("acquire a exclusive 20", "err timeout")]).await?;
        let native = stage.native("a", protocol)?;
        assert!(native.try_acquire(Mode::Exclusive)?.is_none(), "{protocol}");
        assert_eq!(node.ask("release a"), "ok");
        let hold = native.acquire(Mode::Exclusive, Some(STUCK))?;
        assert_eq!(node.ask("acquire a exclusive 20"), "err timeout");
        hold.release()?;

        let count = format!("count a {ROUNDS}");
        node.send(&count);
        dialogue(&mut guest, &[(&count, "ok")]).await?;
        assert_eq!(node.answer(), "ok");
        let counted = fs::read_to_string(stage.host.path("counter"))?;
        assert_eq!(counted, (2 * ROUNDS).to_string(), "{protocol}");
        assert_eq!(stage.names()?, ["counter"], "{protocol}");
    }
    assert!(node.finish());
    Ok(())
}
