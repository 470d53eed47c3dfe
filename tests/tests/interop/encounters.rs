//! Sharing, death, removal and waiting between our tool and single peers.

use std::path::Path;
use std::time::Instant;

use locket_tests::process::{QUIESCENT, STUCK, tool};

use super::experiment::{Ours, WAIT, kill};
use super::peers::{Driver, OPTIONAL, PEERS, Waits, Way, named};
use super::table::protocols;

/// A reader of a peer and readers of our tool hold a lock together, in either order.
#[test]
fn readers_of_two_tools_share_a_lock() {
    let tool = &tool();
    let dir = tempfile::tempdir().unwrap();
    let readers = [("flock -s", "flock"), ("fasteners read", "fcntl")];
    for (name, family) in readers {
        let peer = named(name);
        let Some((mut they, _)) = Driver::start(peer, dir.path()) else {
            println!("NOT RUN: {name} is not installed");
            continue;
        };
        for protocol in protocols().filter(|name| ["native", family].contains(name)) {
            let ours = Ours { tool, protocol };
            let path = dir.path().join(format!("{family}-{protocol}"));
            assert_eq!(they.acquire(format_args!("try"), &path), Ok(true));
            assert_eq!(ours.acquire(&["-s", "-n"], &path), Ok(true), "{name}");
            they.release();
            let mut holder = ours.hold(&["-s"], &path);
            assert_eq!(holder.answer(), "got");
            assert_eq!(they.acquire(format_args!("try"), &path), Ok(true));
            they.release();
            assert!(holder.finish());
        }
    }
}

/// Kernel locks are free after their holder was killed. Other locks are taken over if they say enough of
/// their holder for the other side.
#[test]
fn a_killed_holder_is_displaced_by_tools_that_can_identify_it() {
    // Whether our tool gets the lock of the peer, and the peer that of our tool.
    let cases = [
        ("filelock FileLock", "flock", true, true),
        ("fasteners InterProcessLock", "fcntl", true, true),
        ("filelock SoftFileLock", "soft", true, true),
        ("lockfile PID", "pid-file", true, false),
        ("lockfile Mkdir", "mkdir", false, false),
        ("proper-lockfile", "mkdir", false, false),
    ];
    let tool = &tool();
    let dir = tempfile::tempdir().unwrap();
    for (name, protocol, ours_after, theirs_after) in cases {
        let peer = named(name);
        let ours = Ours { tool, protocol };
        let path = |holder| {
            dir.path()
                .join(format!("{}-{holder}", name.replace(' ', "-")))
        };
        let seconds = |freed| if freed { "10" } else { "0.3" };

        let Some((mut they, _)) = Driver::start(peer, dir.path()) else {
            println!("NOT RUN: {name} is not installed");
            continue;
        };
        assert_eq!(they.acquire(format_args!("try"), &path("they")), Ok(true));
        they.0.kill();
        let freed = ours.acquire(&["-w", seconds(ours_after)], &path("they"));
        assert_eq!(freed, Ok(ours_after), "{protocol} after {name}");

        let mut holder = ours.hold::<&str>(&[], &path("we"));
        assert_eq!(holder.answer(), "got");
        kill(&mut holder);
        let (mut they, _) = Driver::start(peer, dir.path()).unwrap();
        let wait = format_args!("wait {}", seconds(theirs_after));
        let freed = they.acquire(wait, &path("we"));
        assert_eq!(freed, Ok(theirs_after), "{name} after {protocol}");
    }
}

/// Whether a process outside the group has the file open.
fn is_open_beyond(group: u32, path: &Path) -> bool {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let others = processes.filter(|process| {
        let stat = std::fs::read_to_string(process.path().join("stat")).unwrap_or_default();
        // After the name, which is in brackets: the state, the parent, the group.
        let after = stat.rsplit_once(") ").map_or("", |(_, after)| after);
        let of = after.split(' ').nth(2).and_then(|of| of.parse().ok());
        of.is_some_and(|of: u32| of != group)
    });
    let files = others.flat_map(|process| std::fs::read_dir(process.path().join("fd")));
    let mut links = files.flat_map(|fds| fds.flatten());
    links.any(|fd| std::fs::read_link(fd.path()).is_ok_and(|open| open == path))
}

/// These tools wait while the file is removed, and then accept a lock that no other program sees. They
/// must not be mixed with removal on release; its documentation lists them.
#[test]
fn tools_that_do_not_check_that_the_file_is_still_there_are_known() {
    const DO_NOT: [&str; 10] = [
        "locket",
        "portalocker",
        "flock",
        "std",
        "fs4",
        "fd-lock",
        "fasteners InterProcessLock",
        "fasteners write",
        "oslo.concurrency",
        "java",
    ];
    let tool = &tool();
    let dir = tempfile::tempdir().unwrap();
    let candidates = PEERS.iter().filter(|peer| {
        let shared = ["flock -s", "fasteners read", OPTIONAL].contains(&peer.name);
        let family = matches!(peer.way, Way::Flock | Way::Fcntl) && peer.name != "sqlite3";
        family && peer.waits != Waits::Never && !shared
    });
    for peer in candidates {
        let Some((mut they, _)) = Driver::start(peer, dir.path()) else {
            println!("NOT RUN: {} is not installed", peer.name);
            continue;
        };
        let protocol = "native";
        let ours = Ours { tool, protocol };
        let path = dir.path().join(peer.name.replace(' ', "-"));
        let mut holder = ours.hold(&["--remove"], &path);
        assert_eq!(holder.answer(), "got");
        they.0.send(&format!("wait 10 {}", path.display()));
        let start = Instant::now();
        let accepts = DO_NOT.contains(&peer.name);
        // A tool that checks need not keep it open.
        while accepts && !is_open_beyond(holder.id(), &path) {
            assert!(start.elapsed() < STUCK, "{} opens the file", peer.name);
        }
        assert_eq!(they.0.answer_within(QUIESCENT), None, "{} waits", peer.name);
        assert!(holder.finish());
        assert_eq!(they.0.answer(), "got", "{}", peer.name);
        let another = ours.acquire(&["-n"], &path).unwrap();
        assert_eq!(another, accepts, "{}", peer.name);
        they.release();
    }
}

/// A database in which another program has a transaction is no error: our tool waits for it.
#[test]
fn a_busy_database_is_waited_for() {
    let peer = named("sqlite3");
    let tool = &tool();
    let protocol = "sqlite";
    let ours = Ours { tool, protocol };
    let dir = tempfile::tempdir().unwrap();
    let Some((mut they, _)) = Driver::start(peer, dir.path()) else {
        println!("NOT RUN: sqlite3 is not installed");
        return;
    };
    for (name, used_before) in [("new", false), ("old", true)] {
        let path = dir.path().join(name).join("lock");
        std::fs::create_dir(path.parent().unwrap()).unwrap();
        if used_before {
            assert_eq!(ours.acquire(&["-n"], &path), Ok(true));
        }
        let database = path.with_file_name("locks.db");
        assert_eq!(they.acquire(format_args!("try"), &database), Ok(true));
        assert_eq!(ours.acquire(&["-n"], &path), Ok(false), "{name}");
        assert_eq!(ours.acquire(&["-w", "0.3"], &path), Ok(false), "{name}");
        let mut waiter = ours.hold(&WAIT, &path);
        assert_eq!(waiter.answer_within(QUIESCENT), None, "{name}");
        they.release();
        assert_eq!(waiter.answer(), "got", "{name}");
        assert!(waiter.finish());
    }
}
