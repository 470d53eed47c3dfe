//! Guests of a sandbox, without a runtime: where their paths lead, and what they may use. The
//! workspace's tests have components.
#![cfg(all(target_os = "linux", feature = "sandbox"))]

mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::mpsc;
use std::thread;

use common::*;
use locket::sandbox::{GuestLock, Limits, Rights, Sandbox};
use locket::{Engine, OnRelease, Protocol, Result};

fn guest(engine: &Engine, dir: &Dir, limits: Limits) -> Sandbox {
    let guest = Sandbox::builder(engine).limits(limits);
    let guest = guest.grant_dir(dir.0.path(), "/jobs", Rights::READ_WRITE);
    guest.unwrap().build()
}

/// How many descriptors of this process are of files in a directory.
fn descriptors_in(dir: &std::path::Path) -> usize {
    let all = fs::read_dir("/proc/self/fd").unwrap().flatten();
    all.filter_map(|entry| fs::read_link(entry.path()).ok())
        .filter(|file| file.starts_with(dir) && file != dir)
        .count()
}

fn open(guest: &Sandbox, path: &str) -> Result<GuestLock> {
    guest.open(path, None, OnRelease::Keep)
}

#[test]
fn what_is_given_back_counts_no_more() {
    let dir = Dir::new();
    let limits = Limits::new().handles(2).held(1).waiters(1);
    let guest = guest(&Engine::new(), &dir, limits);
    let stranger = dir.lock(&Engine::new()).acquire(EX, STUCK).unwrap();
    // One more time than each limit allows.
    for _ in 0..3 {
        let one = open(&guest, "/jobs/one").unwrap();
        let other = open(&guest, "/jobs/lock").unwrap();
        let more = open(&guest, "/jobs/one").unwrap_err();
        assert!(more.is_limit_exceeded(), "{more}");
        let waits = other.acquire_async(EX, None).unwrap();
        let mut waits = std::pin::pin!(waits);
        assert!(poll(&mut waits.as_mut()).is_pending());
        let more = other.acquire(EX, STUCK).unwrap_err();
        assert!(more.is_limit_exceeded(), "{more}");
        let hold = one.acquire(EX, STUCK).unwrap();
        let more = one.acquire(SH, STUCK).unwrap_err();
        assert!(more.is_limit_exceeded(), "{more}");
        hold.release().unwrap();
    }
    drop(stranger);
}

#[test]
fn a_grant_ends_where_its_name_does() {
    let dir = Dir::new();
    let guest = guest(&Engine::new(), &dir, Limits::new());
    assert!(open(&guest, "/jobs/lock").is_ok());
    for outside in ["/jobsworth/lock", "/job/lock", "/lock", "lock"] {
        assert!(open(&guest, outside).unwrap_err().is_denied(), "{outside}");
    }
}

#[test]
fn no_link_leads_out() {
    let (dir, outside) = (Dir::new(), Dir::new());
    fs::write(outside.path("there"), "").unwrap();
    symlink(outside.path("there"), dir.path("to_file")).unwrap();
    symlink(outside.path("missing"), dir.path("to_nothing")).unwrap();
    symlink(outside.0.path(), dir.path("to_folder")).unwrap();
    symlink(dir.path("in_grant"), dir.path("absolute")).unwrap();
    let guest = guest(&Engine::new(), &dir, Limits::new());
    for path in [
        "to_file",
        "to_nothing",
        "to_folder/there",
        "to_folder/new",
        "absolute",
        "../there",
        "a/../../there",
    ] {
        let error = open(&guest, &format!("/jobs/{path}")).unwrap_err();
        assert!(error.is_invalid_path() || error.is_not_found(), "{error}");
    }
    let names = fs::read_dir(outside.0.path()).unwrap();
    assert_eq!(names.count(), 1);
    assert!(!dir.path("in_grant").exists());
}

#[test]
fn only_an_empty_file_with_a_single_name_is_removed() {
    let dir = Dir::new();
    let engine = Engine::new();
    let guest = guest(&engine, &dir, Limits::new());
    fs::write(dir.path("data"), "precious").unwrap();
    fs::write(dir.path("twice"), "").unwrap();
    fs::hard_link(dir.path("twice"), dir.path("other")).unwrap();
    for (name, stays) in [("data", true), ("twice", true), ("new", false)] {
        for protocol in [Protocol::Native, Protocol::Flock, Protocol::Fcntl] {
            let path = format!("/jobs/{name}");
            let lock = guest.open(&path, Some(protocol), OnRelease::Remove);
            let hold = lock.unwrap().acquire(EX, STUCK);
            hold.unwrap().release().unwrap();
            assert_eq!(dir.path(name).exists(), stays, "{name}, {protocol}");
        }
    }
    assert_eq!(fs::read(dir.path("data")).unwrap(), b"precious");
}

