//! A lock changes nothing in the file that it is on. Only an empty lock file is ever removed.

use std::os::unix::fs::PermissionsExt;

use super::trap_tree::{TrapTree, trap_tree};
use super::*;

const KERNEL: [&str; 3] = ["native", "flock", "fcntl"];

const EXISTENCE: [&str; 6] = ["link", "symlink", "mkdir", "pid-file", "soft", "sqlite"];

/// A directory with data in it.
fn data() -> Host {
    let host = Host::new();
    fs::create_dir(host.path("sub")).unwrap();
    for name in ["data.csv", "secret", "sub/data"] {
        fs::write(host.path(name), "some bytes").unwrap();
    }
    fs::write(host.path("empty"), "").unwrap();
    for (name, mode) in [("data.csv", 0o600), ("secret", 0o444), ("empty", 0o640)] {
        fs::set_permissions(host.path(name), PermissionsExt::from_mode(mode)).unwrap();
    }
    host
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lock_changes_nothing_in_a_file() {
    let TrapTree { host, .. } = &trap_tree();
    let before = snapshot(host.dir.path());
    let mut guest = host.remote().await;
    for (mode, protocol) in [
        ("exclusive", "native"),
        ("shared", "native"),
        ("exclusive", "flock"),
    ] {
        guest
            .ok(&format!("open a /locks/data keep {protocol}"))
            .await;
        guest.ok(&format!("acquire a {mode} 0")).await;
        guest.ok("release a").await;
        guest.ok("drop a").await;
    }
    drop(guest.end().await);
    assert_eq!(snapshot(host.dir.path()), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_with_locks_alone_changes_nothing_that_was_there() {
    let host = data();
    let before = snapshot(host.dir.path());
    let mut guest = guest(&host, &host.locks, Rights::LOCKS).await;
    for name in ["data.csv", "secret", "sub/data", "empty", "new", "sub"] {
        for protocol in KERNEL {
            let command = format!("open a /locks/{name} remove {protocol}");
            assert_eq!(guest.err(&command).await, "access-denied", "{command}");
        }
        for protocol in EXISTENCE {
            for on_release in ["keep", "remove"] {
                let command = format!("open a /locks/{name} {on_release} {protocol}");
                assert_eq!(guest.err(&command).await, "access-denied", "{command}");
            }
        }
    }
    for name in ["data.csv", "secret", "sub/data", "empty"] {
        for protocol in KERNEL {
            guest
                .ok(&format!("open a /locks/{name} keep {protocol}"))
                .await;
            for mode in ["shared", "exclusive"] {
                guest.ok(&format!("acquire a {mode} 0")).await;
                guest.ok("release a").await;
            }
            guest.ok("drop a").await;
        }
    }
    assert_unchanged(host.dir.path(), &before, "kernel locks");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_right_is_enough_to_remove_a_file_with_content() {
    let host = data();
    fs::write(host.path("empty"), "content after all").unwrap();
    let before = snapshot(host.dir.path());
    for rights in [REMOVES, Rights::READ_WRITE, Rights::ALL] {
        let mut guest = guest(&host, &host.locks, rights).await;
        for name in ["data.csv", "secret", "sub/data", "empty"] {
            for protocol in KERNEL {
                for mode in ["exclusive", "shared"] {
                    guest
                        .ok(&format!("open a /locks/{name} remove {protocol}"))
                        .await;
                    guest.ok(&format!("acquire a {mode} 0")).await;
                    guest.ok("release a").await;
                    guest.ok(&format!("guard g a {mode} 0")).await;
                    guest.ok("drop g").await;
                    guest.ok("drop a").await;
                    assert!(host.path(name).exists(), "{name}, {protocol}, {mode}");
                }
            }
        }
    }
    assert_unchanged(host.dir.path(), &before, "kernel locks");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_lock_file_with_a_single_name_is_removed() {
    let host = Host::new();
    let mut guest = guest(&host, &host.locks, REMOVES).await;
    for protocol in KERNEL {
        for mode in ["exclusive", "shared"] {
            let what = format!("{protocol}, {mode}");
            for made in ["by the guest", "by another", "twice", "and written to"] {
                if made != "by the guest" {
                    fs::write(host.path("a"), "").unwrap();
                }
                guest
                    .ok(&format!("open a /locks/a remove {protocol}"))
                    .await;
                guest.ok(&format!("acquire a {mode} 0")).await;
                match made {
                    "twice" => fs::hard_link(host.path("a"), host.path("b")).unwrap(),
                    "and written to" => fs::write(host.path("a"), "content").unwrap(),
                    _ => {}
                }
                guest.ok("release a").await;
                guest.ok("drop a").await;
                let stays = matches!(made, "twice" | "and written to");
                assert_eq!(host.path("a").exists(), stays, "{what}, {made}");
                for name in names(&host) {
                    fs::remove_file(host.path(&name)).unwrap();
                }
            }
        }
    }
}

/// If another file takes the name of the lock file, the release does not remove that one instead.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_file_under_the_name_of_the_lock_stays() {
    let host = Host::new();
    let mut guest = guest(&host, &host.locks, REMOVES).await;
    let (a, other) = (host.path("a"), host.path("other"));
    for place in ["a file", "an empty file", "a link", "a directory"] {
        guest.ok("open a /locks/a remove").await;
        guest.ok("acquire a exclusive 0").await;
        fs::rename(&a, &other).unwrap();
        match place {
            "a file" => fs::write(&a, "data").unwrap(),
            "an empty file" => fs::write(&a, "").unwrap(),
            "a link" => std::os::unix::fs::symlink("other", &a).unwrap(),
            _ => fs::create_dir(&a).unwrap(),
        }
        let before = snapshot(host.dir.path());
        // A success or a loss: the first file still has a name, if not this one.
        guest.ask("release a").await;
        guest.ok("drop a").await;
        assert_unchanged(host.dir.path(), &before, place);
        fs::remove_file(&other).unwrap();
        let _ = fs::remove_file(&a).or_else(|_| fs::remove_dir(&a));
    }
}
