//! What guests must not do or learn through existence locks, and the rights that these and
//! breaking take. Every answer is checked for paths and numbers of the host.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;

use locket::sandbox::Rights;
use locket::{LostReason, Mode, Protocol, State};
use locket_test_support::subject::Stand;
use locket_test_support::waits::{STUCK, eventually};
use locket_tests::stands::{GuestSubject, Guests};
use locket_wasmtime::LocketCtx;

fn each_existence_lock(test: impl Fn(&Guests)) {
    let all = Protocol::ALL.iter();
    for &protocol in all.filter(|protocol| protocol.is_existence_lock()) {
        println!("protocol {protocol}");
        test(&<Guests as Stand>::new(protocol));
    }
}

fn guest(stand: &Guests, rights: Rights) -> GuestSubject {
    stand.start_with(stand.ctx(rights).build())
}

fn open(stand: &Guests, path: &str) -> String {
    format!("open a {path} keep {}", stand.site().protocol)
}

fn names(stand: &Guests) -> BTreeSet<String> {
    stand.site().dir.names()
}

#[test]
fn breaking_takes_a_right_of_its_own() {
    for &protocol in Protocol::ALL {
        let stand = <Guests as Stand>::new(protocol);
        let mut holder = guest(&stand, Rights::READ_WRITE);
        assert_eq!(holder.reply(&open(&stand, "/locks/lock")), "ok");
        assert_eq!(stand.break_lock(Rights::ALL), Err("not-locked"));
        assert!(holder.reply("acquire a exclusive 0").starts_with("ok"));
        let refused = stand.break_lock(Rights::READ_WRITE);
        assert_eq!(refused, Err("access-denied"));
        assert!(holder.reply("state a").starts_with("ok held"));
        assert_eq!(stand.break_lock(Rights::ALL), Ok(()));
        assert_eq!(holder.reply("state a"), "ok lost broken");
        assert_eq!(holder.reply("release a"), "err lost broken");

        let native = stand.site().foreign();
        let guard = native.acquire(Mode::Exclusive, STUCK).unwrap();
        if protocol.is_existence_lock() {
            assert_eq!(stand.break_lock(Rights::BREAK), Ok(()));
            let broken = State::Lost(LostReason::Broken);
            eventually("the holder learns it", || native.state() == broken);
            assert!(guard.release().unwrap_err().is_lost());
            assert!(stand.site().is_free());
        } else {
            assert_eq!(stand.break_lock(Rights::ALL), Err("not-supported"));
            assert_eq!(native.state(), State::Held);
        }
    }
}

/// Its holder creates a directory entry, and is alone.
#[test]
fn an_existence_lock_takes_a_right_of_its_own() {
    each_existence_lock(|stand| {
        for rights in [
            Rights::NONE,
            Rights::READ_ONLY,
            Rights::EXCLUSIVE,
            Rights::CREATE,
            Rights::EXCLUSIVE | Rights::SHARED,
            Rights::CREATE | Rights::SHARED,
            Rights::LOCKS | Rights::REMOVE | Rights::BREAK,
            Rights::ALL.without(Rights::CREATE),
            Rights::ALL.without(Rights::EXCLUSIVE),
            Rights::ALL.without(Rights::EXISTENCE),
        ] {
            let mut guest = guest(stand, rights);
            let reply = guest.reply(&open(stand, "/locks/lock"));
            assert_eq!(reply, "err access-denied", "{rights:?}");
            assert_eq!(guest.reply("open a /locks/lock"), "err access-denied");
        }
        assert!(names(stand).is_empty());
        assert!(!stand.site().database().exists());
        let rights = Rights::CREATE | Rights::EXCLUSIVE | Rights::EXISTENCE;
        let mut guest = guest(stand, rights);
        assert_eq!(guest.reply(&open(stand, "/locks/lock")), "ok");
        assert!(guest.reply("acquire a exclusive 0").starts_with("ok"));
    });
}

