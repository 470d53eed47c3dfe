//! Locks that are a name, and those who die, break in and meddle while they are held.
#![cfg(target_os = "linux")]

mod common;

use std::fs::{self, File, TryLockError};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use common::*;
use locket::{Engine, LockFile, LostReason, Options, Protocol, State};

/// Those, and the one that is a row, where it is there.
fn all() -> impl Iterator<Item = Protocol> {
    let row = cfg!(feature = "sqlite").then_some(Protocol::Sqlite);
    let all = NAMES.into_iter().chain(row);
    all.inspect(|protocol| println!("protocol {protocol}"))
}

fn open_in(engine: &Engine, protocol: Protocol, dir: &Path) -> LockFile {
    let options = Options::new().protocol(protocol);
    let options = options.database(dir.join("locks.db"));
    engine.open_with(dir.join("lock"), &options).unwrap()
}

fn open(protocol: Protocol, dir: &Path) -> LockFile {
    open_in(&Engine::new(), protocol, dir)
}

/// What has the name that is the lock.
fn name(protocol: Protocol, dir: &Dir) -> PathBuf {
    match protocol {
        Protocol::PidFile | Protocol::Soft => dir.path("lock"),
        _ => dir.path("lock.lock"),
    }
}

fn listing(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).unwrap();
    let mut names: Vec<_> = names
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// This program again, in a role of its own.
fn child(role: &str, protocol: Protocol, dir: &Path) -> Command {
    let mut child = Command::new(std::env::current_exe().unwrap());
    as_child(&mut child, role, protocol, dir);
    child
}

fn as_child(command: &mut Command, role: &str, protocol: Protocol, dir: &Path) {
    command
        .args(["as_another_process", "--exact", "--ignored", "--nocapture"])
        .env("ROLE", role)
        .env("PROTOCOL", protocol.name())
        .env("FOLDER", dir)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
}

#[test]
#[ignore = "started by other tests"]
fn as_another_process() {
    let Ok(role) = std::env::var("ROLE") else {
        return;
    };
    // Nothing that it does ends by itself if the test that started it fails.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL)).unwrap();
    let protocol = std::env::var("PROTOCOL").unwrap().parse().unwrap();
    let dir = PathBuf::from(std::env::var("FOLDER").unwrap());
    match role.as_str() {
        "contend" => contend(protocol, &dir),
        "break" => break_by_hand(protocol, &dir),
        "die" => {
            std::mem::forget(open(protocol, &dir).acquire(EX, STUCK).unwrap());
            // Nothing is dropped.
            std::process::exit(0);
        }
        "once" => open(protocol, &dir)
            .acquire(EX, STUCK)
            .unwrap()
            .release()
            .unwrap(),
        "hold" => {
            let guard = open(protocol, &dir).acquire(EX, STUCK).unwrap();
            fs::write(dir.join("held"), "").unwrap();
            eventually("the end", || dir.join("end").exists());
            guard.release().unwrap();
        }
        "give back" => {
            let guard = open(protocol, &dir).acquire(EX, STUCK).unwrap();
            let released = guard.release().map_err(|e| e.to_string());
            fs::write(dir.join("released"), format!("{released:?}")).unwrap();
        }
        "try" => {
            let free = open(protocol, &dir).try_acquire(EX).unwrap().is_some();
            fs::write(dir.join("free"), free.to_string()).unwrap();
        }
        "run out" => {
            let guard = open(protocol, &dir).acquire(EX, STUCK).unwrap();
            let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
            let none = rustix::process::Rlimit {
                current: Some(0),
                ..limit
            };
            rustix::process::setrlimit(rustix::process::Resource::Nofile, none).unwrap();
            let released = guard.release();
            rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
            released.unwrap();
        }
        other => panic!("no such role: {other}"),
    }
}

