//! Ranges that guests lock: rights, limits, deadlocks, and what the host takes away.

use std::pin::pin;
use std::sync::{Arc, Mutex};

use locket::sandbox::{GuestRanges, Hooks, Request, Tenant};
use locket::{HeldRange, Range};

use super::*;

pub(super) fn ranges(guest: &Sandbox) -> GuestRanges {
    guest.open_ranges("/jobs/file").unwrap()
}

fn with_rights(engine: &Engine, dir: &Dir, rights: Rights) -> Sandbox {
    let guest = Sandbox::builder(engine).grant_dir(dir.0.path(), "/jobs", rights);
    guest.unwrap().build()
}

pub(super) fn held(mode: Mode, range: impl Into<Range>) -> HeldRange {
    let range = range.into();
    HeldRange { mode, range }
}

#[test]
fn all_that_a_guest_opens_of_a_file_is_one_owner() {
    let dir = Dir::new();
    let engine = Engine::new();
    let [one, two] = [(); 2].map(|()| guest(&engine, dir.0.path(), Limits::new()));
    let (first, second) = (ranges(&one), ranges(&one));
    first.lock(EX, 0..10, None).unwrap();
    second.lock(EX, 5..20, Duration::ZERO).unwrap();
    assert_eq!(first.held(), [held(EX, 0..20)]);
    let other = ranges(&two);
    let error = other
        .lock(Mode::Shared, 19..30, Duration::ZERO)
        .unwrap_err();
    assert!(error.is_would_block(), "{error}");
    assert_eq!(
        other.query(Mode::Shared, ..).unwrap(),
        Some(held(EX, 0..20))
    );
    // Another handle unlocks, and the last one that is dropped unlocks the rest.
    second.unlock(15..).unwrap();
    drop(first);
    assert_eq!(second.held(), [held(EX, 0..15)]);
    drop(second);
    other.lock(EX, .., Duration::ZERO).unwrap();
    drop(one);
}

#[test]
fn rights_bound_modes_and_the_file_is_opened_for_writing_as_late_as_can_be() {
    let dir = Dir::new();
    std::fs::write(dir.path("file"), "content").unwrap();
    let engine = Engine::new();
    let reader = with_rights(&engine, &dir, Rights::READ_ONLY);
    let file = ranges(&reader);
    file.lock(Mode::Shared, .., None).unwrap();
    let error = file.lock(EX, .., None).unwrap_err();
    assert!(
        error.is_denied() && !error.to_string().contains("tmp"),
        "{error}"
    );
    file.unlock(..).unwrap();
    assert!(
        reader
            .open_ranges("/jobs/missing")
            .unwrap_err()
            .is_not_found()
    );
    assert!(reader.open_ranges("/other/file").unwrap_err().is_denied());
    assert!(
        reader
            .open_ranges("/jobs/../file")
            .unwrap_err()
            .is_invalid_path()
    );

    let writer = with_rights(&engine, &dir, Rights::LOCKS);
    let shared = ranges(&writer);
    shared.lock(Mode::Shared, 3..4, None).unwrap();
    #[cfg(target_os = "linux")]
    assert_eq!(open_for_writing(&dir), 0);
    shared.lock(EX, 5..6, None).unwrap();
    #[cfg(target_os = "linux")]
    assert_eq!(open_for_writing(&dir), 1);
    let other = Engine::new().open_ranges(dir.path("file")).unwrap();
    assert!(!other.try_lock(EX, 3..4).unwrap());
    assert_eq!(shared.held(), [held(Mode::Shared, 3..4), held(EX, 5..6)]);

    let settings = Sandbox::builder(&engine).protocols([Protocol::Flock]);
    let settings = settings.protocol(Protocol::Flock);
    let flock = settings.grant_dir(dir.0.path(), "/jobs", Rights::ALL);
    let error = flock
        .unwrap()
        .build()
        .open_ranges("/jobs/file")
        .unwrap_err();
    assert!(error.is_denied(), "{error}");
}

#[test]
fn the_file_that_was_opened_is_locked_exclusively_though_its_path_is_gone() {
    let dir = Dir::new();
    if !removes_open_files(&dir) {
        return;
    }
    std::fs::write(dir.path("file"), "content").unwrap();
    let guest = guest(&Engine::new(), dir.0.path(), Limits::new());
    let file = ranges(&guest);
    file.lock(Mode::Shared, 0..1, None).unwrap();
    std::fs::remove_file(dir.path("file")).unwrap();
    match file.lock(EX, 1..2, None) {
        Err(e) if cfg!(windows) && e.is_not_found() => {
            not_tested(format_args!("this system opens a file again by its name"));
            return;
        }
        locked => locked.unwrap(),
    }
    assert_eq!(file.held(), [held(Mode::Shared, 0..1), held(EX, 1..2)]);
    // Nothing was created in its place.
    assert!(dir.names().is_empty());
}