#[test]
fn without_a_database_there_are_no_rows() {
    let stand = <Guests as Stand>::new(Protocol::Sqlite);
    let ctx = LocketCtx::builder(stand.engine());
    let ctx = ctx.grant_dir(&stand.site().dir.0, "/locks", Rights::ALL);
    let mut without = stand.start_with(ctx.unwrap().build());
    let reply = without.reply("open a /locks/lock keep sqlite");
    assert_eq!(reply, "err not-supported");
    // A broken database is a fault of the host, of which the guest learns no more than that.
    fs::write(stand.site().database(), "garbage".repeat(1000)).unwrap();
    let mut guest = guest(&stand, Rights::ALL);
    assert_eq!(guest.reply("open a /locks/lock keep sqlite"), "ok");
    for command in ["acquire a exclusive none", "is-locked a"] {
        assert_eq!(guest.reply(command), "err io other");
    }
    assert!(names(&stand).is_empty());
}

/// The directory of the lock is resolved beneath the grant, and the last name is never followed.
#[test]
fn no_existence_lock_leads_out_of_the_grant() {
    each_existence_lock(|stand| {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("victim"), "1\n").unwrap();
        let dir = &stand.site().dir;
        symlink(outside.path(), dir.path("out")).unwrap();
        for (name, target) in [("b", "victim"), ("c", "missing")] {
            for link in [dir.path(name), dir.path(&format!("{name}.lock"))] {
                symlink(outside.path().join(target), link).unwrap();
            }
        }
        let before = names(stand);
        let mut guest = guest(stand, Rights::ALL);
        refuses_paths_that_lead_out(stand, &mut guest);
        for name in ["b", "c"] {
            is_held_by_someone(stand, &mut guest, name);
        }
        assert_eq!(names(stand), before);
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
        let victim = fs::read_to_string(outside.path().join("victim"));
        assert_eq!(victim.unwrap(), "1\n");
    });
}

fn refuses_paths_that_lead_out(stand: &Guests, guest: &mut GuestSubject) {
    for path in ["/locks/out/a", "/locks/../a", "/locks/sub/../../a"] {
        let reply = guest.reply(&open(stand, path));
        let refused = matches!(&*reply, "err invalid-path" | "err no-entry");
        assert!(refused, "{path}: {reply}");
    }
    for path in ["/locks", "/locks/", "/locks/.", "/locks/out/"] {
        assert_eq!(
            guest.reply(&open(stand, path)),
            "err invalid-path",
            "{path}"
        );
    }
    let reply = guest.reply(&open(stand, "/elsewhere/a"));
    assert_eq!(reply, "err access-denied");
}

/// A link is the lock of someone else, wherever it leads. A row is not concerned by the file.
fn is_held_by_someone(stand: &Guests, guest: &mut GuestSubject, name: &str) {
    assert_eq!(guest.reply(&open(stand, &format!("/locks/{name}"))), "ok");
    let reply = guest.reply("acquire a exclusive 0");
    if stand.site().protocol == Protocol::Sqlite {
        assert!(reply.starts_with("ok"), "{reply}");
        assert_eq!(guest.reply("release a"), "ok");
    } else {
        assert_eq!(reply, "err would-block");
        let other = "ok label=none mode=exclusive self=false";
        assert_eq!(guest.reply("holder a"), other);
        assert_eq!(guest.reply("release a"), "err not-owner");
    }
}

/// Every refusal of an open has an error of its own.
#[test]
fn what_is_not_granted_or_missing_has_its_own_error() {
    let stand = <Guests as Stand>::new(Protocol::Native);
    let mut guest = guest(&stand, Rights::READ_WRITE);
    assert_eq!(guest.reply("open x /else/a"), "err access-denied");
    assert_eq!(guest.reply("open x /locks/none/a"), "err no-entry");
    assert_eq!(guest.reply("open x /locks"), "err invalid-path");
}
