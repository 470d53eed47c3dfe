//! A lock is taken over only from a holder that is proven dead.

use std::fs::File;
use std::process::{Command, Stdio};
use std::time::Instant;

use super::processes::*;
use super::*;

#[test]
fn a_holder_killed_anywhere_is_displaced_by_one_process() {
    const KILLS: usize = 24;
    for protocol in all() {
        let dir = Dir::new();
        fs::write(dir.path("witness"), "").unwrap();
        let start = || Killed(child("contend", protocol, dir.0.path()).spawn().unwrap());
        let mut contenders: Vec<_> = (0..4).map(|_| start()).collect();
        for kill in 0..KILLS {
            // The next kill hits it at any point, except while it waits.
            eventually("a grant", || fs::remove_file(dir.path("granted")).is_ok());
            contenders[kill % 4] = start();
            assert_no_trace(&dir);
        }
        drop(contenders);
        assert_no_trace(&dir);
        let lock = open(&dir, protocol);
        lock.acquire(EX, STUCK).unwrap().release().unwrap();
    }
}

/// The process has ended, and its parent has not waited for it yet.
#[test]
fn a_dead_process_that_was_not_waited_for_holds_nothing() {
    for protocol in all() {
        let dir = Dir::new();
        let dead = Killed(child("die", protocol, dir.0.path()).spawn().unwrap());
        let stat = format!("/proc/{}/stat", dead.0.id());
        eventually("the process ends", || {
            fs::read_to_string(&stat).unwrap().contains(") Z ")
        });
        // Its other threads may still be about to end.
        let lock = open(&dir, protocol);
        lock.acquire(EX, STUCK).unwrap().release().unwrap();
    }
}

/// Other users of Locket lock the directory for a moment, which can take longer on a busy machine.
#[test]
fn a_waiter_that_finds_the_directory_locked_takes_over_soon_after() {
    // With the timer alone it would take at least 200 ms. At least one of several rounds is undisturbed.
    const SOON: Duration = Duration::from_millis(120);
    let round = |_| {
        let dir = Dir::new();
        leave_behind(Protocol::Soft, &dir);
        let folder = File::open(dir.0.path()).unwrap();
        folder.lock().unwrap();
        let lock = open(&dir, Protocol::Soft);
        let next = pending(&lock, EX);
        drop(folder);
        let start = Instant::now();
        block_on(next).unwrap().release().unwrap();
        start.elapsed()
    };
    let fastest = (0..10).map(round).min().unwrap();
    assert!(fastest < SOON, "{fastest:?}");
}

/// A living holder's lock takes the place of a dead one that is already judged.
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
    // The file that it is about to put in the place of the dead one.
    eventually("the process is about to take over", || {
        listing(dir.0.path()).len() == 2
    });
    let living = dir.path("living");
    fs::write(&living, format!("{}\n", std::process::id())).unwrap();
    let inode = fs::metadata(&living).unwrap().ino();
    fs::rename(&living, &lock).unwrap();
    eventually("the process has put the file back", || {
        listing(dir.0.path()) == ["lock"]
    });
    assert_eq!(fs::metadata(&lock).unwrap().ino(), inode);
    assert!(breaker.0.try_wait().unwrap().is_none());
    fs::remove_file(&lock).unwrap();
    assert!(breaker.0.wait().unwrap().success());
}

#[test]
fn leftovers_of_dead_processes_are_removed_and_nothing_else() {
    let (dir, other) = (Dir::new(), Dir::new());
    let lock = open(&dir, Protocol::Link);
    let _guard = lock.acquire(EX, STUCK).unwrap();
    leave_behind(Protocol::Link, &other);
    let mark = |dir: &Dir| {
        let names = listing(dir.0.path());
        let name = names.into_iter().find(|name| name != "lock.lock").unwrap();
        let (plain, promise) = name.rsplit_once('-').unwrap();
        (plain.to_owned(), promise.to_owned())
    };
    let ((mine, promise), (dead, _)) = (mark(&dir), mark(&other));
    // The names that one process makes differ in a number; this changes one of its last digits.
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
    // Left by a process that died during a takeover; the second file still has another name.
    let link = |one: &str, other_name: &str| {
        fs::write(other.path(one), "").unwrap();
        fs::hard_link(other.path(one), other.path(other_name)).unwrap();
    };
    link(&another(&dead, '5'), &another(&dead, '6'));
    let linked = [another(&dead, '4'), "linked".to_owned()];
    link(&linked[0], &linked[1]);
    // Of a living process, too, which has not given it the name of the lock yet, and of one that died.
    let promises = ['6', '7'].map(|digit| format!("{}-{promise}", another(&mine, digit)));
    let [kept_promise, broken_promise] = promises.map(|name| (other.path(&name), name));
    let living = File::create(&kept_promise.0).unwrap();
    living.lock().unwrap();
    fs::write(&broken_promise.0, "").unwrap();
    let lock = open(&other, Protocol::Link);
    lock.acquire(EX, STUCK).unwrap().release().unwrap();
    let mut kept = [&kept[..], &linked, &[kept_promise.1]].concat();
    kept.sort();
    assert_eq!(listing(other.0.path()), kept);
}

