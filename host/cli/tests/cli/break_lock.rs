//! `locket break`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;

use crate::support::{Dir, Holder, locket, output};

/// What a command says of a path: one line, without control characters.
fn said(mut command: Command, path: &Path) -> (Option<i32>, String) {
    let output = output({
        command.arg(path);
        command
    });
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(said.lines().count(), 1, "{said:?}");
    assert!(!said.trim_end().contains(char::is_control), "{said:?}");
    (output.status.code(), said)
}

#[test]
fn every_command_shows_a_name_as_one_word_of_a_shell() {
    let dir = Dir::new();
    for name in [&b"a\nlocket: b"[..], b"\x1b[2J", b"\xff'"] {
        let path = dir.path("").join(OsStr::from_bytes(name));
        let held = Holder::exec(&["--protocol", "mkdir"], &path);
        let (code, broken) = said(locket(&["break"]), &path);
        assert_eq!(code, Some(0), "{broken}");
        assert!(broken.contains("broke the mkdir lock of `$'"), "{broken}");
        held.end();
        assert_eq!(said(locket(&["break"]), &path).0, Some(1));
        let held = Holder::exec(&[], &path);
        assert_eq!(said(locket(&["break"]), &path).0, Some(69));
        held.end();

        let missing = dir.path("missing").join(OsStr::from_bytes(name));
        for (command, code) in [
            (locket(&["break"]), 66),
            (locket(&["run"]), 66),
            (locket(&["man"]), 66),
            (locket(&["exec", "-n", "-c", "true"]), 66),
            (locket(&["exec", "-n"]), 64),
        ] {
            let what = format!("{command:?}");
            let (got, text) = said(command, &missing);
            assert_eq!(got, Some(code), "{what}: {text}");
            assert!(text.contains("`$'"), "{what}: {text}");
        }
    }
}
