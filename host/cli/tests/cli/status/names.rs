//! One line for each path, even if its name contains a line break.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::process::Command;

use serde_json::{Value, json};

use super::{status, words};
use crate::support::{Dir, Holder, locket, output, python};

#[test]
fn a_name_is_one_word_of_a_shell_on_one_line() {
    let dir = Dir::new();
    for name in [&b"a: free\nb"[..], b"\x1b[2J", b"\xff'\\", b"a: free"] {
        let path = dir.path("").join(OsStr::from_bytes(name));
        std::fs::write(&path, "").unwrap();
        let mut status = locket(&["status"]);
        status.arg(&path);
        let line = String::from_utf8(output(status).stdout).unwrap();
        assert_eq!(line.lines().count(), 1, "{line:?}");
        assert!(!line.trim_end().contains(char::is_control), "{line:?}");
        let word = line.strip_suffix(": free\n").unwrap();
        let mut bash = Command::new("bash");
        bash.arg("-c").arg(format!("printf %s {word}"));
        assert_eq!(output(bash).stdout, path.as_os_str().as_bytes(), "{word}");
    }
}

#[test]
fn json_has_the_bytes_of_a_name_that_is_not_unicode() {
    let dir = Dir::new();
    let path = dir.path("").join(OsStr::from_bytes(b"a\xff"));
    let mut asked = locket(&["status", "--json"]);
    asked.arg(&path);
    let answer: Value = serde_json::from_slice(&output(asked).stdout).unwrap();
    assert!(answer["path"].as_str().unwrap().ends_with("/a\u{fffd}"));
    assert_eq!(answer["path_bytes"], json!(path.as_os_str().as_bytes()));
}

#[test]
fn a_command_is_shown_whole_and_on_one_line() {
    let dir = Dir::new();
    let lock = dir.path("lock");
    let script = "fcntl.flock(f, fcntl.LOCK_EX)\nprint('ready', flush=True)\nsys.stdin.read()";
    let mut holder = python(script, &lock);
    holder.arg(OsStr::from_bytes(b"\xff")).arg("end");
    let holder = Holder::start(holder);
    let status = status(&lock);
    let command = status["holders"][0]["command"].as_str().unwrap();
    assert!(
        command.contains(r" -c $'import fcntl, signal, struct, sys\nf = "),
        "{command}"
    );
    assert!(command.ends_with(r" $'\377' end"), "{command}");
    assert!(!words(&lock).contains('\n'));
    holder.end();
}
