//! Tokens grow with each exclusive grant, whichever engine makes it and whatever becomes of the file.

use std::process::Command;

use locket::{ErrorKind, Guard, OnRelease};
use rustix::fs::{XattrFlags, getxattr, setxattr};

use super::*;

const NAME: &str = "user.locket.token";

fn open(engine: &Engine, dir: &Dir) -> LockFile {
    let options = Options::new().fencing(true);
    engine.open_with(dir.path("lock"), &options).unwrap()
}

fn token(guard: &Guard) -> u64 {
    guard.token().expect("the lock has tokens")
}

#[test]
fn tokens_grow_over_engines_threads_and_tasks() {
    let dir = Dir::new();
    std::fs::write(dir.path("lock"), "precious").unwrap();
    let (engines, last) = ([that_hands_on(), Engine::new()], std::sync::Mutex::new(0));
    thread::scope(|scope| {
        for (index, engine) in engines.iter().cycle().take(6).enumerate() {
            let (lock, last) = (open(engine, &dir), &last);
            scope.spawn(move || {
                for _ in 0..200 {
                    let guard = match index % 3 {
                        0 => block_on(lock.acquire_async(EX, None)).unwrap(),
                        _ => lock.acquire(EX, STUCK).unwrap(),
                    };
                    let mut last = last.try_lock().expect("the lock is exclusive");
                    assert!(*last < token(&guard), "{last} came before");
                    *last = token(&guard);
                    drop(last);
                    guard.release().unwrap();
                }
            });
        }
    });
    assert_eq!(
        std::fs::read_to_string(dir.path("lock")).unwrap(),
        "precious"
    );
    let mut kept = [0; 32];
    let length = getxattr(dir.path("lock"), NAME, &mut kept).unwrap();
    let kept: u64 = str::from_utf8(&kept[..length]).unwrap().parse().unwrap();
    assert_eq!(kept, *last.lock().unwrap());
}

#[test]
fn a_reader_has_the_last_token_and_takes_none() {
    let dir = Dir::new();
    let lock = open(&Engine::new(), &dir);
    let before = token(&lock.acquire(EX, None).unwrap());
    let readers = [
        lock.acquire(SH, None).unwrap(),
        lock.acquire(SH, None).unwrap(),
    ];
    assert_eq!(readers.each_ref().map(token), [before, before]);
    drop(readers);
    assert!(before < token(&lock.acquire(EX, None).unwrap()));
    // One who did not ask for it has none, and takes none.
    let plain = dir.lock(&Engine::new());
    assert_eq!(plain.acquire(EX, None).unwrap().token(), None);
    assert!(!plain.guarantee().fencing && lock.guarantee().fencing);
}

#[test]
fn a_new_file_gives_no_token_again() {
    let dir = Dir::new();
    let before = token(&open(&Engine::new(), &dir).acquire(EX, None).unwrap());
    std::fs::remove_file(dir.path("lock")).unwrap();
    assert!(before < token(&open(&Engine::new(), &dir).acquire(EX, None).unwrap()));
}

#[test]
fn a_lost_hold_keeps_the_token_it_had() {
    let dir = Dir::new();
    let options = Options::new().fencing(true);
    let options = options.max_hold(Some(Duration::from_millis(1)));
    let lock = Engine::new().open_with(dir.path("lock"), &options).unwrap();
    let late = lock.acquire(EX, None).unwrap();
    let before = token(&late);
    eventually("it expires", || !late.is_held());
    assert_eq!(token(&late), before);
    assert!(before < token(&open(&Engine::new(), &dir).acquire(EX, None).unwrap()));
}

#[test]
fn without_a_token_nothing_is_held() {
    let dir = Dir::new();
    let lock = open(&Engine::new(), &dir);
    for wrong in [
        "",
        "no number",
        "18446744073709551615",
        "-1",
        &"9".repeat(40),
    ] {
        setxattr(
            dir.path("lock"),
            NAME,
            wrong.as_bytes(),
            XattrFlags::empty(),
        )
        .unwrap();
        let error = lock.acquire(EX, None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io, "{wrong}: {error}");
        assert!(block_on(lock.acquire_async(EX, None)).is_err());
        let mut flock = Command::new("flock");
        flock.arg("-n").arg(dir.path("lock")).arg("true");
        let free = flock.status().unwrap();
        assert!(free.success(), "it is held after {wrong}");
    }
}

#[test]
fn what_is_removed_on_release_cannot_have_tokens() {
    let dir = Dir::new();
    let open = |options: Options| {
        let opened = Engine::new().open_with(dir.path("lock"), &options.fencing(true));
        opened.expect_err("it cannot keep a token").kind()
    };
    let remove = Options::new().on_release(OnRelease::Remove);
    assert_eq!(open(remove), ErrorKind::Unsupported);
    let link = Options::new().protocol(Protocol::Link);
    assert_eq!(open(link), ErrorKind::Unsupported);
}