/// Acquires and releases on some threads until it is killed. If somebody else holds the lock too,
/// which a lock of the kernel tells that is held for as long, it leaves a trace.
fn contend(protocol: Protocol, dir: &Path) {
    let trace = |name: &str, what: String| fs::write(dir.join(name), what).unwrap();
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let lock = open(protocol, dir);
                loop {
                    let guard = match lock.acquire(EX, STUCK) {
                        Ok(guard) => guard,
                        Err(e) => return trace("failed", format!("{e:?}")),
                    };
                    let witness = File::open(dir.join("witness")).unwrap();
                    if let Err(TryLockError::WouldBlock) = witness.try_lock() {
                        trace("twice", format!("{lock:?}"));
                    }
                    let _ = fs::write(dir.join("granted"), "");
                    drop(witness);
                    if let Err(e) = guard.release() {
                        trace("failed", format!("{e:?}"));
                    }
                }
            });
        }
    });
}

fn break_by_hand(protocol: Protocol, dir: &Path) {
    let lock = open(protocol, dir);
    while !dir.join("end").exists() {
        match lock.break_lock() {
            Ok(()) => {}
            Err(e) if e.is_not_locked() => {}
            Err(e) => fs::write(dir.join("failed"), format!("{e:?}")).unwrap(),
        }
    }
}

/// A process that is killed in the end.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[track_caller]
fn assert_no_trace(dir: &Dir) {
    for trace in ["twice", "failed"] {
        if let Ok(what) = fs::read_to_string(dir.path(trace)) {
            panic!("{trace}: {what}");
        }
    }
}

/// Leaves a lock behind whose holder is dead.
fn leave_behind(protocol: Protocol, dir: &Dir) {
    assert!(
        child("die", protocol, dir.0.path())
            .status()
            .unwrap()
            .success()
    );
}

#[test]
fn whoever_is_killed_anywhere_is_displaced_by_one() {
    const KILLS: usize = 24;
    for protocol in all() {
        let dir = Dir::new();
        fs::write(dir.path("witness"), "").unwrap();
        let start = || Killed(child("contend", protocol, dir.0.path()).spawn().unwrap());
        let mut contenders: Vec<_> = (0..4).map(|_| start()).collect();
        for kill in 0..KILLS {
            // Whatever it does then, unless it waits.
            eventually("a grant", || fs::remove_file(dir.path("granted")).is_ok());
            contenders[kill % 4] = start();
            assert_no_trace(&dir);
        }
        drop(contenders);
        assert_no_trace(&dir);
        let lock = open(protocol, dir.0.path());
        lock.acquire(EX, STUCK).unwrap().release().unwrap();
    }
}

#[test]
fn many_break_by_hand_at_once() {
    for protocol in all() {
        let dir = Dir::new();
        let start = || Killed(child("break", protocol, dir.0.path()).spawn().unwrap());
        let breakers: Vec<_> = (0..3).map(|_| start()).collect();
        let lock = open(protocol, dir.0.path());
        let mut lost = 0;
        // For as long as it takes, which depends on the machine.
        while lost < 10 {
            let guard = lock.acquire(EX, STUCK).unwrap();
            thread::yield_now();
            match guard.release() {
                Ok(()) => {}
                Err(e) => lost += usize::from(e.is_lost()),
            }
            assert_no_trace(&dir);
        }
        fs::write(dir.path("end"), "").unwrap();
        for mut breaker in breakers {
            assert!(breaker.0.wait().unwrap().success());
        }
        assert_no_trace(&dir);
        lock.acquire(EX, STUCK).unwrap().release().unwrap();
        let rest = listing(dir.0.path());
        let mut rest = rest
            .iter()
            .filter(|name| !["end", "locks.db"].contains(&name.as_str()));
        assert_eq!(rest.next(), None);
    }
}

