//! What a lock says of its holder: who is proven dead is displaced at once, everybody else keeps it.
//!
//! What the records look like is written down here a second time, so that a change of it does not
//! go unnoticed.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use locket::{Engine, Protocol};

use super::common::*;
use super::*;

/// Who holds a lock, as it is written.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) host: String,
    pub(crate) pid: u32,
    pub(crate) boot: u128,
    pub(crate) namespace: u64,
    pub(crate) ticks: u64,
}

pub(crate) const INITIAL_NAMESPACE: u64 = 0xefff_fffc;

impl Record {
    /// That of this process.
    pub(crate) fn mine() -> Self {
        static MINE: OnceLock<Record> = OnceLock::new();
        MINE.get_or_init(Self::of_this_process).clone()
    }

    fn of_this_process() -> Self {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
        let boot = boot.trim().replace('-', "");
        let host = rustix::system::uname();
        Self {
            host: host.nodename().to_str().unwrap().to_owned(),
            pid: std::process::id(),
            boot: u128::from_str_radix(&boot, 16).unwrap(),
            namespace: fs::metadata("/proc/self/ns/pid").unwrap().ino(),
            ticks: start(std::process::id()).unwrap(),
        }
    }

    /// With a change.
    pub(crate) fn but(&self, change: impl FnOnce(&mut Self)) -> Self {
        let mut changed = self.clone();
        change(&mut changed);
        changed
    }

    /// The name by which the protocols go that have one.
    pub(crate) fn name(&self) -> String {
        let Self {
            host,
            pid,
            boot,
            namespace,
            ticks,
        } = self;
        format!("{host}.{pid}-0{boot:039}{namespace:010}{:010}{ticks}", 7)
    }

    /// The content of a file of the protocol `soft`.
    pub(crate) fn text(&self) -> String {
        let namespace = match self.namespace {
            INITIAL_NAMESPACE => String::new(),
            namespace => format!("?pidns-{namespace:x}"),
        };
        let start = match self.ticks {
            0 => String::new(),
            ticks => format!("{}\n", decimal(self.boot, ticks)),
        };
        format!("{}\n{}{namespace}\n{start}", self.pid, self.host)
    }

    /// Makes the lock that says it.
    pub(crate) fn plant(&self, dir: &Dir, protocol: Protocol) {
        match protocol {
            Protocol::PidFile => plant(dir, protocol, format!("{}\n", self.pid).as_bytes()),
            Protocol::Soft => plant(dir, protocol, self.text().as_bytes()),
            _ => plant(dir, protocol, self.name().as_bytes()),
        }
    }
}

/// Makes a lock whose holder is called, or whose record is, `text`.
pub(crate) fn plant(dir: &Dir, protocol: Protocol, text: &[u8]) {
    let place = place(dir, protocol);
    let name = std::ffi::OsStr::from_bytes(text);
    match protocol {
        Protocol::Link => {
            fs::write(dir.0.path().join(name), "").unwrap();
            fs::hard_link(dir.0.path().join(name), place).unwrap();
        }
        Protocol::Symlink => symlink(name, place).unwrap(),
        Protocol::Mkdir => {
            fs::create_dir(&place).unwrap();
            fs::write(place.join(name), "").unwrap();
        }
        #[cfg(feature = "sqlite")]
        Protocol::Sqlite => {
            let holder = dir.path(std::str::from_utf8(text).unwrap());
            databases::insert(dir, holder.to_str().unwrap());
        }
        _ => fs::write(place, text).unwrap(),
    }
}

/// The number of 192 bits that a start is, in decimal digits.
pub(crate) fn decimal(boot: u128, ticks: u64) -> String {
    let high = (0..128).rev().map(|bit| boot >> bit & 1);
    let low = (0..64).rev().map(|bit| u128::from(ticks) >> bit & 1);
    let mut digits = vec![0];
    for bit in high.chain(low) {
        let mut carry = bit as u8;
        for digit in &mut digits {
            let double = *digit * 2 + carry;
            (*digit, carry) = (double % 10, double / 10);
        }
        if carry > 0 {
            digits.push(carry);
        }
    }
    digits.iter().rev().map(|d| char::from(b'0' + d)).collect()
}

/// When a process started; none if there is none.
pub(crate) fn start(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(19)?.parse().ok()
}

/// A number that no process has, since systems do not count that far.
pub(crate) const GONE: u32 = i32::MAX as u32 - 1;

/// The protocols whose records say more than the number of a process.
pub(crate) fn telling() -> impl Iterator<Item = Protocol> {
    let all = Protocol::ALL.iter().copied();
    all.filter(|p| p.is_existence_lock() && *p != Protocol::PidFile)
        .filter(|p| cfg!(feature = "sqlite") || *p != Protocol::Sqlite)
}

