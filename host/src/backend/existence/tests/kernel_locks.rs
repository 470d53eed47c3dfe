//! The kernel locks that a holder and a release keep, where a system has them.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use super::super::dirent::{self, EntryStat};
use super::super::mkdir::Mkdir;
use super::super::owner_record::OwnerRecord;
use super::super::pid_file::PidFile;
use super::super::promise::Claim;
use super::super::{Backend, MarkerFormat, Request};
use crate::object::{Created, LockObject};
use crate::protocol::Protocol;
use crate::sys;
use crate::types::Mode;

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
        let identity = |file| sys::entry_of(file).expect("it is open").identity;
        assert_eq!(identity(&found), identity(&carrier));
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
            sys::unlink(dir, name, None).expect("the lock can be removed");
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
