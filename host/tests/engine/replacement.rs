//! Another file appears under the path of the lock.

use std::fs::File;
use std::sync::mpsc;

use locket::LostReason;

use super::*;

#[test]
fn a_file_removed_while_waiting_moves_the_waiters_to_its_successor() {
    let dir = Dir::new();
    let path = dir.path("lock");
    if !removes_open_files(&dir) {
        return;
    }
    let (holder, lock) = (dir.lock(&Engine::new()), dir.lock(&Engine::new()));
    let guard = holder.acquire(EX, None).unwrap();
    let (sent, received) = mpsc::channel();
    let blocked = {
        let (lock, sent) = (lock.clone(), sent.clone());
        thread::spawn(move || {
            let guard = lock.acquire(EX, None).unwrap();
            sent.send(()).unwrap();
            guard
        })
    };
    eventually("it waits", || format!("{lock:?}").contains("waiting: 1"));
    let task = pending(&lock, EX);
    std::fs::remove_file(&path).unwrap();
    let newcomer = dir.lock(&Engine::new()).acquire(EX, None).unwrap();
    let lost = guard.release().unwrap_err();
    assert_eq!(lost.lost_reason(), Some(LostReason::Broken));
    assert!(
        received.recv_timeout(QUIESCENT).is_err(),
        "two holders of one path"
    );
    newcomer.release().unwrap();
    drop(blocked.join().unwrap());
    block_on(task).unwrap().release().unwrap();
    assert!(path.exists());
}

#[test]
fn a_file_replaced_by_rename_is_a_new_lock() {
    let dir = Dir::new();
    let lock = dir.lock(&Engine::new());
    let old = lock.acquire(EX, None).unwrap();
    File::create(dir.path("new")).unwrap();
    match std::fs::rename(dir.path("new"), dir.path("lock")) {
        Err(e) if cfg!(windows) => {
            return not_tested(format_args!("an open file is not replaced here: {e}"));
        }
        renamed => renamed.unwrap(),
    }
    let new = dir
        .lock(&Engine::new())
        .acquire(EX, Duration::ZERO)
        .unwrap();
    assert!(old.release().unwrap_err().is_lost());
    assert!(lock.try_acquire(EX).unwrap().is_none());
    assert!(dir.lock(&Engine::new()).try_acquire(EX).unwrap().is_none());
    new.release().unwrap();
}

/// Whatever leads the path away from the locked file lets another holder in, so its holder learns it.
#[test]
#[cfg(unix)]
fn a_file_that_is_moved_or_replaced_is_lost_to_its_holder() {
    type Move = (&'static str, fn(&Dir));
    let moves: [Move; 4] = [
        ("moved", |dir| {
            std::fs::rename(dir.path("jobs/lock"), dir.path("jobs/old")).unwrap();
        }),
        ("replaced, and still there as a backup", |dir| {
            std::fs::hard_link(dir.path("jobs/lock"), dir.path("jobs/backup")).unwrap();
            File::create(dir.path("new")).unwrap();
            std::fs::rename(dir.path("new"), dir.path("jobs/lock")).unwrap();
        }),
        ("in a directory that is moved", |dir| {
            std::fs::rename(dir.path("jobs"), dir.path("old-jobs")).unwrap();
            std::fs::create_dir(dir.path("jobs")).unwrap();
        }),
        ("replaced by a link", |dir| {
            std::fs::rename(dir.path("jobs/lock"), dir.path("jobs/old")).unwrap();
            assert!(symlink(dir.path("elsewhere"), dir.path("jobs/lock")));
        }),
    ];
    each_kernel_protocol(|options| {
        for (what, lead_away) in moves {
            let dir = Dir::new();
            std::fs::create_dir(dir.path("jobs")).unwrap();
            let lock = Engine::new().open_with(dir.path("jobs/lock"), options);
            let lock = lock.unwrap();
            let guard = lock.acquire(EX, None).unwrap();
            lead_away(&dir);
            let error = guard.release().unwrap_err();
            assert!(error.is_lost(), "{what}: {error}");
            // The next acquire is of the file that is there now.
            if !dir.path("jobs/lock").is_symlink() {
                lock.acquire(EX, None).unwrap().release().unwrap();
            }
        }
    });
}

#[test]
#[cfg(unix)]
fn a_path_that_still_leads_to_the_file_keeps_the_lock() {
    each_kernel_protocol(|options| {
        let dir = Dir::new();
        let lock = Engine::new().open_with(dir.path("lock"), options).unwrap();
        let guard = lock.acquire(EX, None).unwrap();
        std::fs::rename(dir.path("lock"), dir.path("moved")).unwrap();
        assert!(symlink(dir.path("moved"), dir.path("lock")));
        guard.release().unwrap();
        // The engine does not check what the caller has promised.
        let trusting = options.clone().skip_identity_check(true);
        let lock = Engine::new().open_with(dir.path("lock"), &trusting);
        let guard = lock.unwrap().acquire(EX, None).unwrap();
        std::fs::remove_file(dir.path("lock")).unwrap();
        guard.release().unwrap();
    });
}