/// What a directory holds when the lock is free.
pub(crate) fn rest(protocol: Protocol) -> &'static [&'static str] {
    match protocol {
        Protocol::Sqlite => &["locks.db"],
        _ => &[],
    }
}

#[track_caller]
pub(crate) fn taken(record: &Record, protocol: Protocol) {
    println!("{record:?} in the protocol {protocol}");
    let dir = Dir::new();
    record.plant(&dir, protocol);
    is_taken_over(&dir, &open(&dir, protocol), rest(protocol));
}

#[track_caller]
pub(crate) fn held(record: &Record, protocol: Protocol) {
    println!("{record:?} in the protocol {protocol}");
    let dir = Dir::new();
    record.plant(&dir, protocol);
    let lock = open(&dir, protocol);
    is_not_to_be_had(&dir, &lock);
    let holder = lock.holder().unwrap().unwrap();
    assert_eq!(holder.pid, Some(record.pid));
    if protocol != Protocol::PidFile {
        assert_eq!(holder.host.as_deref(), Some(&*record.host));
    }
    // By hand, whoever it is.
    lock.break_lock().unwrap();
    is_taken_over(&dir, &lock, rest(protocol));
    // It names its holder, so no protocol needs to be named. The database does; and a number alone
    // may be anything.
    if !matches!(protocol, Protocol::Sqlite | Protocol::PidFile) {
        record.plant(&dir, protocol);
        let broken = Engine::new().break_lock(dir.path("lock")).unwrap();
        assert_eq!(broken, protocol);
        is_taken_over(&dir, &lock, rest(protocol));
    }
}

#[test]
fn the_records_of_these_tests_are_those_of_the_engine() {
    let dir = Dir::new();
    let mine = Record::mine();
    for protocol in NAMES {
        let lock = open(&dir, protocol);
        let guard = lock.acquire(EX, Duration::ZERO).unwrap();
        let place = place(&dir, protocol);
        let only = |dir: &Path| {
            let names = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name());
            let mut names = names.map(|name| name.into_string().unwrap());
            names.find(|name| name != "lock.lock").unwrap()
        };
        let name = match protocol {
            Protocol::Link => only(dir.0.path()),
            Protocol::Symlink => fs::read_link(place).unwrap().to_str().unwrap().into(),
            Protocol::Mkdir => only(&place),
            Protocol::PidFile => {
                assert_eq!(
                    fs::read_to_string(place).unwrap(),
                    format!("{}\n", mine.pid)
                );
                continue;
            }
            _ => {
                assert_eq!(fs::read_to_string(place).unwrap(), mine.text());
                continue;
            }
        };
        // But for the number that is another each time.
        let (start, end) = (mine.host.len() + mine.pid.to_string().len() + 52, 10);
        let cut = |name: &str| format!("{}{}", &name[..start], &name[start + end..]);
        assert_eq!(cut(&name), cut(&mine.name()), "{protocol}");
        guard.release().unwrap();
    }
}

#[test]
fn a_record_of_the_living_is_held() {
    let mine = Record::mine();
    for protocol in telling().chain([Protocol::PidFile]) {
        held(&mine, protocol);
        // One that does not say when it started.
        held(&mine.but(|record| record.ticks = 0), protocol);
        // Nor of which boot.
        held(&mine.but(|record| record.boot = 0), protocol);
        let first = mine.but(|record| (record.pid, record.ticks) = (1, 0));
        held(&first, protocol);
    }
}

#[test]
fn a_record_that_says_that_the_lock_is_released_is_taken_over() {
    let dir = Dir::new();
    fs::write(dir.path("lock"), "filelock/released\n").unwrap();
    let lock = open(&dir, Protocol::Soft);
    assert!(!lock.is_locked().unwrap());
    is_taken_over(&dir, &lock, &[]);
}

#[test]
fn a_record_of_another_host_or_namespace_is_held() {
    let gone = Record::mine().but(|record| record.pid = GONE);
    for protocol in telling() {
        let elsewhere = gone.but(|record| record.host = "elsewhere".into());
        held(&elsewhere, protocol);
        held(
            &elsewhere.but(|record| record.boot = gone.boot ^ 1),
            protocol,
        );
        held(
            &elsewhere.but(|record| record.ticks = gone.ticks + 1),
            protocol,
        );
        held(
            &Record {
                host: format!("{}x", gone.host),
                ..gone.clone()
            },
            protocol,
        );
        let namespace = gone.namespace ^ 1;
        held(&gone.but(|record| record.namespace = namespace), protocol);
        held(
            &gone.but(|record| (record.namespace, record.ticks) = (namespace, 0)),
            protocol,
        );
    }
}

