//! Databases that cannot be read, and rows that name no process.

use std::os::unix::fs::symlink;

use rusqlite::types::Value;
use rusqlite::{Connection, params};

use super::foreign_data::Make;
use super::random_bytes::{Dice, is_dead};
use super::*;

fn connect(dir: &Dir) -> Connection {
    let database = Connection::open(dir.path("locks.db")).unwrap();
    let table = "create table if not exists \
                 locks (lock_file varchar(32), unique_name varchar(32))";
    database.execute(table, ()).unwrap();
    database
}

fn key(dir: &Dir, name: &str) -> String {
    let dir = dir.0.path().canonicalize().unwrap();
    dir.join(name).to_str().unwrap().to_owned()
}

fn add(dir: &Dir, lock: &str, holder: &Value) {
    let insert = "insert into locks values (?, ?)";
    connect(dir)
        .execute(insert, params![key(dir, lock), holder])
        .unwrap();
}

pub(crate) fn insert(dir: &Dir, holder: &str) {
    add(dir, "lock.lock", &Value::Text(holder.into()));
}

fn rows(dir: &Dir) -> Vec<(String, Value)> {
    let database = connect(dir);
    let mut all = database
        .prepare("select * from locks order by 1, 2")
        .unwrap();
    let rows = all.query_map((), |row| Ok((row.get(0)?, row.get(1)?)));
    rows.unwrap().map(Result::unwrap).collect()
}

/// Makes a database with a row in it, and changes its bytes.
fn corrupted(path: &Path, corrupt: impl Fn(&mut Vec<u8>)) {
    let other = Dir::new();
    insert(&other, "holder");
    let mut content = fs::read(other.path("locks.db")).unwrap();
    corrupt(&mut content);
    fs::write(path, content).unwrap();
}

const NO_DATABASES: &[(&str, Make)] = &[
    ("garbage", |path| {
        fs::write(path, "garbage".repeat(1000)).unwrap();
    }),
    ("a few bytes", |path| fs::write(path, "xy").unwrap()),
    ("zeroes", |path| fs::write(path, [0; 8192]).unwrap()),
    ("the first half of one", |path| {
        corrupted(path, |content| content.truncate(content.len() / 2));
    }),
    ("no more than the head of one", |path| {
        corrupted(path, |content| content.truncate(100));
    }),
    ("one of another format", |path| {
        corrupted(path, |content| {
            content[..16].copy_from_slice(b"SQLite format 9\0");
        });
    }),
    ("one with a broken schema", |path| {
        corrupted(path, |content| content[100..].fill(0xff));
    }),
    ("one with a table of other columns", |path| {
        let database = Connection::open(path).unwrap();
        database
            .execute("create table locks (door, key)", ())
            .unwrap();
        database
            .execute("insert into locks values (1, 2)", ())
            .unwrap();
    }),
    ("one with a view of that name", |path| {
        let database = Connection::open(path).unwrap();
        let view = "create view locks as select 1 lock_file, 2 unique_name";
        database.execute(view, ()).unwrap();
    }),
    ("a directory", |path| fs::create_dir(path).unwrap()),
    ("a link to itself", |path| {
        symlink("locks.db", path).unwrap();
    }),
    ("a FIFO", |path| {
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        let kind = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, path, kind, mode, 0).unwrap();
    }),
];

fn options(dir: &Dir) -> Options {
    let options = Options::new().protocol(Protocol::Sqlite);
    options.database(dir.path("locks.db"))
}

#[track_caller]
fn is_clear(error: &locket::Error, dir: &Dir) {
    let text = error.to_string();
    println!("{text}");
    assert_eq!(error.path(), dir.path("lock"));
    assert!(text.contains(dir.path("lock").to_str().unwrap()), "{text}");
    assert!(error.os_error().is_some(), "{text}");
    // The path of the lock is valid.
    assert!(error.is_io(), "{text}");
    // The error names the database.
    assert!(
        text.contains(dir.path("locks.db").to_str().unwrap()),
        "{text}"
    );
}

