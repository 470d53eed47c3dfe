//! The limit on created files bounds the names that a guest can take.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_files_that_a_guest_creates_are_limited() {
    let host = Host::new();
    let limits = Limits::new().created(3);
    let mut guest = limited(&host, &host.locks, Rights::READ_WRITE, limits).await;
    for name in ["a", "b", "c"] {
        guest.ok(&format!("open {name} /locks/{name} remove")).await;
        guest.ok(&format!("drop {name}")).await;
    }
    for protocol in ["native", "flock", "fcntl"] {
        let open = format!("open d /locks/d keep {protocol}");
        assert_eq!(guest.err(&open).await, "limit-exceeded", "{protocol}");
    }
    assert!(!host.path("d").exists());
    // Files that exist can be locked, whatever created them.
    fs::write(host.path("d"), "").unwrap();
    for name in ["a", "b", "c", "d"] {
        guest.ok(&format!("open {name} /locks/{name}")).await;
        guest.ok(&format!("acquire {name} exclusive 0")).await;
        guest.ok(&format!("drop {name}")).await;
    }
    // A removal makes room, be it by another process or by the guest itself.
    fs::remove_file(host.path("a")).unwrap();
    guest.ok("open e /locks/e").await;
    assert_eq!(guest.err("open a /locks/a").await, "limit-exceeded");
    guest.ok("open b /locks/b remove").await;
    guest.ok("acquire b exclusive 0").await;
    guest.ok("release b").await;
    assert!(!host.path("b").exists());
    guest.ok("open a /locks/a").await;
    // An acquire that has to create the file anew counts it, too.
    assert_eq!(guest.err("acquire b exclusive 0").await, "limit-exceeded");
    fs::remove_file(host.path("a")).unwrap();
    guest.ok("acquire b exclusive 0").await;
    assert_eq!(names(&host), ["b", "c", "d", "e"]);
    // A file that could not be created does not count.
    fs::remove_file(host.path("c")).unwrap();
    for _ in 0..5 {
        assert_eq!(guest.err("open x /locks/none/x").await, "no-entry");
    }
    guest.ok("open c /locks/c").await;
    // The limit of one guest is not that of another.
    let limits = Limits::new().created(1);
    let mut other = limited(&host, &host.locks, Rights::LOCKS, limits).await;
    other.ok("open f /locks/f").await;
    assert_eq!(other.err("open g /locks/g").await, "limit-exceeded");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_opens_create_no_more_than_the_default() {
    let host = Host::new();
    let mut guest = guest(&host, &host.locks, Rights::LOCKS).await;
    for i in 0..1024 {
        guest.ok(&format!("open a /locks/{i}")).await;
    }
    for i in 1024..1034 {
        let open = format!("open a /locks/{i}");
        assert_eq!(guest.err(&open).await, "limit-exceeded");
    }
    assert_eq!(names(&host).len(), 1024);
}
