//! Files that the host has open for a guest.

use std::fs::File;

use super::ranges::held;
use super::*;

#[test]
fn the_right_to_an_open_file_is_the_right_to_its_lock() {
    let dir = Dir::new();
    std::fs::write(dir.path("file"), "").unwrap();
    let engine = Engine::new();
    // No directory is granted.
    let [one, two] = [(); 2].map(|()| Sandbox::builder(&engine).lock_open_files(true).build());
    let read = || File::open(dir.path("file")).unwrap();
    let write = || {
        File::options()
            .read(true)
            .write(true)
            .open(dir.path("file"))
            .unwrap()
    };
    let both = Rights::SHARED | Rights::EXCLUSIVE;

    let file = one.open_lent_ranges(&read(), Rights::SHARED).unwrap();
    assert_eq!(file.path(), "");
    file.lock(Mode::Shared, 0..5, None).unwrap();
    assert!(file.lock(EX, 0..5, None).unwrap_err().is_denied());
    let writable = one.open_lent_ranges(&write(), both).unwrap();
    writable.lock(EX, 0..5, None).unwrap();
    assert_eq!(file.held(), [held(EX, 0..5)]);
    assert!(file.lock(EX, 0..5, None).unwrap_err().is_denied());
    let other = two.open_lent_ranges(&write(), both).unwrap();
    assert!(
        other
            .lock(Mode::Shared, .., Duration::ZERO)
            .unwrap_err()
            .is_would_block()
    );

    // What was locked through a descriptor that the guest still has leaves it.
    let (reader, writer) = (read(), File::options().write(true).open(dir.path("file")));
    let lend = |file: &File, rights| one.open_lent_ranges(file, rights);
    writable.unlock(..).unwrap();
    drop((file, writable));
    let file = lend(&reader, Rights::SHARED).unwrap();
    file.lock(Mode::Shared, 0..5, None).unwrap();
    let writable = lend(&writer.unwrap(), both).unwrap();
    writable.lock(EX, 0..2, Duration::ZERO).unwrap();
    assert_eq!(file.held(), [held(EX, 0..2), held(Mode::Shared, 2..5)]);
    writable.unlock(..).unwrap();
    other.lock(EX, .., Duration::ZERO).unwrap();

    // The guest is told no path of the host.
    let error = writable.lock(EX, .., Duration::ZERO).unwrap_err();
    assert_eq!(error.path(), Path::new(""));
    assert!(!error.to_string().contains("tmp"), "{error}");
    other.unlock(..).unwrap();

    let keep = OnRelease::Keep;
    let lock = two
        .open_lent(&write(), both, Some(Protocol::Flock), keep)
        .unwrap();
    let by_path = engine.open(dir.path("file")).unwrap();
    let hold = lock.acquire(EX, None).unwrap();
    assert!(by_path.try_acquire(Mode::Shared).unwrap().is_none());
    hold.release().unwrap();
    let reader = two
        .open_lent(&read(), Rights::SHARED, Some(Protocol::Flock), keep)
        .unwrap();
    let hold = by_path.acquire(EX, None).unwrap();
    let error = reader.acquire(Mode::Shared, Duration::ZERO).unwrap_err();
    assert!(
        error.is_would_block() && !error.to_string().contains("tmp"),
        "{error}"
    );
    hold.release().unwrap();
    assert!(reader.acquire(EX, None).unwrap_err().is_denied());
    reader
        .acquire(Mode::Shared, None)
        .unwrap()
        .release()
        .unwrap();

    let refused = |protocol, on_release| two.open_lent(&write(), both, Some(protocol), on_release);
    assert!(refused(Protocol::Soft, keep).unwrap_err().is_unsupported());
    assert!(
        refused(Protocol::Native, OnRelease::Remove)
            .unwrap_err()
            .is_unsupported()
    );
    // Only if the host says so.
    let neither = Sandbox::builder(&engine).build();
    let refused = neither.open_lent_ranges(&read(), both).unwrap_err();
    assert!(refused.is_unsupported(), "{refused}");
    let refused = neither.open_lent(&read(), both, None, keep).unwrap_err();
    assert!(refused.is_unsupported(), "{refused}");
    // Windows opens a directory only if it is asked to.
    #[cfg(unix)]
    {
        let folder = File::open(dir.0.path()).unwrap();
        let error = two.open_lent_ranges(&folder, both).unwrap_err();
        assert!(error.is_invalid_path(), "{error}");
        assert!(!error.to_string().contains("tmp"), "{error}");
    }
}