#[test]
fn removal_and_existence_locks_take_rights_of_their_own() {
    let dir = Dir::new();
    let guest = Sandbox::builder(&Engine::new());
    let guest = guest.grant_dir(dir.0.path(), "/jobs", Rights::LOCKS);
    let guest = guest.unwrap().build();
    let open = |protocol, on_release| guest.open("/jobs/one", Some(protocol), on_release);
    for &protocol in Protocol::ALL {
        let kept = open(protocol, OnRelease::Keep);
        assert_eq!(kept.is_ok(), !protocol.is_existence_lock(), "{protocol}");
        let removed = open(protocol, OnRelease::Remove).unwrap_err();
        assert!(removed.is_denied(), "{protocol}: {removed}");
    }
}

#[test]
fn what_tells_of_losses_counts_and_keeps_no_file_open() {
    let dir = Dir::new();
    let guest = guest(&Engine::new(), &dir, Limits::new().handles(3));
    let mut losses = Vec::new();
    for number in 0..5 {
        let lock = open(&guest, &format!("/jobs/{number}"));
        // Two for each lock as long as it is open.
        let Ok(lock) = lock else { break };
        losses.push(lock.lost().unwrap());
    }
    assert_eq!(losses.len(), 3);
    assert_eq!(descriptors_in(dir.0.path()), 0);
    let more = open(&guest, "/jobs/lock").unwrap_err();
    assert!(more.is_limit_exceeded(), "{more}");
    losses.pop();
    let lock = open(&guest, "/jobs/lock").unwrap();
    let more = (0..4).map(|_| lock.lost()).collect::<Result<Vec<_>>>();
    assert!(more.unwrap_err().is_limit_exceeded());
}

#[test]
fn files_that_a_guest_created_count_until_they_are_gone() {
    let dir = Dir::new();
    fs::write(dir.path("old"), "").unwrap();
    let guest = guest(&Engine::new(), &dir, Limits::new().created(2));
    for path in ["/jobs/one", "/jobs/two", "/jobs/one", "/jobs/old"] {
        open(&guest, path).unwrap();
    }
    let more = open(&guest, "/jobs/three").unwrap_err();
    assert!(more.is_limit_exceeded(), "{more}");
    assert!(!dir.path("three").exists());
    fs::remove_file(dir.path("two")).unwrap();
    open(&guest, "/jobs/three").unwrap();
}

#[test]
fn nothing_is_created_within_an_existence_lock() {
    let dir = Dir::new();
    fs::create_dir(dir.path("k.lock")).unwrap();
    symlink("k.lock", dir.path("link")).unwrap();
    let guest = guest(&Engine::new(), &dir, Limits::new());
    for path in ["/jobs/k.lock/vm.4194303", "/jobs/link/vm.4194303"] {
        let refused = open(&guest, path).unwrap_err();
        assert!(refused.is_denied(), "{refused}");
    }
    assert_eq!(fs::read_dir(dir.path("k.lock")).unwrap().count(), 0);
}

#[test]
fn guests_that_wait_for_each_other_learn_it() {
    let dir = Dir::new();
    let engine = Engine::new();
    let guests = [(); 2].map(|()| guest(&engine, &dir, Limits::new()));
    let [first, second] = guests.each_ref().map(|guest| {
        let open = |path| open(guest, path).unwrap();
        [open("/jobs/one"), open("/jobs/two")]
    });
    let one = first[0].acquire(EX, STUCK).unwrap();
    let two = second[1].acquire(EX, STUCK).unwrap();
    let (done, told) = mpsc::channel();
    thread::scope(|scope| {
        let waits = scope.spawn(|| {
            let waited = second[0].acquire(EX, STUCK).map(drop);
            done.send(()).unwrap();
            waited
        });
        eventually("the first wait", || {
            format!("{:?}", second[0]).contains("waiting: 1")
        });
        // Itself, and around the corner.
        for lock in &first {
            let hopeless = lock.acquire(EX, STUCK).unwrap_err();
            assert!(hopeless.is_deadlock(), "{hopeless}");
        }
        assert!(told.try_recv().is_err());
        one.release().unwrap();
        waits.join().unwrap().unwrap();
    });
    two.release().unwrap();
}
