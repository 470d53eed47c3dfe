//! The kernel lock that a living holder keeps on its marker, which its record promises.

use std::fs::File;
use std::process::Command;
use std::time::Instant;

use super::processes::*;
use super::*;

/// The file of a marker on which its holder keeps the lock; `None` if it makes no promise.
fn promised(dir: &Dir, protocol: Protocol) -> Option<PathBuf> {
    let place = place(dir, protocol);
    let names_it = |dir: &Path| {
        let names = listing(dir).into_iter();
        let promises = |name: &String| name.split('-').count() > 2;
        names.map(|name| dir.join(name)).find(|path| {
            let name = path.file_name().unwrap().to_str().unwrap();
            promises(&name.to_owned())
        })
    };
    let file = match protocol {
        Protocol::Link => names_it(dir.0.path()),
        Protocol::Mkdir => names_it(&place),
        _ => {
            let mut record = [0; 512];
            let attribute = rustix::fs::getxattr(&place, "user.locket.live", &mut record);
            attribute.is_ok().then_some(place)
        }
    };
    if file.is_none() {
        not_tested(format_args!("a lock in {protocol} makes no promise here"));
    }
    file
}

/// The protocols whose marker can carry the lock.
fn carriers() -> impl Iterator<Item = Protocol> {
    let carriers = NAMES.into_iter().filter(|p| *p != Protocol::Symlink);
    carriers.inspect(|protocol| println!("protocol {protocol}"))
}

#[test]
fn those_who_judge_do_not_disturb_each_other() {
    for protocol in carriers() {
        let dir = Dir::new();
        leave_behind(protocol, &dir);
        let Some(file) = promised(&dir, protocol) else {
            continue;
        };
        // As another judge does.
        let other = File::open(file).unwrap();
        other.lock_shared().unwrap();
        let lock = open(&dir, protocol);
        assert!(!lock.is_locked().unwrap());
        lock.try_acquire(EX).unwrap().unwrap().release().unwrap();
        assert_eq!(listing(dir.0.path()), [""; 0]);
    }
}

#[test]
fn a_stranger_on_the_marker_makes_its_holder_look_alive() {
    for protocol in carriers() {
        let dir = Dir::new();
        leave_behind(protocol, &dir);
        let Some(file) = promised(&dir, protocol) else {
            continue;
        };
        let stranger = File::open(file).unwrap();
        stranger.lock().unwrap();
        let lock = open(&dir, protocol);
        assert!(lock.try_acquire(EX).unwrap().is_none());
        assert!(lock.is_locked().unwrap());
        drop(stranger);
        lock.acquire(EX, STUCK).unwrap().release().unwrap();
    }
}

/// The process that the record names is dead. One that it has started has the lock.
#[test]
fn a_lock_that_was_passed_on_is_held_until_its_last_process_ends() {
    for protocol in carriers() {
        let dir = Dir::new();
        let holder = child("pass on", protocol, dir.0.path()).status();
        assert!(holder.unwrap().success());
        if promised(&dir, protocol).is_none() {
            continue;
        }
        let lock = open(&dir, protocol);
        assert!(lock.try_acquire(EX).unwrap().is_none());
        assert!(lock.acquire(EX, QUIESCENT).unwrap_err().is_timeout());
        let holder = lock.holder().unwrap().unwrap();
        assert_eq!((holder.pid, holder.elsewhere), (None, false));
        fs::write(dir.path("end"), "").unwrap();
        lock.acquire(EX, STUCK).unwrap().release().unwrap();
    }
}

