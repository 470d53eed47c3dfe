//! What a guest may do with the files that it reaches.

use super::*;

#[test]
fn removal_and_existence_locks_take_rights_of_their_own() {
    let dir = Dir::new();
    let guest = Sandbox::builder(&Engine::new());
    let guest = guest.grant_dir(dir.0.path(), "/jobs", Rights::LOCKS);
    let guest = guest.unwrap().build();
    let open = |protocol, on_release| guest.open("/jobs/one", Some(protocol), on_release);
    for &protocol in Protocol::ALL {
        let kept = open(protocol, OnRelease::Keep);
        assert_eq!(kept.is_ok(), !protocol.is_existence_lock(), "{protocol}");
        let removed = open(protocol, OnRelease::Remove).unwrap_err();
        assert!(removed.is_denied(), "{protocol}: {removed}");
    }
}

#[test]
fn only_an_empty_file_with_a_single_name_is_removed() {
    let dir = Dir::new();
    let engine = Engine::new();
    let guest = guest(&engine, dir.0.path(), Limits::new());
    fs::write(dir.path("data"), "precious").unwrap();
    fs::write(dir.path("twice"), "").unwrap();
    fs::hard_link(dir.path("twice"), dir.path("other")).unwrap();
    for (name, stays) in [("data", true), ("twice", true), ("new", false)] {
        for protocol in [Protocol::Native, Protocol::Flock, Protocol::Fcntl] {
            let path = format!("/jobs/{name}");
            let lock = guest.open(&path, Some(protocol), OnRelease::Remove);
            let hold = lock.unwrap().acquire(EX, STUCK);
            hold.unwrap().release().unwrap();
            assert_eq!(dir.path(name).exists(), stays, "{name}, {protocol}");
        }
    }
    assert_eq!(fs::read(dir.path("data")).unwrap(), b"precious");
}

#[test]
fn nothing_is_created_within_an_existence_lock() {
    let dir = Dir::new();
    fs::create_dir(dir.path("k.lock")).unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink("k.lock", dir.path("link")).unwrap();
    let guest = guest(&Engine::new(), dir.0.path(), Limits::new());
    let paths = ["/jobs/k.lock/vm.4194303", "/jobs/link/vm.4194303"];
    for path in paths.into_iter().take(if cfg!(unix) { 2 } else { 1 }) {
        let refused = open(&guest, path).unwrap_err();
        assert!(refused.is_denied(), "{refused}");
    }
    assert_eq!(fs::read_dir(dir.path("k.lock")).unwrap().count(), 0);
}

#[test]
fn a_grant_is_revoked_from_one_guest_and_not_from_others_with_the_same_settings() {
    let dir = Dir::new();
    let settings = Sandbox::builder(&Engine::new());
    let settings = settings.grant_dir(dir.0.path(), "/jobs", Rights::LOCKS);
    let settings = settings.unwrap();
    let (one, other) = (settings.clone().build(), settings.clone().build());
    let acquire = |lock: &GuestLock| lock.acquire(EX, None).map(drop);
    let (lost, kept) = (open(&one, "/jobs/a"), open(&other, "/jobs/a"));
    let (lost, kept) = (lost.unwrap(), kept.unwrap());
    let hold = lost.acquire(EX, None).unwrap();
    assert!(one.revoke_grant("/jobs"));
    assert!(hold.release().unwrap_err().is_lost());
    assert!(acquire(&lost).unwrap_err().is_denied());
    assert!(open(&one, "/jobs/a").unwrap_err().is_denied());
    acquire(&kept).unwrap();
    acquire(&open(&settings.build(), "/jobs/a").unwrap()).unwrap();
}
