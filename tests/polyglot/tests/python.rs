//! What locket.py, pylockfile and the module `fcntl` promise, as tests in Python: with those, and with
//! our package inside of a component.

use locket::sandbox::Rights;
use locket_tests::harness::Host;
use locket_wasmtime::LocketCtx;
use polyglot::host::{Guest, component};
use polyglot::languages::python::COMPONENTIZE_PY;
use polyglot::languages::python_contract::{LANGUAGE as CONTRACT, TESTS};
use polyglot::{Language, root};
use std::process::Command;

type Result<T = (), E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

#[test]
fn the_libraries_keep_their_promises() -> Result {
    if !CONTRACT.is_ready() {
        return Ok(());
    }
    let tests = root().join(TESTS);
    let path = std::env::join_paths([tests.join("native"), tests])?;
    let python = COMPONENTIZE_PY.folder()?.join("bin/python");
    Ok(polyglot::run(
        Command::new(python)
            .args(["-W", "error", "-m", "unittest"])
            .args(["test_locket", "test_pylockfile", "test_fcntl"])
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("PYTHONPATH", path),
    )?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_package_keeps_the_promises_of_the_libraries() -> Result {
    if !CONTRACT.is_ready() {
        return Ok(());
    }
    let component = component(&CONTRACT.built()?.path)?;
    for suite in ["locket", "pylockfile", "guest", "fcntl", "fcntl_guest"] {
        let host = Host::new();
        let ctx = LocketCtx::builder(&host.locks)
            .grant_dir(&host.dir, "/locks", Rights::ALL)?
            .build();
        let mut guest = Guest::start_with(&component, &host, ctx).await?;
        let printed = guest.run(suite).await?;
        println!("{printed}");
        assert!(printed.ends_with("\nOK"), "{suite}:\n{printed}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn to_break_locks_takes_an_import_of_its_own() -> Result {
    let python = Language::named("python").expect("a language");
    if !python.is_ready() {
        return Ok(());
    }
    let host = Host::new();
    let mut guest = Guest::start(&component(&python.built()?.path)?, &host).await?;
    assert_eq!(guest.run("open a /locks/a").await?, "ok");
    assert_eq!(
        guest.run("break-lock a").await?,
        "err other this component cannot break lock '/locks/a': \
         its world does not `import locket:lock/admin@0.1.0`"
    );
    Ok(())
}

/// A world that is copied from the page is that of the example, which the page builds.
#[test]
fn the_world_on_the_page_is_that_of_the_example() -> Result {
    let folder = root().join("guest/python");
    let page = std::fs::read_to_string(folder.join("README.md"))?;
    let world = std::fs::read_to_string(folder.join("examples/app.wit"))?;
    assert!(page.contains(&format!("```wit\n{world}```\n")));
    Ok(())
}