#[test]
fn limits_bound_ranges_waits_and_handles() {
    let dir = Dir::new();
    let engine = Engine::new();
    let limits = Limits::new().ranges(3).waiters(1).handles(2);
    let bounded = guest(&engine, dir.0.path(), limits);
    let file = ranges(&bounded);
    for byte in [0, 2, 4] {
        file.lock(EX, byte..=byte, None).unwrap();
    }
    assert!(file.lock(EX, 6..=6, None).unwrap_err().is_limit_exceeded());
    // One that makes them fewer is none too many; one that splits is.
    file.lock(EX, 1..=1, None).unwrap();
    assert_eq!(file.held().len(), 2);
    file.lock(EX, 6..9, None).unwrap();
    assert!(file.unlock(7..8).unwrap_err().is_limit_exceeded());
    assert_eq!(
        file.held(),
        [held(EX, 0..3), held(EX, 4..5), held(EX, 6..9)]
    );

    let other = ranges(&guest(&engine, dir.0.path(), Limits::new()));
    other.lock(EX, 100.., None).unwrap();
    file.unlock(..).unwrap();
    let mut wait = pin!(file.lock_async(EX, 100..101, None).unwrap());
    assert!(poll(&mut wait).is_pending());
    assert_eq!(bounded.usage().waiters, 1);
    assert_eq!(bounded.waits()[0].path, "/jobs/file");
    let error = file.lock(EX, 102..103, None).unwrap_err();
    assert!(error.is_limit_exceeded(), "{error}");
    // What is free may still be locked.
    file.lock(EX, 0..10, None).unwrap();
    bounded.cancel_waits();
    assert!(block_on(wait).unwrap_err().is_canceled());
    let _second = ranges(&bounded);
    assert!(
        bounded
            .open_ranges("/jobs/file")
            .unwrap_err()
            .is_limit_exceeded()
    );
    let limits = Limits::new().longest_wait(Some(Duration::from_millis(10)));
    bounded.set_limits(limits);
    assert!(file.lock(EX, 100.., None).unwrap_err().is_canceled());
}

#[test]
fn circles_of_guests_are_noticed_through_ranges_and_whole_files() {
    let dir = Dir::new();
    let engine = Engine::new();
    let guests = [(); 2].map(|()| guest(&engine, dir.0.path(), Limits::new()));
    let [one, two] = guests.each_ref().map(ranges);
    one.lock(EX, 0..1, None).unwrap();
    two.lock(EX, 1..2, None).unwrap();
    let mut waits = pin!(two.lock_suspended(EX, 0..1, STUCK).unwrap());
    assert!(poll(&mut waits).is_pending());
    let error = one.lock(EX, 1..2, STUCK).unwrap_err();
    assert!(error.is_deadlock(), "{error}");
    // What is held remains, and so does the wait of the other.
    assert_eq!(one.held(), [held(EX, 0..1)]);
    assert!(poll(&mut waits).is_pending());
    one.unlock(..).unwrap();
    block_on(waits).unwrap();

    // One waits for a range with a lock of another file in its hand, the other for that file.
    let whole = guests
        .each_ref()
        .map(|guest| open_as(guest, "whole", Protocol::Fcntl));
    let hold = whole[0].acquire(EX, None).unwrap();
    let mut waits = pin!(one.lock_suspended(EX, 1..2, STUCK).unwrap());
    assert!(poll(&mut waits).is_pending());
    let error = whole[1].acquire(EX, STUCK).unwrap_err();
    assert!(error.is_deadlock(), "{error}");
    two.unlock(..).unwrap();
    block_on(waits).unwrap();
    hold.release().unwrap();
}

#[test]
fn the_lock_of_the_whole_file_is_in_the_way_of_the_same_guest() {
    let dir = Dir::new();
    let guest = guest(&Engine::new(), dir.0.path(), Limits::new());
    let whole = open_as(&guest, "file", Protocol::Native);
    let file = ranges(&guest);
    let hold = whole.acquire(EX, None).unwrap();
    assert!(file.lock(EX, 0..1, None).unwrap_err().is_deadlock());
    assert!(
        file.lock(EX, 0..1, Duration::ZERO)
            .unwrap_err()
            .is_would_block()
    );
    hold.release().unwrap();
    file.lock(EX, 0..1, None).unwrap();
    assert!(whole.acquire(EX, None).unwrap_err().is_deadlock());
    file.unlock(..).unwrap();
    whole.acquire(EX, None).unwrap().release().unwrap();
}

#[test]
fn the_host_takes_ranges_away() {
    let dir = Dir::new();
    let engine = Engine::new();
    let [one, two] = [(); 2].map(|()| guest(&engine, dir.0.path(), Limits::new()));
    let (file, other) = (ranges(&one), ranges(&two));
    let revoke: [fn(&Sandbox); 2] = [Sandbox::release_all, |guest| {
        assert!(guest.revoke("/jobs/file") && !guest.revoke("/jobs/another"));
    }];
    for revoke in revoke {
        file.lock(EX, 0..10, None).unwrap();
        other.lock(EX, 10..20, None).unwrap();
        let mut wait = pin!(file.lock_async(EX, 15.., None).unwrap());
        assert!(poll(&mut wait).is_pending());
        revoke(&one);
        assert!(block_on(wait).unwrap_err().is_canceled());
        assert_eq!(file.held(), []);
        other.lock(EX, .., Duration::ZERO).unwrap();
        other.unlock(..).unwrap();
    }
    file.lock(EX, 0..10, None).unwrap();
    assert!(one.revoke_grant("/jobs"));
    assert_eq!(file.held(), []);
    assert!(file.lock(EX, 0..10, None).unwrap_err().is_denied());
    other.lock(EX, .., Duration::ZERO).unwrap();
}

