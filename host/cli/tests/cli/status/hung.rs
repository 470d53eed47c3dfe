//! A file system that does not answer.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

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

/// What examines the path may hang for longer than the caller lives.
#[test]
fn what_hangs_there_has_no_file_of_the_caller_open() {
    let Some(mut files) = file_system() else {
        return;
    };
    let dir = Dir::new();
    let lock = dir.path("lock");
    files.stop();
    let mut caller = Command::new("bash");
    let script = r#"exec 9>>"$1"; exec "$0" status --watch "$2""#;
    caller.args(["-c", script, env!("CARGO_BIN_EXE_locket")]);
    caller.arg(&lock).arg(files.path("hung"));
    let mut caller = caller.stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    let mut output = BufReader::new(caller.stdout.take().unwrap());
    output.read_line(&mut line).unwrap();
    assert!(line.contains(": unknown ("), "{line}");
    let has_it = |pid: &str| {
        let open = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
        let mut open = open.map(|open| fs::read_link(open.unwrap().path()));
        open.any(|open| open.is_ok_and(|open| open == lock))
    };
    let pid = caller.id();
    assert!(has_it(&pid.to_string()));
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    assert!(!children.is_empty());
    assert!(!children.split_whitespace().any(has_it));
    caller.kill().unwrap();
    caller.wait().unwrap();
    files.resume();
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
