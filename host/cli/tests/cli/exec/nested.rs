//! A command that waits for the lock with which it is run.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;

use super::{is_free, stuck};
use crate::support::{Dir, kill, locket, output};

const LOCKET: &str = env!("CARGO_BIN_EXE_locket");

/// A command line in which `L` is the tool, in a directory.
fn line(dir: &Dir, words: &str) -> Command {
    let mut words = words.split(' ').map(|word| word.replace('L', LOCKET));
    let mut line = Command::new(words.next().unwrap());
    line.args(words)
        .current_dir(dir.path(""))
        .stdin(Stdio::null());
    line
}

/// A shell that has started, and its first line on standard error.
fn started(dir: &Dir, script: &str) -> (Child, String) {
    let mut shell = Command::new("bash");
    shell.args(["-c", &script.replace('L', LOCKET)]);
    shell.current_dir(dir.path("")).stderr(Stdio::piped());
    let mut child = shell.spawn().unwrap();
    let mut said = String::new();
    let stderr = child.stderr.as_mut().unwrap();
    BufReader::new(stderr).read_line(&mut said).unwrap();
    (child, said)
}

#[test]
fn a_wait_for_the_process_that_waits_for_this_one_fails_at_once() {
    let dir = Dir::new();
    for words in [
        "L exec l -- L exec l true",
        "L exec -o l -- L exec l true",
        "L exec -s l -- L exec l true",
        "L exec l -- L exec -s l true",
        "L exec l -- L exec m -- L exec -s n l -- true",
        "L exec l -- env L exec l true",
        "L exec --protocol flock l -- L exec l true",
        // Of `m` it is not certain.
        "flock m L exec l -- L exec m l -- true",
    ] {
        let output = output(line(&dir, words));
        assert_eq!(output.status.code(), Some(69), "{words}: {output:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(
            said.contains("waiting for the lock would never end"),
            "{said}"
        );
        assert!(said.contains("`l` is locked by process "), "{said}");
    }
    assert!(is_free(&[], &dir.path("l")));
}

#[test]
fn what_ends_by_itself_is_not_refused() {
    let dir = Dir::new();
    for (words, expected) in [
        ("L exec l -- L exec -n l true", 1),
        ("L exec l -- L exec -w 0.1 -E 75 l true", 75),
        ("L exec -s l -- L exec -s l true", 0),
        ("L exec l -- L exec m true", 0),
        (
            "L exec --protocol flock l -- L exec --protocol fcntl l true",
            0,
        ),
    ] {
        let output = output(line(&dir, words));
        assert_eq!(output.status.code(), Some(expected), "{words}");
        assert!(output.stderr.is_empty(), "{words}: {output:?}");
    }
}

#[test]
fn a_wait_that_may_be_in_vain_is_told() {
    let dir = Dir::new();
    for script in [
        "L exec l -- sh -c 'L exec l true; true'",
        "L exec --protocol fcntl l -- L exec --protocol fcntl l true",
        "L exec --protocol mkdir l.m -- L exec --protocol mkdir l.m true",
        "L exec -F l L exec l true",
        "exec 9>l; flock 9; L exec l true; true",
    ] {
        let (mut child, said) = started(&dir, script);
        assert!(said.contains("is locked by "), "{script}: {said}");
        assert!(said.contains("this waits in vain"), "{script}: {said}");
        assert_eq!(child.try_wait().unwrap(), None, "{script}");
        kill(&child, Signal::KILL);
        child.wait().unwrap();
        end_all(&dir);
    }
}

/// Ends every process that works in the directory.
fn end_all(dir: &Dir) {
    let here = dir.path("").canonicalize().unwrap();
    for process in std::fs::read_dir("/proc").unwrap().flatten() {
        let works_here =
            std::fs::read_link(process.path().join("cwd")).is_ok_and(|cwd| cwd == here);
        let pid = process
            .file_name()
            .to_str()
            .and_then(|pid| pid.parse().ok());
        if let Some(pid) = pid
            .filter(|_| works_here)
            .and_then(rustix::process::Pid::from_raw)
        {
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
    }
}

/// The process that holds the lock does not wait for the one that waits.
#[test]
fn a_lock_that_an_ancestor_releases_is_granted() {
    let dir = Dir::new();
    let script = format!(
        "L exec l -- sh -c '{{ L exec -w {} l sh -c \"echo granted >answer\" & }}; read line'",
        stuck()
    );
    let mut shell = Command::new("bash");
    shell
        .args(["-c", &script.replace('L', LOCKET)])
        .current_dir(dir.path(""));
    let mut outer = shell.stdin(Stdio::piped()).spawn().unwrap();
    let mut status = locket(&["status", "--json"]);
    status.arg(dir.path("l"));
    locket_test_support::waits::eventually("the inner one waits", || {
        let json: serde_json::Value =
            serde_json::from_slice(&status.output().unwrap().stdout).unwrap();
        json["waiters"]
            .as_array()
            .is_some_and(|waiters| !waiters.is_empty())
    });
    drop(outer.stdin.take());
    assert_eq!(
        outer.wait().unwrap().code(),
        Some(1),
        "`read` reads nothing"
    );
    locket_test_support::waits::eventually("the inner one runs", || {
        std::fs::read_to_string(dir.path("answer")).is_ok_and(|answer| answer == "granted\n")
    });
}
