//! Nothing is left in the directory, however the tool ends.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::{Child, Stdio};

use locket_test_support::fuse::Locks;
use locket_test_support::waits::eventually;
use rustix::process::{Pid, Signal, kill_process};

use super::file_system;
use crate::support::{kill, locket};

/// How much is in the scratch directory, if there is one.
fn scratch(dir: &Path) -> Option<usize> {
    let mut entries = fs::read_dir(dir).unwrap();
    let scratch = entries.next()?.unwrap().path();
    Some(fs::read_dir(scratch).map_or(0, Iterator::count))
}

/// The processes of the tool whose command line has all of these words.
fn processes(words: &[&[u8]]) -> Vec<i32> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let with_words = processes.filter(|process| {
        let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
        let line: Vec<_> = line.split(|byte| *byte == 0).collect();
        words.iter().all(|word| line.contains(word))
    });
    let numbers = with_words.filter_map(|process| process.file_name().to_str()?.parse().ok());
    numbers.collect()
}

/// Whether a process keeps a scratch directory there.
fn is_kept(dir: &Path) -> bool {
    !processes(&[b"--keep", dir.as_os_str().as_bytes()]).is_empty()
}

fn start(dir: &Path) -> Child {
    let mut check = locket(&["check"]);
    let check = check.arg(dir).stdout(Stdio::null());
    check.spawn().unwrap()
}

#[test]
fn it_removes_what_it_has_made_when_it_is_ended() {
    for signal in [Signal::INT, Signal::TERM, Signal::KILL] {
        // The locks keep it busy for long enough.
        let Some(files) = file_system(Locks::Unanswered) else {
            return;
        };
        let mut check = start(files.dir());
        eventually("it tries something", || {
            scratch(files.dir()).is_some_and(|n| n > 0)
        });
        kill(&check, signal);
        check.wait().unwrap();
        eventually("all is removed", || scratch(files.dir()).is_none());
    }
}

#[test]
fn what_hangs_is_removed_when_the_file_system_is_back() {
    let Some(mut files) = file_system(Locks::OfKernel) else {
        return;
    };
    files.stop();
    let mut check = start(files.dir());
    assert_eq!(check.wait().unwrap().code(), Some(69));
    assert!(is_kept(files.dir()), "its keeper hangs");
    files.resume();
    eventually("the keeper ends", || !is_kept(files.dir()));
    assert_eq!(scratch(files.dir()), None);
}

/// It is no verdict on the directory.
#[test]
fn a_process_that_is_killed_is_a_failure_of_the_system() {
    let Some(files) = file_system(Locks::Unanswered) else {
        return;
    };
    let mut check = locket(&["check"]);
    check
        .arg(files.dir())
        .stderr(Stdio::piped())
        .stdout(Stdio::null());
    let check = check.spawn().unwrap();
    eventually("it tries something", || {
        scratch(files.dir()).is_some_and(|n| n > 0)
    });
    let scratch = fs::read_dir(files.dir()).unwrap().next().unwrap().unwrap();
    let actors = processes(&[b"check-worker", scratch.path().as_os_str().as_bytes()]);
    assert!(!actors.is_empty());
    for actor in actors {
        // It may have ended by itself.
        let _ = kill_process(Pid::from_raw(actor).unwrap(), Signal::KILL);
    }
    let output = check.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(71), "{said}");
    assert!(said.contains("another process of this program"), "{said}");
}
