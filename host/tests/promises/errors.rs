//! What errors and locks say of themselves, in process: 15.

use locket::{Engine, Error};
use std::time::Duration;

use super::{NOW, foreign, open};
use crate::common::*;

#[test]
fn each_error_is_one_kind_and_names_the_path() {
    each_protocol(|options| {
        let dir = Dir::new();
        let lock = open(&Engine::new(), &dir, options);
        let unlocked = lock.release().unwrap_err();
        let guard = foreign(&dir, options).acquire(EX, None).unwrap();
        let errors = [
            lock.acquire(EX, NOW).unwrap_err(),
            lock.acquire(EX, Duration::from_millis(5)).unwrap_err(),
            lock.release().unwrap_err(),
            unlocked,
        ];
        guard.release().unwrap();
        let kinds = [
            Error::is_would_block,
            Error::is_timeout,
            Error::is_not_owner,
            Error::is_not_locked,
        ];
        let path = dir.path("lock");
        for (i, error) in errors.iter().enumerate() {
            for (j, is) in kinds.iter().enumerate() {
                assert_eq!(is(error), i == j, "{error}");
            }
            assert_eq!(error.path(), path);
            let text = error.to_string();
            assert!(text.contains(path.to_str().unwrap()), "{text}");
        }
        let text = errors[3].to_string();
        assert!(text.starts_with("cannot release"), "{text}");
        assert!(text.contains("not held"), "{text}");
    });
}

#[test]
fn an_error_of_the_system_says_which() {
    each_protocol(|options| {
        let dir = Dir::new();
        let missing = dir.path("none/lock");
        let error = Engine::new().open_with(&missing, options).unwrap_err();
        assert!(error.is_not_found(), "{error}");
        assert!(error.os_error().is_some());
        let text = error.to_string();
        assert!(text.contains(missing.to_str().unwrap()), "{text}");
        let as_io = std::io::Error::from(error);
        assert_eq!(as_io.kind(), std::io::ErrorKind::NotFound);
        assert!(!dir.path("none").exists());
    });
}

#[test]
#[cfg(target_os = "linux")]
fn in_a_directory_without_permission_it_is_not_the_error_of_a_held_lock() {
    each_protocol(|options| {
        for owner in [locket::Owner::Process, locket::Owner::Thread] {
            let dir = Dir::new();
            // The database is elsewhere, and so must be made unwritable as well.
            let options = options.clone().owner(owner);
            let options = options.database(dir.path("locks.db"));
            let acquire = || {
                let lock = Engine::new().open_with(dir.path("lock"), &options)?;
                lock.acquire(EX, None)
            };
            let error = without_privileges(&dir, || acquire().unwrap_err());
            assert!(!error.is_would_block() && !error.is_timeout(), "{error}");
            assert_eq!(error.path(), dir.path("lock"));
            // SQLite says no more than that it cannot.
            assert!(error.is_denied() || error.is_io(), "{error}");
            assert!(dir.names().is_empty(), "{:?}", dir.names());
            acquire().unwrap().release().unwrap();
        }
    });
}

#[test]
fn locks_guards_and_errors_print_what_they_are() {
    each_protocol(|options| {
        let dir = Dir::new();
        let lock = open(&Engine::new(), &dir, options);
        let path = format!("{:?}", dir.path("lock"));
        let protocol = format!("{:?}", lock.protocol());
        let print = || {
            let text = format!("{lock:?}");
            assert!(text.starts_with("LockFile"), "{text}");
            assert!(text.contains(&path) && text.contains(&protocol), "{text}");
            text
        };
        let guard = lock.acquire(EX, None).unwrap();
        assert!(print().contains("holding: 1"));
        let text = format!("{guard:?}");
        assert!(text.starts_with("Guard") && text.contains(&path), "{text}");
        guard.release().unwrap();
        assert!(print().contains("holding: 0"));
        let error = lock.release().unwrap_err();
        let text = format!("{error:?}");
        assert!(text.contains("NotLocked") && text.contains(&path), "{text}");
    });
}

/// Otherwise the tests of a protocol would pass without it.
#[test]
fn every_protocol_of_this_build_is_tested() {
    for &protocol in locket::Protocol::ALL {
        let expected = match protocol {
            locket::Protocol::Sqlite => cfg!(feature = "sqlite"),
            // Windows asks for a privilege.
            locket::Protocol::Symlink if cfg!(windows) => continue,
            _ => true,
        };
        assert_eq!(is_available(protocol), expected, "{protocol}");
    }
}
