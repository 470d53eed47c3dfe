//! What an owner record says of the holder: a lock is taken over at once if its holder is proven dead,
//! and held otherwise.

use super::foreign_data::BESIDE;
use super::*;

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
    is_refused(&dir, &lock);
    let holder = lock.holder().unwrap().unwrap();
    // In another namespace of this host, the number is another process's.
    let (host, mine) = (record.host == Record::mine().host, Record::mine().namespace);
    let unclear = host && protocol != Protocol::PidFile && record.namespace != mine;
    assert_eq!(holder.pid, (!unclear).then_some(record.pid));
    let known = protocol != Protocol::PidFile;
    assert_eq!(holder.elsewhere, known && (!host || unclear));
    if protocol != Protocol::PidFile {
        assert_eq!(holder.host.as_deref(), Some(&*record.host));
    }
    // It can be broken although its holder may live.
    lock.break_lock().unwrap();
    is_taken_over(&dir, &lock, rest(protocol));
    // The record names its holder, so the caller need not name the protocol. Only the caller knows the
    // database, and a number alone may be anything.
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
        let (plain, promise) = name.split_at(name.rfind('-').unwrap());
        // The kind of the file system, on which this process keeps a lock.
        let name = match protocol {
            Protocol::Symlink => &name,
            _ if promise[1..].parse::<u64>().is_ok() && plain.contains('-') => plain,
            _ => panic!("no promise: {name}"),
        };
        // The rest is the same, apart from the number that differs each time.
        let (start, end) = (mine.host.len() + mine.pid.to_string().len() + 52, 10);
        let cut = |name: &str| format!("{}{}", &name[..start], &name[start + end..]);
        assert_eq!(cut(name), cut(&mine.name()), "{protocol}");
        guard.release().unwrap();
    }
}

#[test]
fn a_record_of_the_living_is_held() {
    let mine = Record::mine();
    for protocol in with_full_records().chain([Protocol::PidFile]) {
        held(&mine, protocol);
        // A record without a start time.
        held(&mine.but(|record| record.ticks = 0), protocol);
        // A record without a boot.
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
    for protocol in with_full_records() {
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
    for protocol in with_full_records() {
        taken(&gone, protocol);
        taken(&gone.but(|record| record.ticks = 0), protocol);
        taken(&gone.but(|record| record.pid = 1 << 30), protocol);
        // A living process has the number again.
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
    if sees_all_processes() {
        taken(&gone, Protocol::PidFile);
    }
}

/// Names that pylockfile makes, as far as the process number can be read from them.
#[test]
fn a_record_of_pylockfile() {
    if !sees_all_processes() {
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
            is_refused(&dir, &lock);
        }
    };
    for protocol in with_full_records().filter(|protocol| *protocol != Protocol::Soft) {
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
        // It is not clear where the number ends and the hash begins.
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

/// A lock of another protocol under the same name is never judged.
#[test]
fn a_dead_holder_of_another_protocol_is_left_alone() {
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
        is_refused(&dir, &open(&dir, other));
    }
}

/// A process that can create names in the directory must not make the engine judge any number of them.
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
