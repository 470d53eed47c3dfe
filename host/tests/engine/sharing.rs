//! Readers and writers of one engine.

use super::*;

#[test]
fn readers_share_and_a_waiting_writer_is_not_overtaken() {
    let dir = Dir::new();
    let lock = dir.lock(&Engine::new());
    let first = lock.acquire(SH, None).unwrap();
    let second = lock.acquire(SH, Duration::ZERO).unwrap();
    let mut writer = pending(&lock, EX);
    let mut late = [pending(&lock, SH), pending(&lock, SH)];
    assert!(
        lock.try_acquire(SH).unwrap().is_none(),
        "a reader overtook the writer"
    );
    drop(first);
    assert!(poll(&mut writer).is_pending());
    drop(second);
    let writer = block_on(writer).unwrap();
    assert!(late.iter_mut().all(|reader| poll(reader).is_pending()));
    drop(writer);
    let readers = late.map(|reader| block_on(reader).unwrap());
    assert_eq!(lock.holder().unwrap().unwrap().mode, SH);
    drop(readers);
    assert!(!lock.is_locked().unwrap());
}

#[test]
fn a_canceled_writer_lets_the_readers_behind_it_join() {
    let dir = Dir::new();
    let lock = dir.lock(&that_hands_on());
    let _reader = lock.acquire(SH, None).unwrap();
    let writer = pending(&lock, EX);
    let mut reader = pending(&lock, SH);
    drop(writer);
    let _joined = ready(&mut reader);
}