/// Two handles of two engines are to each other like two processes; one of them holds a lock, and
/// what has its name is what the other put there, so one of the two has to know.
#[test]
fn a_holder_learns_of_a_break_however_often_the_name_changes_after_it() {
    for protocol in all() {
        let dir = Dir::new();
        let (first, second) = (open(protocol, dir.0.path()), open(protocol, dir.0.path()));
        let guard = first.acquire(EX, STUCK).unwrap();
        second.break_lock().unwrap();
        // No two changes are further apart than it takes to make sure.
        let start = Instant::now();
        while first.state() != State::Lost(LostReason::Broken) {
            second.acquire(EX, STUCK).unwrap().release().unwrap();
            assert!(start.elapsed() < STUCK / 5, "not told");
        }
        assert!(guard.release().unwrap_err().is_lost());
        first.acquire(EX, STUCK).unwrap().release().unwrap();
    }
}

#[test]
fn a_release_after_a_break_leaves_the_next_one_alone() {
    for protocol in all() {
        let dir = Dir::new();
        let (first, second) = (open(protocol, dir.0.path()), open(protocol, dir.0.path()));
        let guard = first.acquire(EX, STUCK).unwrap();
        second.break_lock().unwrap();
        let next = second.acquire(EX, STUCK).unwrap();
        assert!(guard.release().unwrap_err().is_lost());
        assert!(first.try_acquire(EX).unwrap().is_none());
        next.release().unwrap();
    }
}

/// The directory is locked by somebody who has nothing to do with Locket, such as `flock DIR cmd`.
#[test]
fn a_directory_that_somebody_locked_holds_nobody_up() {
    for protocol in NAMES {
        println!("protocol {protocol}");
        let dir = Dir::new();
        let foreign = File::open(dir.0.path()).unwrap();
        foreign.lock().unwrap();
        let lock = open(protocol, dir.0.path());
        for _ in 0..3 {
            lock.acquire(EX, STUCK).unwrap().release().unwrap();
        }
        assert_eq!(listing(dir.0.path()), [""; 0]);
        // Broken without the guard it could be the next one's.
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
        let lock = open(protocol, &dir);
        lock.acquire(EX, STUCK).unwrap().release().unwrap();
        fs::remove_dir_all(&dir).unwrap();
        assert!(lock.acquire(EX, STUCK).unwrap_err().is_not_found());
        fs::create_dir(&dir).unwrap();
        let guard = lock.acquire(EX, STUCK).unwrap();
        assert!(open(protocol, &dir).try_acquire(EX).unwrap().is_none());
        // In the way of nobody who uses the one that has its place.
        fs::rename(&dir, outer.path("moved")).unwrap();
        fs::create_dir(&dir).unwrap();
        let next = open(protocol, &dir).try_acquire(EX).unwrap().unwrap();
        guard.release().unwrap();
        assert_eq!(listing(&outer.path("moved")), [""; 0]);
        next.release().unwrap();
        assert_eq!(listing(&dir), [""; 0]);
    }
}

#[test]
fn a_wait_in_a_directory_that_is_made_anew_goes_on_there() {
    for protocol in NAMES {
        println!("protocol {protocol}");
        let outer = Dir::new();
        let dir = outer.path("inner");
        fs::create_dir(&dir).unwrap();
        let held = open(protocol, &dir).acquire(EX, STUCK).unwrap();
        let lock = open(protocol, &dir);
        let mut wait = pending(&lock, EX);
        // In one step for who comes by the path.
        fs::create_dir(outer.path("new")).unwrap();
        fs::rename(&dir, outer.path("old")).unwrap();
        fs::rename(outer.path("new"), &dir).unwrap();
        let next = open(protocol, &dir).acquire(EX, STUCK).unwrap();
        // The other may try there once more when the name is gone.
        eventually("it is gone", || {
            fs::remove_dir_all(outer.path("old")).is_ok()
        });
        assert!(held.release().unwrap_err().is_lost());
        assert!(poll(&mut wait).is_pending());
        next.release().unwrap();
        block_on(wait).unwrap().release().unwrap();
    }
}