/// Its marker has its name only after the lock is taken, however long that takes.
#[test]
fn no_promise_is_seen_before_it_is_kept() {
    for protocol in carriers() {
        let dir = Dir::new();
        let mut holder = Command::new("strace");
        holder.args(["-f", "-o", "/dev/null", "-e", "trace=flock"]);
        holder.args(["-e", "inject=flock:delay_enter=1000000:when=1"]);
        holder.arg(std::env::current_exe().unwrap());
        as_child(&mut holder, "hold", protocol, dir.0.path());
        let _holder = match holder.spawn() {
            Ok(holder) => Killed(holder),
            Err(e) => return not_tested(format_args!("no strace here: {e}")),
        };
        let lock = open(&dir, protocol);
        let place = place(&dir, protocol);
        eventually("the marker has its name", || place.exists());
        // All the while, since the promise may follow the name.
        eventually("the holder goes on", || {
            assert!(lock.try_acquire(EX).unwrap().is_none());
            dir.path("held").exists()
        });
        fs::write(dir.path("end"), "").unwrap();
        lock.acquire(EX, STUCK).unwrap().release().unwrap();
    }
}

/// An overlay or a server shows the same file, and keeps locks of its own.
#[test]
fn a_promise_that_was_made_through_another_file_system_does_not_count() {
    for protocol in [Protocol::Link, Protocol::Mkdir] {
        let dir = Dir::new();
        leave_behind(protocol, &dir);
        let Some(file) = promised(&dir, protocol) else {
            continue;
        };
        let name = file.file_name().unwrap().to_str().unwrap();
        let (name, _) = name.rsplit_once('-').unwrap();
        fs::rename(&file, file.with_file_name(format!("{name}-1"))).unwrap();
        let lock = open(&dir, protocol);
        assert!(lock.try_acquire(EX).unwrap().is_none());
        assert!(lock.is_locked().unwrap());
        lock.break_lock().unwrap();
        assert_eq!(listing(dir.0.path()), [""; 0]);
    }
}

/// Looks at a lock do not read it again, unless it has changed.
#[test]
fn a_marker_that_changes_in_place_is_judged_anew() {
    let dir = Dir::new();
    let mine = Record::mine();
    mine.plant(&dir, Protocol::Soft);
    let lock = open(&dir, Protocol::Soft);
    let start = Instant::now();
    while start.elapsed() < 3 * QUIESCENT {
        assert!(lock.try_acquire(EX).unwrap().is_none());
    }
    let gone = mine.but(|record| record.pid = GONE);
    fs::write(dir.path("lock"), gone.text()).unwrap();
    eventually("the new record is read", || {
        lock.try_acquire(EX).unwrap().is_some()
    });
}

/// In another container, a program that writes its number into the file can have the number of the
/// dead holder.
#[test]
fn a_promise_beside_the_same_number_of_another_does_not_count() {
    for protocol in [Protocol::PidFile, Protocol::Soft] {
        let dir = Dir::new();
        let path = dir.path("lock");
        let guard = open(&dir, protocol).acquire(EX, STUCK).unwrap();
        if promised(&dir, protocol).is_none() {
            continue;
        }
        let mut attribute = [0; 512];
        let length = rustix::fs::getxattr(&path, "user.locket.live", &mut attribute).unwrap();
        let content = fs::read(&path).unwrap();
        let written = fs::metadata(&path).unwrap().modified().unwrap();
        guard.release().unwrap();
        // The file of a holder that is dead, with the same number written by one that lives.
        eventually("the clock of the file system goes on", || {
            fs::write(&path, &content).unwrap();
            fs::metadata(&path).unwrap().modified().unwrap() != written
        });
        let flags = rustix::fs::XattrFlags::CREATE;
        rustix::fs::setxattr(&path, "user.locket.live", &attribute[..length], flags).unwrap();
        let lock = open(&dir, protocol);
        assert!(lock.try_acquire(EX).unwrap().is_none(), "{protocol}");
        assert!(lock.is_locked().unwrap(), "{protocol}");
    }
}

/// Another program may have written a record of its own into the file.
#[test]
fn a_promise_beside_the_record_of_another_does_not_count() {
    let dir = Dir::new();
    leave_behind(Protocol::Soft, &dir);
    if promised(&dir, Protocol::Soft).is_none() {
        return;
    }
    fs::write(dir.path("lock"), Record::mine().text()).unwrap();
    let lock = open(&dir, Protocol::Soft);
    assert!(lock.try_acquire(EX).unwrap().is_none());
    assert_eq!(
        lock.holder().unwrap().unwrap().pid,
        Some(std::process::id())
    );
}