/// Age alone proves nothing: not that of the lock, nor that of its holder.
#[test]
fn a_lock_that_is_old_is_its_holders() {
    use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};
    for protocol in NAMES {
        println!("protocol {protocol}");
        let dir = Dir::new();
        let guard = open(&dir, protocol).acquire(EX, STUCK).unwrap();
        let long_ago = Timespec {
            tv_sec: 1_000_000_000,
            tv_nsec: 0,
        };
        let times = Timestamps {
            last_access: long_ago,
            last_modification: long_ago,
        };
        let name = place(&dir, protocol);
        rustix::fs::utimensat(CWD, &name, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
        let other = open(&dir, protocol);
        assert!(other.try_acquire(EX).unwrap().is_none());
        assert!(other.is_locked().unwrap());
        guard.release().unwrap();
    }
}

/// In a PID namespace with the `/proc` of another one, the process numbers there are those of other
/// processes.
#[test]
fn no_holder_is_judged_by_the_proc_of_another_namespace() {
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
        // The holder has no /proc of its own namespace; the process that tries has.
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

/// No process out here has the number, but one in an inner namespace has, and may have written it.
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
    inner.arg(dir.path("number")).stdin(Stdio::null());
    let Ok(inner) = inner.spawn() else {
        return not_tested(format_args!("no namespaces here"));
    };
    let mut inner = Killed(inner);
    let written = || fs::read_to_string(dir.path("number")).unwrap_or_default();
    eventually("the inner process runs", || {
        written().ends_with('\n') || inner.0.try_wait().unwrap().is_some()
    });
    if written().trim() != pid.to_string() {
        return not_tested(format_args!(
            "process numbers cannot be chosen here: {:?}",
            written()
        ));
    }
    fs::write(dir.path("lock"), format!("{pid}\n")).unwrap();
    let lock = open(&dir, Protocol::PidFile);
    assert!(lock.try_acquire(EX).unwrap().is_none());
    assert!(lock.is_locked().unwrap());
    drop(inner);
    eventually("the holder is proven dead", || {
        lock.try_acquire(EX).unwrap().is_some()
    });
}

/// A process that died during a mistaken takeover may have left its name on the lock.
#[test]
fn a_link_with_one_living_owner_is_held() {
    let dir = Dir::new();
    let lock = open(&dir, Protocol::Link);
    leave_behind(Protocol::Link, &dir);
    let dead = listing(dir.0.path());
    let dead = dead.iter().find(|name| *name != "lock.lock").unwrap();
    let guard = lock.acquire(EX, STUCK).unwrap();
    // They come before and after the living one, in any order that the directory has.
    for digit in '1'..='9' {
        let mut name = dead.clone();
        let at = name.len() - 30;
        name.replace_range(at..=at, &digit.to_string());
        fs::hard_link(dir.path("lock.lock"), dir.path(&name)).unwrap();
    }
    let other = open(&dir, Protocol::Link);
    assert!(other.try_acquire(EX).unwrap().is_none());
    assert!(other.is_locked().unwrap());
    guard.release().unwrap();
}

/// A directory can have more names than the engine reads, so it may not see the record of the holder.
#[test]
fn in_a_crowded_directory_no_holder_is_proven_dead() {
    let dir = Dir::new();
    let lock = open(&dir, Protocol::Link);
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
    let other = open(&dir, Protocol::Link);
    assert!(other.try_acquire(EX).unwrap().is_none());
    assert_eq!(lock.state(), State::Held);
}