/// The name is free in one step: who is killed between two leaves nothing in anybody's way. And
/// what somebody else put into a directory that is a lock is not removed with it.
#[test]
fn a_directory_that_is_released_is_gone_in_one_step() {
    use rustix::fs::inotify;
    use std::mem::MaybeUninit;
    let dir = Dir::new();
    let lock = open(Protocol::Mkdir, dir.0.path());
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

/// Engines count descriptors of the whole process.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn engines_that_are_gone_leave_no_watcher() {
    if std::env::var_os("NEXTEST").is_none() {
        return not_tested(format_args!(
            "other tests in this process have watchers, too"
        ));
    }
    let _alone = alone();
    for protocol in all() {
        let dir = Dir::new();
        let before = descriptors();
        for _ in 0..20 {
            let engine = Engine::new();
            let lock = open_in(&engine, protocol, dir.0.path());
            let guard = lock.acquire(EX, STUCK).unwrap();
            drop(pending(&lock, EX));
            let wait = pending(&lock, EX);
            drop((engine, lock));
            drop(guard);
            drop(block_on(wait).unwrap());
        }
        // Threads of theirs may only just have begun.
        eventually("nothing of theirs is left", || {
            engine_threads() == 0 && descriptors() == before
        });
    }
}

/// A release needs no descriptor that there may be none left of.
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

/// What is told of the name while the lock is left alone is not told again.
#[test]
fn a_pause_costs_no_more_than_itself() {
    for protocol in all() {
        let dir = Dir::new();
        let engine = Engine::builder()
            .fairness_pause(Duration::ZERO, Duration::from_millis(1))
            .build();
        let lock = open_in(&engine, protocol, dir.0.path());
        let hold = || {
            let guard = lock.acquire(EX, STUCK).unwrap();
            let wait = pending(&lock, EX);
            let start = Instant::now();
            guard.release().unwrap();
            block_on(wait).unwrap().release().unwrap();
            start.elapsed()
        };
        // One of several, since the machine may be busy. The next try by the clock is 200 ms away.
        let best = (0..10).map(|_| hold()).min().unwrap();
        assert!(best < Duration::from_millis(150), "{best:?}");
    }
}

/// In a namespace of its own whose `/proc` is that of another, the numbers in it are somebody
/// else's.
#[test]
fn nobody_is_judged_by_a_proc_of_other_numbers() {
    let can = Command::new("unshare")
        .args(["--pid", "--fork", "--mount-proc", "true"])
        .status();
    if !can.is_ok_and(|status| status.success()) {
        return not_tested(format_args!("no namespaces here"));
    }
    for protocol in NAMES {
        println!("protocol {protocol}");
        let dir = Dir::new();
        let mut holder = Command::new("unshare");
        // It holds the lock and tells nobody of its own /proc; the other has one.
        let script = "\"$0\" \"$@\" & \
                      until [ -e \"$FOLDER/held\" ]; do sleep 0.01; done; \
                      ROLE=try unshare --mount-proc \"$0\" \"$@\"; \
                      touch \"$FOLDER/end\"; wait $!";
        holder.args(["--pid", "--fork", "sh", "-c", script]);
        holder.arg(std::env::current_exe().unwrap());
        as_child(&mut holder, "hold", protocol, dir.0.path());
        assert!(holder.status().unwrap().success());
        assert_eq!(fs::read_to_string(dir.path("free")).unwrap(), "false");
    }
}

