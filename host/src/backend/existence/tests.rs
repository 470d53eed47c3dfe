//! Races between a release or a takeover and another process.

#[cfg(unix)]
mod kernel_locks;

use std::ffi::OsStr;
use std::fs::File;

use super::MarkerFormat;
use super::dirent::{self, EntryStat};
use super::owner_record::OwnerRecord;
use super::pid_file::PidFile;
use super::release::unlink_own;
use super::takeover::{Takeover, TakeoverResult, take_over};
use crate::object::{Created, LockObject};
use crate::sys;

/// A directory with a lock of the first holder that the second has taken since.
fn taken() -> (tempfile::TempDir, File, [Created; 2], EntryStat) {
    let folder = tempfile::tempdir().expect("a directory can be created");
    let dir = sys::open_dir(folder.path()).expect("the directory can be opened");
    let name = OsStr::new("lock");
    let make = || {
        PidFile
            .make(&dir, name, &OwnerRecord::mine())
            .expect("the name is free")
    };
    let first = make();
    let seen = EntryStat::at(&dir, name)
        .expect("the entry can be read")
        .expect("the lock exists");
    sys::unlink(&dir, name, None).expect("the lock can be removed");
    let created = [first, make()];
    (folder, dir, created, seen)
}

fn is_there(dir: &File, created: &Created) -> bool {
    let seen = EntryStat::at(dir, OsStr::new("lock")).expect("the directory can be read");
    let others = dirent::names(dir).expect("the directory can be read");
    others.is_some_and(|others| others.len() == 1)
        && seen.is_some_and(|seen| {
            PidFile
                .is(dir, OsStr::new("lock"), &seen, created)
                .expect("the directory can be read")
        })
}

#[test]
fn a_release_that_comes_too_late_puts_the_entry_back() {
    let (_folder, dir, [first, second], _) = taken();
    let name = OsStr::new("lock");
    assert!(!unlink_own(&PidFile, &dir, name, &first).expect("the removal works"));
    assert!(is_there(&dir, &second));
    assert!(unlink_own(&PidFile, &dir, name, &second).expect("the removal works"));
    let names = dirent::names(&dir).expect("the directory can be read");
    assert_eq!(names, Some(Vec::new()));
}

#[test]
fn a_takeover_that_comes_too_late_leaves_the_entry() {
    let (_folder, dir, [_, second], seen) = taken();
    let object = LockObject::marker(
        dir.try_clone().expect("the descriptor can be cloned"),
        "lock".into(),
        None,
    );
    let name = object.as_marker().expect("it is a marker");
    let mine = OwnerRecord::mine();
    let seized = take_over(&PidFile, &dir, name, &seen, Takeover::AnyHolder, &mine);
    assert!(matches!(seized, Ok(TakeoverResult::Gone)));
    assert!(is_there(&dir, &second));
}
