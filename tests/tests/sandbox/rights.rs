//! What a guest may do depends on its grants.

use std::os::unix::fs::PermissionsExt;

use locket::Protocol;
use locket_tests::harness::component;
use wasmtime_wasi::{FsPerms, WasiView};

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_granted_by_default() {
    let host = Host::new();
    let mut guest = host
        .guest("remote", LocketCtx::builder(&host.locks).build())
        .await;
    for path in ["/locks/a", "a", "/", ".", "/etc/passwd"] {
        let command = format!("open a {path}");
        assert_eq!(
            refused(&mut guest, &host, &command).await,
            "access-denied",
            "{path}"
        );
    }
    assert!(!host.path("a").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rights_are_enforced() {
    let host = Host::new();
    fs::write(host.path("old"), "").unwrap();
    let guest = |rights| {
        let ctx = LocketCtx::builder(&host.locks)
            .grant_dir(&host.dir, "/g", rights)
            .unwrap();
        host.guest("remote", ctx.build())
    };
    let mut reader = guest(Rights::READ_ONLY).await;
    assert_eq!(
        refused(&mut reader, &host, "open a /g/new").await,
        "no-entry"
    );
    assert_eq!(
        refused(&mut reader, &host, "open a /g/old remove").await,
        "access-denied"
    );
    reader.ok("open a /g/old").await;
    reader.ok("acquire a shared 0").await;
    assert_eq!(
        refused(&mut reader, &host, "acquire a exclusive 0").await,
        "access-denied"
    );
    assert_eq!(
        refused(&mut reader, &host, "acquire a exclusive none").await,
        "access-denied"
    );
    assert!(host.lock("old").try_acquire(EX).unwrap().is_none());

    let mut writer = guest(Rights::EXCLUSIVE).await;
    assert_eq!(
        refused(&mut writer, &host, "open a /g/new").await,
        "no-entry"
    );
    assert_eq!(
        refused(&mut writer, &host, "open a /g/old remove").await,
        "access-denied"
    );
    writer.ok("open a /g/old").await;
    assert_eq!(
        refused(&mut writer, &host, "acquire a shared 0").await,
        "access-denied"
    );
    assert_eq!(
        refused(&mut writer, &host, "acquire a exclusive 0").await,
        "would-block"
    );

    for rights in [Rights::NONE, Rights::CREATE, Rights::BREAK] {
        let mut other = guest(rights).await;
        for path in ["/g/old", "/g/new"] {
            let command = format!("open a {path}");
            assert_eq!(refused(&mut other, &host, &command).await, "access-denied");
        }
    }
    assert!(!host.path("new").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_chooses_among_the_protocols_that_are_granted() {
    let host = Host::new();
    let ctx = LocketCtx::builder(&host.locks)
        .protocol(Protocol::Flock)
        .protocols([Protocol::Native, Protocol::Mkdir]);
    let ctx = ctx.grant_dir(&host.dir, "/locks", Rights::ALL).unwrap();
    let mut guest = host.guest("remote", ctx.build()).await;
    for protocol in ["fcntl", "link", "symlink", "pid-file", "soft", "sqlite"] {
        let open = format!("open a /locks/a keep {protocol}");
        assert_eq!(guest.err(&open).await, "access-denied", "{protocol}");
    }
    assert_eq!(names(&host), [""; 0]);
    // The default protocol of the guest is always among them.
    for protocol in ["", " keep flock", " keep native", " keep mkdir"] {
        guest.ok(&format!("open a /locks/a{protocol}")).await;
        guest.ok("acquire a exclusive 0").await;
        guest.ok("drop a").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn preopens_are_granted_with_their_permissions() {
    let host = Host::new();
    fs::create_dir(host.path("rw")).unwrap();
    fs::create_dir(host.path("ro")).unwrap();
    fs::write(host.path("ro/old"), "").unwrap();
    let mut guest = Guest::start(component("remote"), |wasi| {
        wasi.preopened_dir(host.path("rw"), "/rw", FsPerms::ReadWrite)
            .unwrap();
        wasi.preopened_dir(host.path("ro"), "ro", FsPerms::ReadOnly)
            .unwrap();
        let mut store = host.store_with(LocketCtx::builder(&host.locks).build(), wasi);
        let ctx = LocketCtx::builder(&host.locks).build();
        locket_wasmtime::grant_preopens(&ctx, store.data_mut().ctx()).unwrap();
        store.data_mut().set_locket(ctx);
        assert_eq!(store.data_mut().resources(), 0);
        store
    })
    .await;
    // The same strings open the files and their locks.
    for path in ["/rw/a", "rw/b", "/rw/../rw/a"] {
        let opened = guest.ask(&format!("write {path} text")).await;
        let locked = guest.ask(&format!("open a {path}")).await;
        assert_eq!(
            opened.starts_with("ok"),
            locked.starts_with("ok"),
            "{path}: {opened}, {locked}"
        );
    }
    guest.ok("open a /rw/new").await;
    guest.ok("acquire a exclusive 0").await;
    for path in ["ro/old", "/ro/old"] {
        guest.ok(&format!("read {path}")).await;
        guest.ok(&format!("open a {path}")).await;
        guest.ok("acquire a shared 0").await;
        guest.ok("release a").await;
        assert_eq!(guest.err("acquire a exclusive 0").await, "access-denied");
    }
    assert_eq!(guest.err("open a ro/new").await, "no-entry");
    assert_eq!(guest.err("open a ro/old remove").await, "access-denied");
    assert!(host.path("ro/old").exists() && !host.path("ro/new").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_and_directories_that_may_only_be_read() {
    if is_root() {
        println!("SKIPPED: root may write everywhere; what follows runs as another user");
        run_inner("rights::inner_read_only", &AS_NOBODY);
    } else {
        read_only().await;
    }
}

async fn read_only() {
    let host = Host::new();
    fs::create_dir(host.path("dir")).unwrap();
    fs::write(host.path("dir/old"), "text").unwrap();
    fs::write(host.path("dir/secret"), "text").unwrap();
    fs::set_permissions(host.path("dir/old"), PermissionsExt::from_mode(0o444)).unwrap();
    fs::set_permissions(host.path("dir/secret"), PermissionsExt::from_mode(0o000)).unwrap();
    fs::set_permissions(host.path("dir"), PermissionsExt::from_mode(0o555)).unwrap();
    let mut guest = host.remote().await;
    assert_eq!(
        refused(&mut guest, &host, "open a /locks/dir/new").await,
        "access-denied"
    );
    assert_eq!(
        refused(&mut guest, &host, "open a /locks/dir/secret").await,
        "access-denied"
    );
    guest.ok("open a /locks/dir/old").await;
    guest.ok("acquire a shared 0").await;
    guest.ok("release a").await;
    assert_eq!(
        refused(&mut guest, &host, "acquire a exclusive 0").await,
        "access-denied"
    );
    guest.ok("open b /locks/dir/old keep flock").await;
    guest.ok("acquire b exclusive 0").await;
    fs::set_permissions(host.path("dir"), PermissionsExt::from_mode(0o755)).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run by `files_and_directories_that_may_only_be_read` as another user"]
async fn inner_read_only() {
    assert!(!is_root());
    read_only().await;
}
