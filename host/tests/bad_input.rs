//! Paths that cannot be locks: each a typed error that names the path, at once, with nothing
//! created and nothing changed.

mod common;

use std::path::PathBuf;
use std::time::Instant;

use common::*;
use locket::{Engine, Options};

/// Opens a path that must fail, and makes sure that it fails fast and leaves the folder alone.
#[track_caller]
fn refused(dir: &Dir, path: PathBuf) -> locket::Error {
    let listing = || {
        let names = std::fs::read_dir(dir.0.path())
            .unwrap()
            .map(|e| e.unwrap().file_name());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    };
    let before = listing();
    for protocol in KERNEL {
        let start = Instant::now();
        let options = Options::new().protocol(protocol);
        Engine::new().open_with(&path, &options).unwrap_err();
        let took = start.elapsed();
        println!("{protocol}: refused in {took:?}");
        // Fifty milliseconds are promised; the rest is for a loaded machine.
        assert!(took < AT_ONCE, "{took:?}");
    }
    assert_eq!(listing(), before);
    let error = Engine::new().open(&path).unwrap_err();
    assert_eq!(error.path(), path);
    println!("{:.200} ({:?})", error.to_string(), error.os_error());
    error
}

#[test]
fn a_missing_directory() {
    let dir = Dir::new();
    assert!(refused(&dir, dir.path("missing/lock")).is_not_found());
    std::fs::write(dir.path("file"), "").unwrap();
    assert!(refused(&dir, dir.path("file/lock")).is_not_found());
}

#[test]
fn a_missing_file_that_may_not_be_created() {
    let dir = Dir::new();
    let options = Options::new().create(false);
    let error = Engine::new()
        .open_with(dir.path("lock"), &options)
        .unwrap_err();
    assert!(error.is_not_found());
    assert!(!dir.path("lock").exists());
}

#[test]
fn what_is_not_a_regular_file() {
    let dir = Dir::new();
    std::fs::create_dir(dir.path("directory")).unwrap();
    assert!(refused(&dir, dir.path("directory")).is_invalid_path());
    #[cfg(windows)]
    assert!(refused(&dir, r"\\.\NUL".into()).is_invalid_path());
    #[cfg(unix)]
    what_only_unix_has(&dir);
}

#[cfg(unix)]
fn what_only_unix_has(dir: &Dir) {
    #[cfg(target_os = "linux")]
    rustix::fs::mknodat(
        rustix::fs::CWD,
        dir.path("fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    #[cfg(target_os = "linux")]
    assert!(refused(dir, dir.path("fifo")).is_invalid_path());
    let _socket = std::os::unix::net::UnixListener::bind(dir.path("socket")).unwrap();
    assert!(refused(dir, dir.path("socket")).is_invalid_path());
    assert!(refused(dir, "/dev/null".into()).is_invalid_path());
}

#[test]
fn paths_that_name_nothing() {
    let dir = Dir::new();
    assert!(refused(&dir, PathBuf::new()).is_invalid_path());
    assert!(refused(&dir, dir.path("nul\0byte")).is_invalid_path());
    assert!(refused(&dir, dir.path(&"x".repeat(64 << 10))).is_invalid_path());
    let long = refused(&dir, dir.path(&"x".repeat(256)));
    // Wine looks for it and says that it is not there.
    assert!(long.is_invalid_path() || cfg!(windows) && long.is_not_found());
}

#[test]
fn symbolic_links_that_lead_nowhere() {
    let dir = Dir::new();
    let linked = symlink(dir.path("target"), dir.path("dangling"));
    if !linked || !symlink("loop", dir.path("loop")) {
        return;
    }
    assert!(refused(&dir, dir.path("loop")).is_invalid_path());
    // Not created through the link.
    refused(&dir, dir.path("dangling"));
    assert!(!dir.path("target").exists());
}

#[test]
fn a_file_replaced_by_something_else_while_it_is_open() {
    let dir = Dir::new();
    let lock = dir.lock(&Engine::new());
    if !removes_open_files(&dir) {
        return;
    }
    std::fs::remove_file(dir.path("lock")).unwrap();
    std::fs::create_dir(dir.path("lock")).unwrap();
    assert!(lock.acquire(EX, None).unwrap_err().is_invalid_path());
    assert!(
        block_on(lock.acquire_async(EX, None))
            .unwrap_err()
            .is_invalid_path()
    );
    std::fs::remove_dir(dir.path("lock")).unwrap();
    lock.acquire(EX, None).unwrap().release().unwrap();
}