#[test]
fn hooks_are_told_of_ranges() {
    #[derive(Default)]
    struct Told(Mutex<Vec<String>>);
    impl Told {
        fn note(&self, what: &str, request: &Request<'_>) {
            let Range { start, length } = request.range.unwrap();
            let mut told = self.0.lock().unwrap();
            told.push(format!("{what} {} {start}+{length}", request.path));
        }
    }
    impl Hooks for Told {
        fn admit(&self, request: &Request<'_>) -> bool {
            request.range != Some(Range::from(7..8))
        }
        fn waiting(&self, request: &Request<'_>) {
            self.note("waiting", request);
        }
        fn acquired(&self, request: &Request<'_>, _: Duration) {
            self.note("acquired", request);
        }
        fn refused(&self, request: &Request<'_>, _: &locket::Error) {
            self.note("refused", request);
        }
        fn abandoned(&self, request: &Request<'_>, _: Duration) {
            self.note("abandoned", request);
        }
    }
    let dir = Dir::new();
    let told = Arc::new(Told::default());
    let engine = Engine::new();
    let guest = Sandbox::builder(&engine).hooks(Arc::clone(&told) as _);
    let guest = guest.grant_dir(dir.0.path(), "/jobs", Rights::LOCKS);
    let file = ranges(&guest.unwrap().build());
    let host = engine.open_ranges(dir.path("file")).unwrap();
    file.lock(EX, 0..3, None).unwrap();
    assert!(file.lock(EX, 7..8, None).unwrap_err().is_denied());
    host.lock(EX, 10..11, None).unwrap();
    let mut wait = Box::pin(file.lock_async(EX, 10..12, None).unwrap());
    assert!(poll(&mut wait).is_pending());
    drop(wait);
    let told = told.0.lock().unwrap();
    let path = "/jobs/file";
    assert_eq!(
        *told,
        [
            format!("acquired {path} 0+3"),
            format!("refused {path} 7+1"),
            format!("waiting {path} 10+2"),
            format!("abandoned {path} 10+2"),
        ]
    );
}

#[test]
fn guests_of_one_owner_share_what_they_hold() {
    let dir = Dir::new();
    let settings = Sandbox::builder(&Engine::new());
    let settings = settings
        .grant_dir(dir.0.path(), "/jobs", Rights::LOCKS)
        .unwrap();
    let tenant = Tenant::builder(settings).one_owner().build();
    let [one, two] = [(); 2].map(|()| tenant.sandbox().build());
    let (first, second) = (ranges(&one), ranges(&two));
    first.lock(EX, 0..10, None).unwrap();
    second.lock(EX, 5..15, Duration::ZERO).unwrap();
    drop(first);
    assert_eq!(second.held(), [held(EX, 0..15)]);
}

#[test]
fn a_snapshot_lists_the_ranges_of_each_owner() {
    let dir = Dir::new();
    let engine = Engine::new();
    let one = Sandbox::builder(&engine).label("one");
    let one = one.grant_dir(dir.0.path(), "/jobs", Rights::LOCKS).unwrap();
    let one = one.build();
    let host = engine.open_ranges(dir.path("file")).unwrap();
    let file = ranges(&one);
    file.lock(EX, 0..3, None).unwrap();
    host.lock(Mode::Shared, 5..7, None).unwrap();
    let mut wait = Box::pin(file.lock_async(EX, 6..9, None).unwrap());
    assert!(poll(&mut wait).is_pending());

    let listed = engine.snapshot().ranges;
    let of = |label: Option<&str>| {
        let mut found = listed.iter().filter(|one| one.label.as_deref() == label);
        let found = found.next().expect("each owner is listed");
        (found.path.clone(), found.held.clone(), found.waiting)
    };
    let path = dir.path("file");
    assert_eq!(
        of(Some("one")),
        (path.clone(), vec![held(EX, 0..3)], 1),
        "{listed:?}"
    );
    assert_eq!(of(None), (path, vec![held(Mode::Shared, 5..7)], 0));
    drop((wait, file, host));
    eventually("no range is open", || engine.snapshot().ranges.is_empty());
}

/// How many descriptors of the file are open for writing.
#[cfg(target_os = "linux")]
fn open_for_writing(dir: &Dir) -> usize {
    let written = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    let written = written.filter(|fd| {
        let link = std::fs::read_link(fd.path()).unwrap_or_default();
        let info = Path::new("/proc/self/fdinfo").join(fd.file_name());
        let info = std::fs::read_to_string(info).unwrap_or_default();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
        let flags = flags.map_or("0", str::trim);
        link == dir.path("file") && u32::from_str_radix(flags, 8).unwrap() & 3 != 0
    });
    written.count()
}
