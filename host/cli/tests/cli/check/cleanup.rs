//! Nothing is left in the directory, however the tool ends.

use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};

use locket_test_support::fuse::Locks;
use locket_test_support::waits::eventually;
use rustix::process::Signal;

use super::file_system;
use crate::support::{kill, locket};

/// How much is in the scratch directory, if there is one.
fn scratch(dir: &Path) -> Option<usize> {
    let mut entries = fs::read_dir(dir).unwrap();
    let scratch = entries.next()?.unwrap().path();
    Some(fs::read_dir(scratch).map_or(0, Iterator::count))
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
    check.wait().unwrap();
    files.resume();
    eventually("all is removed", || scratch(files.dir()).is_none());
}
