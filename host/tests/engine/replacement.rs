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
