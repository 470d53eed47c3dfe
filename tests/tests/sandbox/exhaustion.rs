//! The host runs out of descriptors or disk space.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::*;

#[test]
fn a_guest_gets_an_error_if_descriptors_run_out() {
    run_inner(
        "exhaustion::inner_descriptors",
        &["sh", "-c", "ulimit -n 128; exec \"$@\"", "sh"],
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run by `a_guest_gets_an_error_if_descriptors_run_out` with a limit on descriptors"]
async fn inner_descriptors() {
    let host = Host::new();
    let mut guest = host.remote().await;
    guest.ok("open a /locks/a").await;
    let guard = host.lock("a").acquire(EX, None).unwrap();
    // The process has now opened everything that a first wait opens.
    assert_eq!(guest.err("acquire a exclusive 20").await, "timeout");
    drop(guard);
    let mut files = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        files.push(file);
    }
    assert!(files.len() < 128);
    assert_eq!(
        refused(&mut guest, &host, "open b /locks/b").await,
        "io too-many-files"
    );
    assert!(!host.path("b").exists());
    // Open locks can still be used.
    guest.ok("acquire a exclusive none").await;
    guest.ok("release a").await;
    drop(files);
    guest.ok("open b /locks/b").await;
    guest.ok("acquire b exclusive 0").await;
}

#[test]
fn a_guest_gets_an_error_on_a_full_disk() {
    let may = Command::new("unshare").args(["-m", "true"]).status();
    if !may.is_ok_and(|status| status.success()) {
        assert!(
            std::env::var_os("CI").is_none(),
            "CI must be able to mount a file system"
        );
        println!(
            "SKIPPED: no permission for a mount namespace; full and read-only disks are untested"
        );
        return;
    }
    run_inner("exhaustion::inner_full_disk", &["unshare", "-m"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run by `a_guest_gets_an_error_on_a_full_disk` in a mount namespace"]
async fn inner_full_disk() {
    let host = Host::new();
    let disk = host.path("disk");
    fs::create_dir(&disk).unwrap();
    let mount = |options: &str| {
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", options, "none"])
            .arg(&disk)
            .status()
            .unwrap()
            .success()
    };
    if !mount("size=4k,nr_inodes=3") {
        assert!(
            std::env::var_os("CI").is_none(),
            "CI must be able to mount a file system"
        );
        println!("SKIPPED: no permission to mount; full and read-only disks are untested");
        return;
    }
    fs::write(disk.join("old"), "").unwrap();
    let full = File::create(disk.join("full")).unwrap();
    while full
        .write_at(&[1; 4096], full.metadata().unwrap().len())
        .is_ok()
    {}
    drop(full);
    let mut guest = host.remote().await;
    assert_eq!(
        refused(&mut guest, &host, "open a /locks/disk/new").await,
        "io no-space"
    );
    guest.ok("open a /locks/disk/old").await;
    guest.ok("acquire a exclusive 0").await;
    guest.ok("release a").await;
    guest.ok("drop a").await;
    assert!(mount("remount,ro,size=4k"));
    assert_eq!(
        refused(&mut guest, &host, "open b /locks/disk/new").await,
        "io read-only"
    );
    guest.ok("open b /locks/disk/old").await;
    guest.ok("acquire b shared 0").await;
    drop(guest.end().await);
}
