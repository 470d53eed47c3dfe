//! The directory of the lock is locked by another program, or replaced.

use std::fs::File;

use super::processes::*;
use super::*;

/// The directory is locked by a program that knows nothing of Locket, such as `flock DIR cmd`.
#[test]
fn a_locked_directory_delays_no_acquire() {
    for protocol in NAMES {
        println!("protocol {protocol}");
        let dir = Dir::new();
        let foreign = File::open(dir.0.path()).unwrap();
        foreign.lock().unwrap();
        let lock = open(&dir, protocol);
        for _ in 0..3 {
            lock.acquire(EX, STUCK).unwrap().release().unwrap();
        }
        assert_eq!(listing(dir.0.path()), [""; 0]);
        // Taken over without the directory lock, it could be that of the next holder.
        leave_behind(protocol, &dir);
        assert!(lock.try_acquire(EX).unwrap().is_none());
        foreign.unlock().unwrap();
        lock.acquire(EX, STUCK).unwrap().release().unwrap();
    }
}

#[test]
fn a_directory_that_is_made_anew_is_a_new_one() {
    for protocol in NAMES {
        println!("protocol {protocol}");
        let outer = Dir::new();
        let dir = outer.path("inner");
        fs::create_dir(&dir).unwrap();
        let lock = open_at(&dir, protocol);
        lock.acquire(EX, STUCK).unwrap().release().unwrap();
        fs::remove_dir_all(&dir).unwrap();
        assert!(lock.acquire(EX, STUCK).unwrap_err().is_not_found());
        fs::create_dir(&dir).unwrap();
        let guard = lock.acquire(EX, STUCK).unwrap();
        assert!(open_at(&dir, protocol).try_acquire(EX).unwrap().is_none());
        // It excludes no user of the directory that took its place.
        fs::rename(&dir, outer.path("moved")).unwrap();
        fs::create_dir(&dir).unwrap();
        let next = open_at(&dir, protocol).try_acquire(EX).unwrap().unwrap();
        guard.release().unwrap();
        assert_eq!(listing(&outer.path("moved")), [""; 0]);
        next.release().unwrap();
        assert_eq!(listing(&dir), [""; 0]);
    }
}

#[test]
fn a_wait_follows_a_directory_that_is_made_anew() {
    for protocol in NAMES {
        println!("protocol {protocol}");
        let outer = Dir::new();
        let dir = outer.path("inner");
        fs::create_dir(&dir).unwrap();
        let held = open_at(&dir, protocol).acquire(EX, STUCK).unwrap();
        let lock = open_at(&dir, protocol);
        let mut wait = pending(&lock, EX);
        // In one step, as seen through the path.
        fs::create_dir(outer.path("new")).unwrap();
        fs::rename(&dir, outer.path("old")).unwrap();
        fs::rename(outer.path("new"), &dir).unwrap();
        let next = open_at(&dir, protocol).acquire(EX, STUCK).unwrap();
        // The waiter may try there once more when the entry is gone.
        eventually("the directory is gone", || {
            fs::remove_dir_all(outer.path("old")).is_ok()
        });
        assert!(held.release().unwrap_err().is_lost());
        assert!(poll(&mut wait).is_pending());
        next.release().unwrap();
        block_on(wait).unwrap().release().unwrap();
    }
}
