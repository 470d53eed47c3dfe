//! Races between a release or a takeover and another process.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, unlinkat};

use super::dirent::{self, EntryStat};
use super::mkdir::Mkdir;
use super::owner_record::OwnerRecord;
use super::pid_file::PidFile;
use super::promise::Claim;
use super::release::unlink_own;
use super::takeover::{Takeover, TakeoverResult, take_over};
use super::{Backend, MarkerFormat, Request};
use crate::object::{Created, LockObject};
use crate::protocol::Protocol;
use crate::sys;
use crate::types::Mode;

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

/// Whoever waits for a lock watches the file that its holder keeps locked.
#[test]
fn the_file_that_a_holder_keeps_locked_is_found_by_who_waits() {
    let folder = tempfile::tempdir().expect("a directory can be created");
    let open = || {
        let dir = sys::open_dir(folder.path()).expect("the directory can be opened");
        LockObject::marker(dir, "lock".into(), None)
    };
    let request = Request {
        mode: Mode::Exclusive,
        protocol: Protocol::Mkdir,
        stale_after: None,
        fencing: false,
    };
    let (holder, waiter) = (open(), open());
    assert!(Mkdir.try_lock(&holder, request).expect("a try works"));
    assert!(Mkdir.holder_marker(&waiter).is_none());
    // Twice, since the second look may rely on the first.
    for _ in 0..2 {
        assert!(!Mkdir.try_lock(&waiter, request).expect("a try works"));
        let found = Mkdir.holder_marker(&waiter).expect("it is known");
        let carrier = holder.carrier().expect("the holder has it open");
        let number = |file: &File| file.metadata().expect("it is open").ino();
        assert_eq!(number(&found), number(&carrier));
    }
    Mkdir.unlock(&holder).expect("the release works");
    assert!(Mkdir.try_lock(&waiter, request).expect("a try works"));
    assert!(Mkdir.holder_marker(&waiter).is_none());
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
