//! A directory that another program has locked with `flock`, for as long as it likes.

use std::fs::File;

use locket::{Options, Protocol};
use rustix::fs::{FlockOperation, flock};

use super::*;

fn open(engine: &Engine, dir: &Dir, protocol: Protocol) -> LockFile {
    let options = Options::new().protocol(protocol).max_hold(Some(2 * BRIEF));
    engine.open_with(dir.path("lock"), &options).unwrap()
}

#[test]
fn what_is_done_in_a_locked_directory_holds_up_nothing_else() {
    for protocol in NAMES {
        println!("{protocol}");
        let (dir, engine) = (Dir::new(), Engine::new());
        let lock = open(&engine, &dir, protocol);
        let guard = lock.acquire(EX, STUCK).unwrap();
        let other = Elsewhere::new(&engine);
        let directory = File::open(dir.0.path()).unwrap();
        flock(&directory, FlockOperation::LockExclusive).unwrap();
        let waits = pending(&lock, EX);
        let task = lock.acquire_async(EX, BRIEF);
        must_end("a hold and a wait in it", move || {
            let lost = guard.lost();
            drop(block_on(task));
            block_on(lost);
            drop(guard);
            drop(waits);
        });
        other.goes_on();
        drop(directory);
        lock.acquire(EX, STUCK).unwrap().release().unwrap();
    }
}
