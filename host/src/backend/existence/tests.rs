//! Races between a release or a takeover and another process.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, unlinkat};

use super::dirent::{self, EntryStat};
use super::owner_record::OwnerRecord;
use super::pid_file::PidFile;
use super::promise::Claim;
use super::release::unlink_own;
use super::takeover::{Takeover, TakeoverResult, take_over};
use super::{Backend, MarkerFormat};
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
    unlinkat(&dir, name, AtFlags::empty()).expect("the lock can be removed");
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

/// A format whose lock another process breaks and takes right after the first check.
#[derive(Debug, Default)]
struct Broken(AtomicBool);

impl MarkerFormat for Broken {
    fn suffix(&self) -> &'static str {
        PidFile.suffix()
    }

    fn make(&self, dir: &File, name: &OsStr, claim: &OwnerRecord) -> io::Result<Created> {
        PidFile.make(dir, name, claim)
    }

    fn claim(&self, dir: &File, name: &OsStr, seen: &EntryStat) -> io::Result<Option<Claim>> {
        PidFile.claim(dir, name, seen)
    }

    fn is(
        &self,
        dir: &File,
        name: &OsStr,
        seen: &EntryStat,
        created: &Created,
    ) -> io::Result<bool> {
        let is = PidFile.is(dir, name, seen, created);
        if !self.0.swap(true, Ordering::SeqCst) {
            unlinkat(dir, name, AtFlags::empty()).expect("the lock can be removed");
            PidFile
                .make(dir, name, &OwnerRecord::mine())
                .expect("the name is free");
        }
        is
    }
}

/// A release without the directory lock may check a lock that is broken meanwhile.
#[test]
fn a_release_without_the_directory_lock_spares_the_next_holder() {
    let folder = tempfile::tempdir().expect("a directory can be created");
    let dir = sys::open_dir(folder.path()).expect("the directory can be opened");
    let stranger = sys::open_dir(folder.path()).expect("the directory can be opened");
    fs4::FileExt::lock(&stranger).expect("the directory can be locked");
    let name = OsStr::new("lock");
    let created = PidFile
        .make(&dir, name, &OwnerRecord::mine())
        .expect("the name is free");
    let object = LockObject::marker(dir, name.into(), None);
    *object.as_marker().expect("it is a marker").created() = Some(created);
    Broken::default()
        .unlock(&object)
        .expect("the release works");
    let names = dirent::names(&object.file).expect("the directory can be read");
    assert_eq!(
        names,
        Some(vec![name.to_owned()]),
        "the next one's lock is gone"
    );
}
