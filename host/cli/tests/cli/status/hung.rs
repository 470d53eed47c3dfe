//! A file system that does not answer.

use std::process::Command;

use locket_test_support::fuse::{self, FileSystem, Switches};
use serde_json::{Value, json};

use super::words;
use crate::support::{Dir, Holder, locket, output};

#[test]
#[ignore = "started by other tests"]
fn daemon() {
    fuse::daemon::serve();
}

fn file_system() -> Option<FileSystem> {
    FileSystem::of_test("status::hung::daemon", Switches::ALL[0])
}

/// A shell that does this with the path `$1`, and then waits.
fn shell(script: &str, path: &std::path::Path) -> Holder {
    let mut shell = Command::new("bash");
    shell.arg("-c").arg(format!("{script}; echo ready; cat; :"));
    shell.arg("bash").arg(path);
    Holder::start(shell)
}

/// The holder has to be searched among all processes, one of which has a file open there.
#[test]
fn it_does_not_matter_if_other_processes_use_it() {
    let Some(mut files) = file_system() else {
        return;
    };
    let dir = Dir::new();
    let lock = dir.path("lock");
    let innocent = shell(r#"exec 9>>"$1""#, &files.path("file"));
    let holder = shell(r#"exec 9>>"$1"; flock 9"#, &lock);
    files.stop();
    let words = words(&lock);
    let pid = holder.pid();
    assert!(
        words.contains(&format!("process {pid}, bash -c")),
        "{words}"
    );
    files.resume();
    innocent.end();
    holder.end();
}

#[test]
fn a_path_there_does_not_silence_the_others() {
    let Some(mut files) = file_system() else {
        return;
    };
    let dir = Dir::new();
    let (hung, lock) = (files.path("hung"), dir.path("lock"));
    let holder = Holder::flock(&lock);
    files.stop();
    let paths = [hung.to_str().unwrap(), lock.to_str().unwrap()];
    let lines = output(locket(&[&["status"][..], &paths].concat()));
    assert_eq!(lines.status.code(), Some(66));
    let lines = String::from_utf8(lines.stdout).unwrap();
    let lines: Vec<_> = lines.lines().collect();
    let [first, second] = lines.as_slice() else {
        panic!("{lines:?}");
    };
    assert!(
        first.ends_with(": unknown (its file system does not answer)"),
        "{first}"
    );
    assert!(
        second.contains(": held exclusively by process "),
        "{second}"
    );

    let array = output(locket(&[&["status", "--json"][..], &paths].concat()));
    let array: Value = serde_json::from_slice(&array.stdout).unwrap();
    assert_eq!(
        (&array[0]["held"], &array[0]["exists"]),
        (&json!(null), &json!(null))
    );
    assert_eq!(array[0]["unknown"], json!("no-answer"));
    assert_eq!(array[1]["held"], json!(true));
    files.resume();
    holder.end();
}