/// Somebody else's lock takes the place of a dead one when that is judged already.
#[test]
fn who_is_displaced_by_mistake_is_put_back() {
    let dir = Dir::new();
    let lock = dir.path("lock");
    leave_behind(Protocol::PidFile, &dir);
    let mut breaker = Command::new("strace");
    breaker.args(["-f", "-o", "/dev/null", "-e", "trace=renameat2"]);
    breaker.args(["-e", "inject=renameat2:delay_enter=1000000:when=1"]);
    breaker.arg(std::env::current_exe().unwrap());
    as_child(&mut breaker, "once", Protocol::PidFile, dir.0.path());
    let mut breaker = match breaker.spawn() {
        Ok(breaker) => Killed(breaker),
        Err(e) => return not_tested(format_args!("no strace here: {e}")),
    };
    // What it is about to put in the place of the other.
    eventually("it is about to", || listing(dir.0.path()).len() == 2);
    let living = dir.path("living");
    fs::write(&living, format!("{}\n", std::process::id())).unwrap();
    let inode = fs::metadata(&living).unwrap().ino();
    fs::rename(&living, &lock).unwrap();
    eventually("it has found out", || listing(dir.0.path()) == ["lock"]);
    assert_eq!(fs::metadata(&lock).unwrap().ino(), inode);
    assert!(breaker.0.try_wait().unwrap().is_none());
    fs::remove_file(&lock).unwrap();
    assert!(breaker.0.wait().unwrap().success());
}

/// As on a network file system whose server does not answer: the lock may be there yet.
#[test]
fn who_cannot_look_at_his_lock_does_not_call_it_released() {
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
    // Its holder is gone by now.
    let lock = open(Protocol::Symlink, dir.0.path());
    lock.acquire(EX, STUCK).unwrap().release().unwrap();
}

/// A process that has ended, and whose parent does not know yet.
#[test]
fn the_dead_of_whom_nobody_took_notice_hold_nothing() {
    for protocol in all() {
        let dir = Dir::new();
        let dead = Killed(child("die", protocol, dir.0.path()).spawn().unwrap());
        let stat = format!("/proc/{}/stat", dead.0.id());
        eventually("its end", || {
            fs::read_to_string(&stat).unwrap().contains(") Z ")
        });
        // Its other threads may be about to end.
        let lock = open(protocol, dir.0.path());
        lock.acquire(EX, STUCK).unwrap().release().unwrap();
    }
}

/// Other users of Locket have the directory locked for moments, which can last on a busy machine.
#[test]
fn who_finds_the_directory_locked_takes_over_soon_after() {
    // By the clock alone it would be at least 200 ms. One round of several is not disturbed.
    const SOON: Duration = Duration::from_millis(120);
    let round = |_| {
        let dir = Dir::new();
        leave_behind(Protocol::Soft, &dir);
        let folder = File::open(dir.0.path()).unwrap();
        folder.lock().unwrap();
        let lock = open(Protocol::Soft, dir.0.path());
        let next = pending(&lock, EX);
        drop(folder);
        let start = Instant::now();
        block_on(next).unwrap().release().unwrap();
        start.elapsed()
    };
    let fastest = (0..10).map(round).min().unwrap();
    assert!(fastest < SOON, "{fastest:?}");
}

#[test]
fn what_the_dead_left_is_tidied_and_nothing_else() {
    let (dir, other) = (Dir::new(), Dir::new());
    let lock = open(Protocol::Link, dir.0.path());
    let _guard = lock.acquire(EX, STUCK).unwrap();
    leave_behind(Protocol::Link, &other);
    let mark = |dir: &Dir| {
        let names = listing(dir.0.path());
        names.into_iter().find(|name| name != "lock.lock").unwrap()
    };
    let (mine, dead) = (mark(&dir), mark(&other));
    // Names of one process differ in a number; this is one of its last digits.
    let another = |name: &str, digit: char| {
        let mut name = name.to_owned();
        let at = name.find("-0").unwrap() + 60;
        name.replace_range(at..=at, &digit.to_string());
        name
    };
    let kept = [
        another(&mine, '8'),
        another(&mine, '9'),
        another(&dead, '9'),
    ];
    fs::write(other.path(&kept[0]), "").unwrap();
    fs::create_dir(other.path(&kept[1])).unwrap();
    fs::create_dir(other.path(&kept[2])).unwrap();
    fs::write(other.path(&kept[2]).join("precious"), "not empty").unwrap();
    fs::write(other.path(&another(&dead, '7')), "").unwrap();
    fs::create_dir(other.path(&another(&dead, '8'))).unwrap();
    // Of a breaker who died with what he had broken in his hands; one has a name of its own yet.
    let link = |one: &str, other_name: &str| {
        fs::write(other.path(one), "").unwrap();
        fs::hard_link(other.path(one), other.path(other_name)).unwrap();
    };
    link(&another(&dead, '5'), &another(&dead, '6'));
    let linked = [another(&dead, '4'), "linked".to_owned()];
    link(&linked[0], &linked[1]);
    let lock = open(Protocol::Link, other.0.path());
    lock.acquire(EX, STUCK).unwrap().release().unwrap();
    let mut kept = [&kept[..], &linked].concat();
    kept.sort();
    assert_eq!(listing(other.0.path()), kept);
}

