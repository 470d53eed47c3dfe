//! The engine removes the lock file only if it may, and changes nothing else about it.

use locket::OnRelease;

use super::*;

#[test]
fn removal_spares_files_that_are_not_its_own() {
    let dir = Dir::new();
    let options = Options::new().on_release(OnRelease::Remove);
    let lock = Engine::new().open_with(dir.path("lock"), &options).unwrap();
    let guard = lock.acquire(EX, None).unwrap();
    std::fs::rename(dir.path("lock"), dir.path("away")).unwrap();
    std::fs::write(dir.path("lock"), "another program's").unwrap();
    assert!(guard.release().unwrap_err().is_lost());
    assert_eq!(
        std::fs::read_to_string(dir.path("lock")).unwrap(),
        "another program's"
    );
    assert!(dir.path("away").exists());
    // A reader does not remove the file while there are other readers.
    let reader = lock.acquire(SH, None).unwrap();
    let foreign_lock = dir.lock(&Engine::new());
    let foreign = foreign_lock.acquire(SH, None).unwrap();
    reader.release().unwrap();
    assert!(dir.path("lock").exists());
    foreign.release().unwrap();
    lock.acquire(SH, None).unwrap().release().unwrap();
    drop((foreign_lock, lock));
    assert!(!dir.path("lock").exists());
}

#[test]
fn contents_and_times_of_the_file_stay_as_they_are() {
    let dir = Dir::new();
    std::fs::write(dir.path("lock"), "precious").unwrap();
    let before = std::fs::metadata(dir.path("lock")).unwrap();
    for protocol in KERNEL {
        let options = Options::new().protocol(protocol);
        let lock = Engine::new().open_with(dir.path("lock"), &options).unwrap();
        let guard = lock.acquire(EX, None).unwrap();
        lock.acquire(SH, Duration::from_millis(1)).unwrap_err();
        guard.release().unwrap();
    }
    let after = std::fs::metadata(dir.path("lock")).unwrap();
    assert_eq!(
        std::fs::read_to_string(dir.path("lock")).unwrap(),
        "precious"
    );
    assert_eq!(before.modified().unwrap(), after.modified().unwrap());
}

#[test]
#[cfg(target_os = "linux")]
fn a_user_of_the_other_family_keeps_its_file() {
    let dir = Dir::new();
    std::fs::write(dir.path("lock"), "").unwrap();
    let flock = Options::new().protocol(Protocol::Flock);
    let (engine, path) = (Engine::new(), dir.path("lock"));
    // The first handle opens the file for reading alone, and the lock is on its description.
    let _reader = engine.open_with(&path, &flock).unwrap();
    let remove = flock.on_release(OnRelease::Remove);
    let lock = engine.open_with(&path, &remove).unwrap();
    let fcntl = Options::new().protocol(Protocol::Fcntl);
    for mode in [SH, EX] {
        let other = Engine::new().open_with(&path, &fcntl).unwrap();
        let other = other.acquire(mode, None).unwrap();
        lock.acquire(EX, None).unwrap().release().unwrap();
        assert!(path.exists());
        other.release().unwrap();
    }
    lock.acquire(EX, None).unwrap().release().unwrap();
    assert!(!path.exists());
}

#[test]
#[cfg(target_os = "linux")]
fn a_reader_removes_the_file_through_another_description() {
    for protocol in KERNEL {
        let dir = Dir::new();
        std::fs::write(dir.path("lock"), "").unwrap();
        let (engine, path) = (Engine::new(), dir.path("lock"));
        let flock = Options::new().protocol(Protocol::Flock);
        let _reader = engine.open_with(&path, &flock).unwrap();
        let options = Options::new().protocol(protocol);
        let options = options.on_release(OnRelease::Remove);
        let lock = engine.open_with(&path, &options).unwrap();
        let other = Engine::new().open_with(&path, &flock).unwrap();
        let sharer = other.acquire(SH, None).unwrap();
        lock.acquire(SH, None).unwrap().release().unwrap();
        assert!(path.exists(), "{protocol}");
        sharer.release().unwrap();
        lock.acquire(SH, None).unwrap().release().unwrap();
        assert!(!path.exists(), "{protocol}");
    }
}
