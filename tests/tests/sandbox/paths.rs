//! Where the paths of a guest lead, and which are refused.

use locket_tests::harness::descriptors;

use super::trap_tree::{TrapTree, trap_tree};
use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_paths_are_refused_and_leave_no_trace() {
    let TrapTree { host, outside, .. } = &trap_tree();
    let device = Command::new("mknod")
        .arg(host.path("device"))
        .args(["c", "1", "3"])
        .status();
    let device = device.unwrap().success();
    let mut guest = host.remote().await;
    let (before, beyond) = (snapshot(host.dir.path()), snapshot(outside.path()));
    let long = format!("/locks/{}", "x".repeat(64 << 10));
    let real = format!("{}/data", host.dir.path().display());
    let cases = [
        ("/locks/missing/a", "no-entry"),
        ("/locks/data/a", "no-entry"),
        ("/locks/dir", "invalid-path"),
        ("/locks/dir/deep", "invalid-path"),
        ("/locks", "invalid-path"),
        ("/locks/", "invalid-path"),
        ("/locks/.", "invalid-path"),
        ("/locks/dir/..", "invalid-path"),
        ("/locks/data/", "invalid-path"),
        ("/locks/data/.", "invalid-path"),
        ("/locks/missing/", "invalid-path"),
        ("/locks/fifo", "invalid-path"),
        ("/locks/socket", "invalid-path"),
        ("/locks/null", "invalid-path"),
        ("/locks/magic/0", "invalid-path"),
        ("/locks/loop", "invalid-path"),
        ("/locks/out-there", "invalid-path"),
        ("/locks/out-missing", "invalid-path"),
        ("/locks/out/there", "invalid-path"),
        ("/locks/out/missing", "invalid-path"),
        ("/locks/out/missing/deeper", "invalid-path"),
        ("/locks/up-there", "invalid-path"),
        ("/locks/../data", "invalid-path"),
        ("/locks/../locks/data", "invalid-path"),
        ("/locks/dir/../../data", "invalid-path"),
        ("/locks/../../../../../../etc/passwd", "invalid-path"),
        ("/locks/a%00b", "invalid-path"),
        ("%00", "invalid-path"),
        (&long, "invalid-path"),
        ("/etc/passwd", "access-denied"),
        ("/etc/missing", "access-denied"),
        ("/", "access-denied"),
        ("/..", "access-denied"),
        ("/locksmith/a", "access-denied"),
        ("/lock", "access-denied"),
        ("data", "access-denied"),
        ("../data", "access-denied"),
        (".", "access-denied"),
        (&real, "access-denied"),
        ("C:\\locks\\a", "access-denied"),
    ];
    for (path, reason) in cases {
        for how in ["keep", "remove"] {
            let command = format!("open x {path} {how}");
            let shown: String = path.chars().take(60).collect();
            assert_eq!(refused(&mut guest, host, &command).await, reason, "{shown}");
        }
    }
    if device {
        assert_eq!(
            refused(&mut guest, host, "open x /locks/device").await,
            "invalid-path"
        );
    } else {
        println!("SKIPPED: no permission to make a device node");
    }
    // The commands of the guest cannot express the empty path.
    let sandbox = sandbox(host, Rights::READ_WRITE, Limits::new());
    assert!(
        sandbox
            .open("", None, OnRelease::Keep)
            .unwrap_err()
            .is_invalid_path()
    );
    assert_eq!(snapshot(host.dir.path()), before);
    assert_eq!(snapshot(outside.path()), beyond);
    assert_eq!(descriptors(host.dir.path()), 0);
    drop(guest.end().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dangling_link_creates_nothing() {
    let TrapTree { host, .. } = &trap_tree();
    let mut guest = host.remote().await;
    let reason = refused(&mut guest, host, "open x /locks/dangling").await;
    assert!(
        ["no-entry", "invalid-path", "io other"].contains(&&*reason),
        "{reason}"
    );
    assert!(!host.path("missing").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn links_within_the_grant_are_followed() {
    let TrapTree { host, .. } = &trap_tree();
    let mut guest = host.remote().await;
    guest.ok("open a /locks/dir/data").await;
    guest.ok("acquire a exclusive 0").await;
    assert!(!host.is_free("data"));
    guest.ok("open b /locks/dir/deep/../../data").await;
    assert_eq!(guest.err("acquire b exclusive 0").await, "would-block");
    guest.ok("release b").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_longest_name_of_a_grant_counts() {
    let host = Host::new();
    for name in ["root", "dot", "data", "deep"] {
        fs::create_dir(host.path(name)).unwrap();
    }
    let ctx = LocketCtx::builder(&host.locks);
    let ctx = ctx
        .grant_dir(host.path("root"), "/", Rights::READ_WRITE)
        .unwrap();
    let ctx = ctx
        .grant_dir(host.path("dot"), ".", Rights::READ_WRITE)
        .unwrap();
    let ctx = ctx
        .grant_dir(host.path("data"), "/data", Rights::READ_WRITE)
        .unwrap();
    let ctx = ctx
        .grant_dir(host.path("deep"), "/data/deep/", Rights::READ_WRITE)
        .unwrap();
    let mut guest = host.guest("remote", ctx.build()).await;
    for (path, file) in [
        ("/a", "root/a"),
        ("b", "dot/b"),
        ("./c", "dot/c"),
        ("/data/d", "data/d"),
        ("data/e", "data/e"),
        ("/data/deep/f", "deep/f"),
        ("/datadeep", "root/datadeep"),
        ("//data///deep//./g", "deep/g"),
    ] {
        guest.ok(&format!("open a {path}")).await;
        assert!(host.path(file).exists(), "{path} is not {file}");
    }
    assert_eq!(guest.err("open a /data/deep/../h").await, "invalid-path");
}

/// A narrower grant within a wider one is no limit: a path through the wider one has its rights. WASI
/// has the same rule.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grant_within_a_grant_does_not_narrow_it() {
    let host = Host::new();
    for name in ["x", "priv"] {
        fs::create_dir(host.path(name)).unwrap();
    }
    let ctx = LocketCtx::builder(&host.locks);
    let ctx = ctx
        .grant_dir(&host.dir, "/y", Rights::LOCKS)
        .unwrap()
        .grant_dir(host.path("priv"), "/y/priv", Rights::READ_ONLY)
        .unwrap();
    let mut guest = host.guest("remote", ctx.build()).await;
    assert_eq!(guest.err("open a /y/priv/f").await, "no-entry");
    guest.ok("open a /y/x/../priv/f").await;
    guest.ok("acquire a exclusive 0").await;
    assert!(host.path("priv/f").exists());
}