/// A file that its holder has marked as released, and that a breaker put back too late.
#[test]
fn who_says_that_he_released_holds_nothing() {
    let dir = Dir::new();
    fs::write(dir.path("lock"), "filelock/released\n").unwrap();
    let lock = open(Protocol::Soft, dir.0.path());
    assert!(!lock.is_locked().unwrap());
    lock.acquire(EX, STUCK).unwrap().release().unwrap();
    assert_eq!(listing(dir.0.path()), [""; 0]);
}

/// It may be a counter, or the file of a daemon that has it locked.
#[test]
fn a_file_with_a_number_in_it_is_no_lock_for_certain() {
    let dir = Dir::new();
    let path = dir.path("lock");
    let engine = Engine::new();
    fs::write(&path, "42\n").unwrap();
    assert!(engine.break_lock(&path).unwrap_err().is_not_locked());
    let file = File::open(&path).unwrap();
    for content in ["42\n", "42\nhost\n"] {
        fs::write(&path, content).unwrap();
        file.lock().unwrap();
        assert!(engine.break_lock(&path).unwrap_err().is_unsupported());
        file.unlock().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), content);
    }
    // Only whoever names the protocol knows what it is.
    fs::write(&path, "42\n").unwrap();
    open(Protocol::PidFile, dir.0.path()).break_lock().unwrap();
    assert!(!path.exists());
}

/// One who died while he broke a lock by mistake may have left his name on it.
#[test]
fn of_several_who_have_a_link_one_lives() {
    let dir = Dir::new();
    let lock = open(Protocol::Link, dir.0.path());
    leave_behind(Protocol::Link, &dir);
    let dead = listing(dir.0.path());
    let dead = dead.iter().find(|name| *name != "lock.lock").unwrap();
    let guard = lock.acquire(EX, STUCK).unwrap();
    // Before and after in whatever order the directory has them.
    for digit in '1'..='9' {
        let mut name = dead.clone();
        let at = name.len() - 30;
        name.replace_range(at..=at, &digit.to_string());
        fs::hard_link(dir.path("lock.lock"), dir.path(&name)).unwrap();
    }
    let other = open(Protocol::Link, dir.0.path());
    assert!(other.try_acquire(EX).unwrap().is_none());
    assert!(other.is_locked().unwrap());
    guard.release().unwrap();
}

/// What has a name but is not the holder's any more is not what he made, even with its content.
#[test]
fn what_was_put_in_its_place_is_another() {
    for protocol in [Protocol::PidFile, Protocol::Soft, Protocol::Link] {
        println!("protocol {protocol}");
        let dir = Dir::new();
        let lock = open(protocol, dir.0.path());
        let guard = lock.acquire(EX, STUCK).unwrap();
        let name = name(protocol, &dir);
        fs::copy(&name, dir.path("copy")).unwrap();
        fs::rename(dir.path("copy"), &name).unwrap();
        let copy = fs::metadata(&name).unwrap().ino();
        eventually("the loss is told", || lock.state() != State::Held);
        assert!(guard.release().unwrap_err().is_lost());
        assert_eq!(fs::metadata(&name).unwrap().ino(), copy);
    }
}