#[test]
fn what_is_no_database_is_an_error_and_stays_as_it_is() {
    for (what, make) in NO_DATABASES {
        println!("{what}");
        let dir = Dir::new();
        make(&dir.path("locks.db"));
        let before = snapshot(dir.0.path());
        for create in [true, false] {
            let options = options(&dir).create(create);
            let lock = match Engine::new().open_with(dir.path("lock"), &options) {
                Ok(lock) => lock,
                Err(e) => {
                    is_clear(&e, &dir);
                    continue;
                }
            };
            is_clear(&lock.acquire(EX, Duration::ZERO).unwrap_err(), &dir);
            is_clear(&lock.acquire(EX, SHORT).unwrap_err(), &dir);
            is_clear(&block_on(lock.acquire_async(EX, None)).unwrap_err(), &dir);
            is_clear(&lock.break_lock().unwrap_err(), &dir);
            if let Err(e) = lock.is_locked() {
                is_clear(&e, &dir);
                is_clear(&lock.holder().unwrap_err(), &dir);
                is_clear(&lock.release().unwrap_err(), &dir);
            }
            assert_eq!(lock.state(), State::Unlocked);
        }
        assert_eq!(snapshot(dir.0.path()), before, "a file was touched");
    }
}

/// An empty file is an empty database to SQLite; so is one that is missing, or of one byte.
#[test]
fn an_empty_file_becomes_a_database() {
    let dir = Dir::new();
    let makes: [Make; 3] = [
        remove,
        |path| fs::write(path, "").unwrap(),
        |path| fs::write(path, "x").unwrap(),
    ];
    for make in makes {
        make(&dir.path("locks.db"));
        let lock = open(&dir, Protocol::Sqlite);
        is_taken_over(&dir, &lock, rest(Protocol::Sqlite));
    }
    let missing = options(&dir).database(dir.path("none/locks.db"));
    let error = Engine::new()
        .open_with(dir.path("lock"), &missing)
        .unwrap_err();
    assert!(error.is_not_found(), "{error}");
    let text = error.to_string();
    assert!(
        text.contains(dir.path("none/locks.db").to_str().unwrap()),
        "{text}"
    );
    assert!(!dir.path("none").exists());
}

/// The lock is lost if its database is gone, and the database is not made anew. If it cannot be read, it
/// is unknown what became of the row.
#[test]
fn a_database_that_is_corrupted_or_gone_while_a_lock_is_held() {
    let corruptions: [(Make, bool); 2] = [
        (|path| fs::remove_file(path).unwrap(), true),
        (
            |path| fs::write(path, "garbage".repeat(1000)).unwrap(),
            false,
        ),
    ];
    for (corrupt, lost) in corruptions {
        let dir = Dir::new();
        let lock = open(&dir, Protocol::Sqlite);
        let guard = lock.acquire(EX, Duration::ZERO).unwrap();
        corrupt(&dir.path("locks.db"));
        let before = snapshot(dir.0.path());
        let error = guard.release().unwrap_err();
        if lost {
            assert!(error.is_lost(), "{error}");
            assert!(lock.release().unwrap_err().is_not_locked());
        } else {
            is_clear(&error, &dir);
        }
        assert_eq!(lock.state(), State::Unlocked);
        assert_eq!(snapshot(dir.0.path()), before);
        // With a new database the lock works again.
        remove(&dir.path("locks.db"));
        let lock = open(&dir, Protocol::Sqlite);
        is_taken_over(&dir, &lock, rest(Protocol::Sqlite));
    }
}