#[test]
fn a_record_of_the_dead_is_taken_over() {
    let mine = Record::mine();
    let gone = mine.but(|record| record.pid = GONE);
    for protocol in telling() {
        taken(&gone, protocol);
        taken(&gone.but(|record| record.ticks = 0), protocol);
        taken(&gone.but(|record| record.pid = 1 << 30), protocol);
        // The number is that of a living process again.
        taken(&mine.but(|record| record.ticks = mine.ticks + 1), protocol);
        taken(
            &mine.but(|record| (record.ticks, record.boot) = (mine.ticks + 1, 0)),
            protocol,
        );
        // The system was started again.
        taken(&mine.but(|record| record.boot = mine.boot ^ 1), protocol);
        taken(
            &mine.but(|record| (record.boot, record.namespace) = (mine.boot ^ 1, 5)),
            protocol,
        );
    }
    if sees_everybody() {
        taken(&gone, Protocol::PidFile);
    }
}

/// Only there is a number alone enough to prove that somebody is dead.
pub(crate) fn sees_everybody() -> bool {
    let all = Record::mine().namespace == INITIAL_NAMESPACE;
    if !all {
        not_tested(format_args!("in a container not every process is seen"));
    }
    all
}

/// Names that pylockfile makes, as far as the number of the process can be told.
#[test]
fn a_record_of_pylockfile() {
    if !sees_everybody() {
        return;
    }
    let (host, gone, mine) = (Record::mine().host, GONE, std::process::id());
    let named = |protocol, name: String, dead| {
        println!("{name} in the protocol {protocol}");
        let dir = Dir::new();
        plant(&dir, protocol, name.as_bytes());
        let lock = open(&dir, protocol);
        if dead {
            is_taken_over(&dir, &lock, rest(protocol));
        } else {
            is_not_to_be_had(&dir, &lock);
        }
    };
    for protocol in telling().filter(|protocol| *protocol != Protocol::Soft) {
        named(protocol, format!("{host}.{gone}-1299480933727220916"), true);
        named(
            protocol,
            format!("{host}-5bbccb80.{gone}-1299480933727220916"),
            true,
        );
        named(
            protocol,
            format!("{host}.{mine}-1299480933727220916"),
            false,
        );
        named(
            protocol,
            format!("elsewhere.{gone}-1299480933727220916"),
            false,
        );
        // Where the number ends and the hash begins cannot be told.
        named(protocol, format!("{host}.{gone}1299480933727220916"), false);
        named(
            protocol,
            format!("{host}-5bbccb80.{gone}1299480933727220916"),
            false,
        );
    }
    named(Protocol::Mkdir, format!("{host}.{gone}"), true);
    named(Protocol::Mkdir, format!("{host}.{mine}"), false);
    named(Protocol::Mkdir, format!("elsewhere.{gone}"), false);
    named(Protocol::Mkdir, format!("{host}.-5bbccb80{gone}"), false);
}

/// A lock of another form under the same name is somebody else's, and never judged.
#[test]
fn the_dead_of_another_protocol_are_left_alone() {
    let gone = Record::mine().but(|record| record.pid = GONE);
    let beside = BESIDE
        .iter()
        .flat_map(|a| BESIDE.iter().map(move |b| (*a, *b)));
    let itself = [
        (Protocol::PidFile, Protocol::Soft),
        (Protocol::Soft, Protocol::PidFile),
    ];
    for (holder, other) in beside.chain(itself).filter(|(a, b)| a != b) {
        println!("{holder} found by {other}");
        let dir = Dir::new();
        gone.plant(&dir, holder);
        is_not_to_be_had(&dir, &open(&dir, other));
    }
}

/// Somebody who can make names in the directory must not have the engine judge as many as he likes.
#[test]
fn a_link_with_more_owners_than_there_can_be_is_held() {
    let dir = Dir::new();
    let gone = Record::mine().but(|record| record.pid = GONE);
    gone.plant(&dir, Protocol::Link);
    for number in 1..10 {
        let other = gone.but(|record| record.pid = GONE - number);
        fs::hard_link(place(&dir, Protocol::Link), dir.path(&other.name())).unwrap();
    }
    let lock = open(&dir, Protocol::Link);
    assert!(lock.try_acquire(EX).unwrap().is_none());
    fs::remove_file(dir.path(&gone.but(|record| record.pid = GONE - 1).name())).unwrap();
    fs::remove_file(dir.path(&gone.but(|record| record.pid = GONE - 2).name())).unwrap();
    lock.try_acquire(EX).unwrap().unwrap().release().unwrap();
}
