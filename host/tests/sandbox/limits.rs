//! What a guest uses counts against its limits until it gives it back.

use super::*;

#[test]
fn what_is_given_back_counts_no_more() {
    let dir = Dir::new();
    let limits = Limits::new().handles(2).held(1).waiters(1);
    let guest = guest(&Engine::new(), dir.0.path(), limits);
    let foreign = dir.lock(&Engine::new()).acquire(EX, STUCK).unwrap();
    // One more time than each limit allows.
    for _ in 0..3 {
        let one = open(&guest, "/jobs/one").unwrap();
        let other = open(&guest, "/jobs/lock").unwrap();
        let more = open(&guest, "/jobs/one").unwrap_err();
        assert!(more.is_limit_exceeded(), "{more}");
        let waits = other.acquire_async(EX, None).unwrap();
        let mut waits = std::pin::pin!(waits);
        assert!(poll(&mut waits.as_mut()).is_pending());
        let more = other.acquire(EX, STUCK).unwrap_err();
        assert!(more.is_limit_exceeded(), "{more}");
        let hold = one.acquire(EX, STUCK).unwrap();
        let more = one.acquire(SH, STUCK).unwrap_err();
        assert!(more.is_limit_exceeded(), "{more}");
        hold.release().unwrap();
    }
    drop(foreign);
}

/// The number of open descriptors of this process that lead to files in a directory.
#[cfg(target_os = "linux")]
fn descriptors_in(dir: &std::path::Path) -> usize {
    let all = fs::read_dir("/proc/self/fd").unwrap().flatten();
    all.filter_map(|entry| fs::read_link(entry.path()).ok())
        .filter(|file| file.starts_with(dir) && file != dir)
        .count()
}

#[test]
#[cfg(target_os = "linux")]
fn what_tells_of_losses_counts_and_keeps_no_file_open() {
    let dir = Dir::new();
    let guest = guest(&Engine::new(), dir.0.path(), Limits::new().handles(3));
    let mut losses = Vec::new();
    for number in 0..5 {
        let lock = open(&guest, &format!("/jobs/{number}"));
        // Two for each lock while it is open.
        let Ok(lock) = lock else { break };
        losses.push(lock.lost().unwrap());
    }
    assert_eq!(losses.len(), 3);
    assert_eq!(descriptors_in(dir.0.path()), 0);
    let more = open(&guest, "/jobs/lock").unwrap_err();
    assert!(more.is_limit_exceeded(), "{more}");
    losses.pop();
    let lock = open(&guest, "/jobs/lock").unwrap();
    let more = (0..4).map(|_| lock.lost()).collect::<Result<Vec<_>>>();
    assert!(more.unwrap_err().is_limit_exceeded());
}

#[test]
fn files_that_a_guest_created_count_until_they_are_gone() {
    let dir = Dir::new();
    fs::write(dir.path("old"), "").unwrap();
    let guest = guest(&Engine::new(), dir.0.path(), Limits::new().created(2));
    for path in ["/jobs/one", "/jobs/two", "/jobs/one", "/jobs/old"] {
        open(&guest, path).unwrap();
    }
    let more = open(&guest, "/jobs/three").unwrap_err();
    assert!(more.is_limit_exceeded(), "{more}");
    assert!(!dir.path("three").exists());
    fs::remove_file(dir.path("two")).unwrap();
    open(&guest, "/jobs/three").unwrap();
}