#[cfg(feature = "sqlite")]
mod rows {
    use super::*;

    use rusqlite::Connection;

    /// Makes the database, and opens it beside the engine's.
    fn connection(dir: &Dir) -> Connection {
        let _ = open(Protocol::Sqlite, dir.0.path());
        Connection::open(dir.path("locks.db")).unwrap()
    }

    #[test]
    fn a_busy_database_is_waited_for() {
        let dir = Dir::new();
        let connection = connection(&dir);
        let lock = open(Protocol::Sqlite, dir.0.path());
        connection.execute_batch("begin exclusive").unwrap();
        assert!(lock.try_acquire(EX).unwrap().is_none());
        let brief = lock.acquire(EX, QUIESCENT).unwrap_err();
        assert!(brief.is_timeout(), "{brief:?}");
        let wait = pending(&lock, EX);
        connection.execute_batch("commit").unwrap();
        block_on(wait).unwrap().release().unwrap();
    }

    /// Each connection to such a database makes files beside it and removes them.
    #[test]
    fn a_wait_is_not_woken_by_its_own_looking() {
        use rustix::fs::inotify;
        use std::mem::MaybeUninit;
        let dir = Dir::new();
        let wal = connection(&dir);
        wal.execute_batch("pragma journal_mode = wal").unwrap();
        drop(wal);
        let first = open(Protocol::Sqlite, dir.0.path());
        let guard = first.acquire(EX, STUCK).unwrap();
        let second = open(Protocol::Sqlite, dir.0.path());
        let wait = pending(&second, EX);
        let notices = inotify::init(inotify::CreateFlags::NONBLOCK).unwrap();
        inotify::add_watch(&notices, dir.0.path(), inotify::WatchFlags::DELETE).unwrap();
        thread::sleep(Duration::from_millis(500));
        let mut buffer = [MaybeUninit::uninit(); 65536];
        let mut reader = inotify::Reader::new(&notices, &mut buffer);
        let removed = std::iter::from_fn(|| reader.next().ok().map(drop)).count();
        // Two files for each connection, of which there are some each 200 ms. If each woke the
        // next, there would be thousands.
        assert!(removed <= 60, "{removed}");
        let start = Instant::now();
        guard.release().unwrap();
        block_on(wait).unwrap().release().unwrap();
        println!("handed over in {:?}", start.elapsed());
    }

    #[test]
    fn a_lock_is_lost_with_its_database() {
        let dir = Dir::new();
        let lock = open(Protocol::Sqlite, dir.0.path());
        let guard = lock.acquire(EX, STUCK).unwrap();
        fs::remove_file(dir.path("locks.db")).unwrap();
        eventually("the loss is told", || lock.state() != State::Held);
        assert!(guard.release().unwrap_err().is_lost());
        // The next acquire makes another.
        lock.acquire(EX, STUCK).unwrap().release().unwrap();
    }
}

/// Cancelled at any point, a wait leaves neither the lock nor a turn behind.
#[test]
fn waits_that_are_dropped_while_the_name_comes_and_goes() {
    for protocol in all() {
        let dir = Dir::new();
        let lock = open(protocol, dir.0.path());
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                let other = open(protocol, dir.0.path());
                while !done.load(Ordering::Relaxed) {
                    other.acquire(EX, STUCK).unwrap().release().unwrap();
                }
            });
            for polls in 0..100 {
                let mut wait = lock.acquire_async(EX, None);
                for _ in 0..polls % 7 {
                    if poll(&mut wait).is_ready() {
                        break;
                    }
                    thread::yield_now();
                }
                drop(wait);
            }
            done.store(true, Ordering::Relaxed);
        });
        lock.acquire(EX, STUCK).unwrap().release().unwrap();
    }
}