#[test]
fn rows_that_name_no_process_are_held_or_an_error() {
    let text = |text: &str| Value::Text(text.into());
    let holders = [
        text(""),
        text("garbage"),
        text("/"),
        text("/x/host"),
        text("/x/host.0-1"),
        text("/x/host.-1-1"),
        text("/x/host.4294967297-1"),
        text(&"x".repeat(100_000)),
        text("\u{0}\u{1f512}"),
        Value::Null,
        Value::Integer(1),
        Value::Real(0.5),
        Value::Blob(vec![0xff, 0xfe]),
    ];
    for holder in holders {
        println!("{holder:.40?}");
        let dir = Dir::new();
        add(&dir, "other.lock", &text("holder"));
        add(&dir, "lock.lock", &holder);
        let before = rows(&dir);
        let lock = open(&dir, Protocol::Sqlite);
        match lock.try_acquire(EX) {
            Ok(None) => {
                assert!(lock.acquire(EX, SHORT).unwrap_err().is_timeout());
                assert!(lock.is_locked().unwrap());
                assert!(lock.release().unwrap_err().is_not_owner());
            }
            Ok(Some(_)) => panic!("another holder's lock was acquired"),
            Err(e) => {
                is_clear(&e, &dir);
                is_clear(&lock.is_locked().unwrap_err(), &dir);
                is_clear(&lock.release().unwrap_err(), &dir);
            }
        }
        assert_eq!(rows(&dir), before);
        // A break removes this row and no other.
        lock.break_lock().unwrap();
        assert_eq!(rows(&dir), before[1..2]);
        is_taken_over(&dir, &lock, rest(Protocol::Sqlite));
    }
}

/// A race of two users of pylockfile, which it does not notice, leaves this behind.
#[test]
fn two_rows_for_one_lock() {
    let mine = Record::mine();
    let dead = mine.but(|record| record.pid = GONE);
    let both = |one: &Record, other: &Record| {
        let dir = Dir::new();
        for record in [one, other] {
            insert(&dir, dir.path(&record.name()).to_str().unwrap());
        }
        let lock = open(&dir, Protocol::Sqlite);
        (dir, lock)
    };
    for (one, other) in [(&mine, &dead), (&dead, &mine), (&mine, &mine)] {
        let (dir, lock) = both(one, other);
        let before = rows(&dir);
        assert!(lock.try_acquire(EX).unwrap().is_none());
        assert!(lock.acquire(EX, SHORT).unwrap_err().is_timeout());
        assert_eq!(lock.holder().unwrap().unwrap().pid, Some(mine.pid));
        assert_eq!(rows(&dir), before);
    }
    let (dir, lock) = both(&dead, &dead);
    is_taken_over(&dir, &lock, rest(Protocol::Sqlite));
}

#[test]
fn random_rows_are_held_unless_they_prove_a_death() {
    let mine = Record::mine();
    let gone = mine.but(|record| record.pid = GONE);
    let mut dice = Dice(0x10c4_e700_0000_0003);
    let dir = Dir::new();
    let lock = open(&dir, Protocol::Sqlite);
    let database = connect(&dir);
    // Whether the data reach the disk does not matter here.
    database.pragma_update(None, "synchronous", "off").unwrap();
    for i in 0..300 {
        let record = if i % 2 == 0 { &mine } else { &gone };
        let name = dice.corrupt(record.name().as_bytes());
        let Ok(name) = String::from_utf8(name) else {
            continue;
        };
        if name.contains(['/', '\0']) || matches!(&*name, "" | "." | "..") {
            continue;
        }
        let update = "insert into locks values (?, ?)";
        let row = params![key(&dir, "lock.lock"), key(&dir, &name)];
        database.execute(update, row).unwrap();
        let dead = is_dead(Protocol::Sqlite, name.as_bytes());
        match lock.try_acquire(EX).unwrap() {
            Some(guard) => {
                assert_ne!(dead, Some(false), "taken from {name:?}");
                guard.release().unwrap();
            }
            None => assert_ne!(dead, Some(true), "left to {name:?}"),
        }
        database.execute("delete from locks", ()).unwrap();
    }
}
