//! What only guests can show: paths of their own, labels, deadlocks, traps, and the host as a
//! holder in the engine of its guests.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use locket::sandbox::Rights;
use locket::{LockFile, Mode, Protocol};
use locket_test_support::process::{Process, peer};
use locket_test_support::subject::{Stand, Subject};
use locket_test_support::waits::{AT_ONCE, STUCK, eventually, waiters};
use locket_tests::stands::{GuestSubject, Guests};

fn stand(protocol: Protocol) -> Guests {
    <Guests as Stand>::new(protocol)
}

/// A guest that has opened the lock as `a`.
fn guest(stand: &Guests) -> GuestSubject {
    let mut guest = stand.start_with(stand.ctx(Rights::READ_WRITE).build());
    assert_eq!(guest.reply("open a /locks/lock"), "ok");
    guest
}

/// The lock for this process, in the engine of the guests.
fn host(stand: &Guests) -> LockFile {
    let (path, options) = (stand.site().lock_path(), stand.site().options());
    let lock = stand.engine().open_with(path, &options);
    lock.expect("the lock can be opened")
}

/// 1. The directory has three names, and the working directory is one.
#[test]
fn one_file_is_one_lock_by_every_name_of_its_directory() {
    let stand = stand(Protocol::Native);
    let dir = &stand.site().dir;
    fs::create_dir(dir.path("sub")).unwrap();
    fs::write(dir.path("a"), "").unwrap();
    symlink("a", dir.path("soft")).unwrap();
    symlink("..", dir.path("sub/up")).unwrap();
    let mut ctx = stand.ctx(Rights::READ_WRITE);
    for name in [".", "other/name/"] {
        ctx = ctx.grant_dir(&dir.0, name, Rights::READ_WRITE).unwrap();
    }
    let mut guest = stand.start_with(ctx.build());
    let spellings = [
        "/locks/a",
        "//locks//./a",
        "/locks/sub/../a",
        "/locks/sub/up/a",
        "/locks/soft",
        "a",
        "./a",
        "sub/../a",
        "/a",
        "other/name/a",
        "/other/name/./soft",
    ];
    for (i, path) in spellings.iter().enumerate() {
        assert_eq!(guest.reply(&format!("open {i} {path}")), "ok");
        assert_eq!(guest.reply(&format!("path {i}")), format!("ok {path}"));
    }
    for (i, held) in spellings.iter().enumerate() {
        assert!(
            guest
                .reply(&format!("acquire {i} exclusive 0"))
                .starts_with("ok")
        );
        for (j, path) in spellings.iter().enumerate() {
            assert_eq!(guest.reply(&format!("is-locked {j}")), "ok true");
            let reply = guest.reply(&format!("acquire {j} exclusive 0"));
            assert_eq!(reply, "err would-block", "{held} {path}");
        }
        assert_eq!(guest.reply(&format!("release {i}")), "ok");
    }
}

/// 2. A grant has neither a token nor an end yet.
#[test]
fn a_grant_has_no_token_and_no_end() {
    const GRANT: &str = "ok token=none valid-for=none";
    for &protocol in Protocol::ALL {
        let stand = stand(protocol);
        let mut guest = guest(&stand);
        assert_eq!(guest.reply("acquire a exclusive none"), GRANT);
        assert_eq!(guest.reply("state a"), "ok held token=none valid-for=none");
        assert_eq!(guest.reply("release a"), "ok");
        assert_eq!(guest.reply("guard g a exclusive 0"), GRANT);
        assert_eq!(guest.reply("drop g"), "ok");
        let fifo = !protocol.is_existence_lock();
        let expected = format!("ok scope=host ttl=none fifo={fifo} fencing=false");
        assert_eq!(guest.reply("guarantee a"), expected);
    }
}

/// 3 and 6. The host is an owner of its own in the engine of its guests.
#[test]
fn guests_and_their_host_wait_for_each_other() {
    let stand = stand(Protocol::Native);
    let (mut guest, lock) = (Box::new(guest(&stand)) as Box<dyn Subject>, host(&stand));
    let guard = lock.acquire(Mode::Exclusive, None).unwrap();
    assert_eq!(guest.err("release a"), "not-owner");
    assert!(lock.is_locked().unwrap());
    for timeout in ["80", "60000"] {
        guest.waits(&format!("acquire a exclusive {timeout}"));
        if timeout == "80" {
            assert_eq!(guest.answer(), "err timeout");
        }
    }
    guard.release().unwrap();
    guest.granted();
    assert!(lock.release().unwrap_err().is_not_owner());
    assert!(lock.try_acquire(Mode::Exclusive).unwrap().is_none());
    guest.ok("release a");
    assert_eq!(guest.err("release a"), "not-locked");
}