/// Those who wait behind a holder whose lock was broken wait on, for whoever has it now.
#[test]
fn what_was_lost_is_not_handed_on() {
    for protocol in all() {
        let dir = Dir::new();
        let lock = open(protocol, dir.0.path());
        let guard = lock.acquire(EX, STUCK).unwrap();
        let mut waiter = pending(&lock, EX);
        let breaker = open(protocol, dir.0.path());
        breaker.break_lock().unwrap();
        let another = breaker.acquire(EX, STUCK).unwrap();
        drop(guard);
        assert!(poll(&mut waiter).is_pending(), "{protocol}");
        assert_eq!(breaker.state(), State::Held);
        another.release().unwrap();
        block_on(waiter).unwrap().release().unwrap();
    }
}

/// Age alone proves nothing: not that of the lock, nor that of its holder.
#[test]
fn a_lock_that_is_old_is_its_holders() {
    use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};
    for protocol in NAMES {
        println!("protocol {protocol}");
        let dir = Dir::new();
        let guard = open(protocol, dir.0.path()).acquire(EX, STUCK).unwrap();
        let long_ago = Timespec {
            tv_sec: 1_000_000_000,
            tv_nsec: 0,
        };
        let times = Timestamps {
            last_access: long_ago,
            last_modification: long_ago,
        };
        let name = name(protocol, &dir);
        rustix::fs::utimensat(CWD, &name, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
        let other = open(protocol, dir.0.path());
        assert!(other.try_acquire(EX).unwrap().is_none());
        assert!(other.is_locked().unwrap());
        guard.release().unwrap();
    }
}

/// A number that nobody has out here, and somebody has in a namespace in which he may have written it.
#[test]
fn who_has_the_number_in_a_namespace_below_may_be_the_holder() {
    let dir = Dir::new();
    let free = |pid: &u32| !Path::new(&format!("/proc/{pid}")).exists();
    let pid = (20_000..30_000).find(free).unwrap();
    let script = "echo $(($0 - 1)) > /proc/sys/kernel/ns_last_pid; \
                  sleep 1000 & echo $! > \"$1\"; wait";
    let mut inner = Command::new("unshare");
    inner.args(["--pid", "--fork", "--kill-child", "--mount-proc"]);
    inner.args(["sh", "-c", script, &pid.to_string()]);
    inner.arg(dir.path("told")).stdin(Stdio::null());
    let Ok(inner) = inner.spawn() else {
        return not_tested(format_args!("no namespaces here"));
    };
    let mut inner = Killed(inner);
    let told = || fs::read_to_string(dir.path("told")).unwrap_or_default();
    eventually("it runs", || {
        told().ends_with('\n') || inner.0.try_wait().unwrap().is_some()
    });
    if told().trim() != pid.to_string() {
        return not_tested(format_args!(
            "no numbers of one's choice here: {:?}",
            told()
        ));
    }
    fs::write(dir.path("lock"), format!("{pid}\n")).unwrap();
    let lock = open(Protocol::PidFile, dir.0.path());
    assert!(lock.try_acquire(EX).unwrap().is_none());
    assert!(lock.is_locked().unwrap());
    drop(inner);
    eventually("it is proven dead", || {
        lock.try_acquire(EX).unwrap().is_some()
    });
}

/// Of a directory with more names than are looked through, the record of the holder may be among
/// those that are not.
#[test]
fn in_a_crowded_directory_no_holder_is_proven_dead() {
    let dir = Dir::new();
    let lock = open(Protocol::Link, dir.0.path());
    let _held = lock.acquire(EX, None).unwrap();
    let host = rustix::system::uname();
    let host = host.nodename().to_str().unwrap();
    for number in 0..4 {
        let dead = format!("{host}.4194303-{number}1");
        fs::hard_link(dir.path("lock.lock"), dir.path(&dead)).unwrap();
    }
    for number in 0..12_000 {
        fs::write(dir.path(&format!("{number}")), "").unwrap();
    }
    let other = open(Protocol::Link, dir.0.path());
    assert!(other.try_acquire(EX).unwrap().is_none());
    assert_eq!(lock.state(), State::Held);
}
