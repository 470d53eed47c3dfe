//! The lock file is removed or replaced while a guest holds it or waits for it.

use std::os::unix::fs::symlink;

use super::trap_tree::{TrapTree, trap_tree};
use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_removed_or_replaced_while_it_is_held() {
    let host = Host::new();
    let (mut guest, mut other) = (host.remote().await, host.remote().await);
    for replace in [false, true] {
        guest.ok("open a /locks/a").await;
        guest.ok("acquire a exclusive 0").await;
        fs::remove_file(host.path("a")).unwrap();
        if replace {
            fs::write(host.path("a"), "new").unwrap();
        }
        // The file that is there now is another lock.
        other.ok("open a /locks/a").await;
        other.ok("acquire a exclusive none").await;
        assert_eq!(guest.err("release a").await, "lost broken");
        assert_eq!(guest.err("acquire a exclusive 0").await, "would-block");
        other.ok("release a").await;
        guest.ok("acquire a exclusive none").await;
        guest.ok("release a").await;
        if replace {
            assert_eq!(fs::read(host.path("a")).unwrap(), b"new");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_removed_or_replaced_while_it_is_awaited() {
    let host = Host::new();
    let mut guest = host.remote().await;
    guest.ok("open a /locks/a").await;
    for (foreign, replace) in [(false, false), (false, true), (true, false), (true, true)] {
        let lock = if foreign {
            host.foreign("a")
        } else {
            host.lock("a")
        };
        let guard = lock.acquire(EX, None).unwrap();
        guest.wait("acquire a exclusive none").await;
        fs::remove_file(host.path("a")).unwrap();
        if replace {
            fs::write(host.path("a"), "new").unwrap();
        }
        drop(guard);
        assert!(guest.reply().await.starts_with("ok"));
        assert!(
            host.path("a").exists() && !host.is_free("a"),
            "the guest holds another file"
        );
        guest.ok("release a").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_becomes_something_else_while_it_is_awaited() {
    let TrapTree { host, outside, .. } = &trap_tree();
    let beyond = snapshot(outside.path());
    let mut guest = host.remote().await;
    for what in ["escape", "directory", "dangling escape", "no directory"] {
        fs::create_dir_all(host.path("w")).unwrap();
        guest.ok("open a /locks/w/a").await;
        let guard = host.lock("w/a").acquire(EX, None).unwrap();
        guest.wait("acquire a exclusive none").await;
        fs::remove_file(host.path("w/a")).unwrap();
        let expected = match what {
            "escape" => {
                symlink(outside.path().join("there"), host.path("w/a")).unwrap();
                "err invalid-path"
            }
            "dangling escape" => {
                symlink(outside.path().join("missing"), host.path("w/a")).unwrap();
                "err invalid-path"
            }
            "directory" => {
                fs::create_dir(host.path("w/a")).unwrap();
                "err invalid-path"
            }
            _ => {
                fs::remove_dir(host.path("w")).unwrap();
                "err no-entry"
            }
        };
        drop(guard);
        assert_eq!(guest.reply().await, expected, "{what}");
        let _ = fs::remove_dir_all(host.path("w"));
    }
    assert_eq!(snapshot(outside.path()), beyond);
}
