//! Strings of a guest that Windows takes for more than names of files.

use super::*;

#[test]
fn what_windows_takes_for_more_than_a_name_is_an_invalid_path() {
    let (dir, outside) = (Dir::new(), Dir::new());
    let guest = guest(&Engine::new(), dir.0.path(), Limits::new());
    open(&guest, "/jobs/file").unwrap();
    let absolute = outside.path("new");
    let absolute = absolute.to_str().unwrap();
    let server = format!(r"\\?\{absolute}");
    for bad in [
        "CON",
        "nul",
        "Aux.lock",
        "COM1",
        "com\u{b9}",
        "LPT9.txt",
        "CONOUT$",
        "file:stream",
        "file::$DATA",
        "file.",
        "file ",
        r"..\new",
        r"folder\file",
        r"\\server\share\file",
        r"\\.\pipe\locket",
        "C:",
        "C:file",
        "a?",
        "a*",
        "a\u{1}",
        absolute,
        &server,
    ] {
        for protocol in [Protocol::Native, Protocol::Soft, Protocol::Mkdir] {
            for path in [format!("/jobs/{bad}"), format!("/jobs/{bad}/file")] {
                let opened = guest.open(&path, Some(protocol), OnRelease::Keep);
                let error = opened.unwrap_err();
                assert!(error.is_invalid_path(), "{path:?}: {error}");
            }
        }
        let error = guest.open_ranges(&format!("/jobs/{bad}")).unwrap_err();
        assert!(error.is_invalid_path(), "{bad:?}: {error}");
    }
    assert_eq!(dir.names(), ["file".to_owned()].into());
    assert!(outside.names().is_empty());
}

#[test]
fn nothing_leads_out() {
    let (dir, outside) = (Dir::new(), Dir::new());
    let guest = guest(&Engine::new(), dir.0.path(), Limits::new());
    fs::create_dir(dir.path("folder")).unwrap();
    open(&guest, "/jobs/folder/../in").unwrap();
    let name = outside.0.path().file_name().unwrap().to_str().unwrap();
    for path in [
        format!("/jobs/../{name}/new"),
        format!("/jobs/folder/../../{name}/new"),
    ] {
        for protocol in [Protocol::Native, Protocol::Soft, Protocol::Mkdir] {
            let opened = guest.open(&path, Some(protocol), OnRelease::Keep);
            let error = opened.unwrap_err();
            assert!(error.is_invalid_path(), "{path:?}: {error}");
        }
    }
    assert!(outside.names().is_empty());
}

/// Windows does not tell names by their case.
#[test]
fn one_file_is_one_lock_in_whichever_case() {
    let dir = Dir::new();
    let guest = guest(&Engine::new(), dir.0.path(), Limits::new());
    for protocol in [
        Protocol::Native,
        Protocol::Soft,
        Protocol::Mkdir,
        Protocol::Link,
    ] {
        let lock = |name: &str| open_as(&guest, &format!("{protocol}-{name}"), protocol);
        let (one, other) = (lock("file"), lock("FILE"));
        let hold = one.acquire(EX, None).unwrap();
        let error = other.acquire(EX, Duration::ZERO).unwrap_err();
        assert!(error.is_would_block(), "{protocol}: {error}");
        hold.release().unwrap();
        other
            .acquire(EX, Duration::ZERO)
            .unwrap()
            .release()
            .unwrap();
    }
}