/// 4. Nor can guests wait for one another in a circle.
#[test]
fn a_circle_of_guests_is_a_deadlock() {
    let stand = stand(Protocol::Native);
    let [mut first, mut second] = [0, 1].map(|_| {
        let mut guest = Box::new(guest(&stand)) as Box<dyn Subject>;
        guest.ok("open b /locks/b");
        guest
    });
    first.ok("acquire a exclusive 0");
    second.ok("acquire b exclusive 0");
    first.waits("acquire b exclusive none");
    let awaited = stand.engine().open(stand.site().dir.path("b")).unwrap();
    eventually("it is in the queue", || waiters(&awaited) == 1);
    assert_eq!(second.err("acquire a exclusive none"), "deadlock");
    let time: u128 = second.ok("elapsed").parse().unwrap();
    assert!(time < AT_ONCE.as_millis(), "{time} ms");
    second.ok("release b");
    first.granted();
}

/// 7. A panic is a trap in a component; then the end of its store releases.
#[test]
fn a_panic_traps_and_the_end_of_the_store_releases() {
    let stand = stand(Protocol::Native);
    let mut guest = guest(&stand);
    guest.send("with-panic /locks/lock 0");
    guest.traps();
    assert!(stand.site().is_free());
}

/// 7. A guest that dies is no process that dies, but takes over from one like any other.
#[test]
fn a_guest_takes_over_from_a_dead_process() {
    // A pid file proves no death in a container.
    let provable =
        |protocol: &Protocol| protocol.is_existence_lock() && *protocol != Protocol::PidFile;
    for protocol in Protocol::ALL.iter().copied().filter(provable) {
        let stand = stand(protocol);
        let mut guest = guest(&stand);
        let mut command = Command::new(peer());
        command.arg(stand.site().lock_path());
        command.args(["--protocol", protocol.name(), "--database"]);
        let mut holder = Process::spawn(command.arg(stand.site().database()));
        assert_eq!(holder.ask("acquire exclusive none"), "ok");
        assert_eq!(guest.reply("acquire a exclusive 0"), "err would-block");
        // Its number is not shown.
        let other = "ok label=none mode=exclusive self=false";
        assert_eq!(guest.reply("holder a"), other);
        let mut guest = Box::new(guest) as Box<dyn Subject>;
        guest.waits("acquire a exclusive none");
        Process::kill(&mut holder);
        guest.granted();
        guest.ok("release a");
    }
}

/// 9. The end of the store removes the file, as a release does.
#[test]
fn a_killed_guest_leaves_no_file_that_it_would_have_removed() {
    let stand = stand(Protocol::Native);
    let mut guest = guest(&stand);
    assert_eq!(guest.reply("open r /locks/lock remove"), "ok");
    assert!(guest.reply("acquire r exclusive 0").starts_with("ok"));
    assert!(stand.site().lock_path().exists());
    Box::new(guest).kill();
    assert!(!stand.site().lock_path().exists());
}

/// 14. Guests see one another by the labels that the host gives them.
#[test]
fn a_holder_is_shown_with_its_label() {
    let stand = stand(Protocol::Native);
    let ctx = stand.ctx(Rights::READ_WRITE).label("worker 7").build();
    let mut worker = stand.start_with(ctx);
    let mut guest = guest(&stand);
    assert_eq!(worker.reply("open a /locks/lock"), "ok");
    assert_eq!(guest.reply("holder a"), "ok none");
    for mode in ["exclusive", "shared"] {
        assert!(
            worker
                .reply(&format!("acquire a {mode} 0"))
                .starts_with("ok")
        );
        for (asking, is_self) in [(&mut guest, false), (&mut worker, true)] {
            let expected = format!("ok label=worker%207 mode={mode} self={is_self}");
            assert_eq!(asking.reply("holder a"), expected);
        }
        assert_eq!(guest.reply("is-locked a"), "ok true");
        if mode == "exclusive" {
            assert_eq!(worker.reply("release a"), "ok");
        }
    }
    Box::new(worker).kill();
    assert_eq!(guest.reply("holder a"), "ok none");
    let foreign = stand.site().foreign();
    let _guard = foreign.acquire(Mode::Exclusive, None).unwrap();
    let unlabeled = "ok label=none mode=exclusive self=false";
    assert_eq!(guest.reply("holder a"), unlabeled);
}

/// 16. A call opens the lock, and leaves nothing open.
#[test]
fn a_call_leaves_no_resource_behind() {
    let stand = stand(Protocol::Native);
    let start = || stand.start_with(stand.ctx(Rights::READ_WRITE).build());
    let mut guest = start();
    assert_eq!(guest.reply("with /locks/lock none"), "ok");
    let held = stand
        .site()
        .foreign()
        .acquire(Mode::Exclusive, None)
        .unwrap();
    assert_eq!(guest.reply("with /locks/lock 20"), "err timeout");
    guest.send("with /locks/lock none");
    held.release().unwrap();
    assert_eq!(guest.reply_within(STUCK).as_deref(), Some("ok"));
    assert_eq!(guest.resources_at_the_end(), start().resources_at_the_end());
}
