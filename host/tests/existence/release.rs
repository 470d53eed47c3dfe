//! A release removes the entry in one step and nothing else, and says if it cannot.

use std::process::Command;

use super::processes::*;
use super::*;

/// The entry is gone in one step, so a holder that is killed during its release does not block others.
/// Files that another process put into a lock directory are not removed with it.
#[test]
fn a_directory_that_is_released_is_gone_in_one_step() {
    use rustix::fs::inotify;
    use std::mem::MaybeUninit;
    let dir = Dir::new();
    let lock = open(&dir, Protocol::Mkdir);
    let guard = lock.acquire(EX, STUCK).unwrap();
    let notices = inotify::init(inotify::CreateFlags::NONBLOCK).unwrap();
    let inner = dir.path("lock.lock");
    let all = inotify::WatchFlags::DELETE | inotify::WatchFlags::MOVE;
    inotify::add_watch(&notices, dir.0.path(), all).unwrap();
    inotify::add_watch(&notices, &inner, all).unwrap();
    guard.release().unwrap();
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut reader = inotify::Reader::new(&notices, &mut buffer);
    let first = reader.next().unwrap();
    assert_eq!(first.file_name().unwrap().to_bytes(), b"lock.lock");
    assert_eq!(listing(dir.0.path()), [""; 0]);

    let guard = lock.acquire(EX, STUCK).unwrap();
    fs::write(inner.join("precious"), "").unwrap();
    guard.release().unwrap();
    assert!(!inner.exists());
    let kept = listing(dir.0.path());
    assert_eq!(kept.len(), 1);
    assert_eq!(listing(&dir.path(&kept[0])), ["precious"]);
}

/// A release works if the process has no descriptors left.
#[test]
fn a_release_without_descriptors() {
    for protocol in NAMES {
        println!("protocol {protocol}");
        let dir = Dir::new();
        let run_out = child("run out", protocol, dir.0.path()).status().unwrap();
        assert!(run_out.success());
        assert_eq!(listing(dir.0.path()), [""; 0]);
    }
}

/// As on a network file system whose server does not answer: the entry may still be there.
#[test]
fn a_release_that_cannot_look_at_its_entry_fails() {
    let dir = Dir::new();
    let mut holder = Command::new("strace");
    holder.args(["-f", "-o", "/dev/null", "-e", "inject=readlinkat:error=EIO"]);
    holder.arg(std::env::current_exe().unwrap());
    as_child(&mut holder, "give back", Protocol::Symlink, dir.0.path());
    match holder.status() {
        Ok(status) => assert!(status.success()),
        Err(e) => return not_tested(format_args!("no strace here: {e}")),
    }
    let released = fs::read_to_string(dir.path("released")).unwrap();
    assert!(released.contains("Input/output error"), "{released}");
    assert!(
        released.contains(dir.0.path().to_str().unwrap()),
        "{released}"
    );
    // The holder has ended by now.
    let lock = open(&dir, Protocol::Symlink);
    lock.acquire(EX, STUCK).unwrap().release().unwrap();
}
