//! pylockfile's `SQLiteLockFile`: a row in the table `locks` of a database, with the absolute path
//! of the lock and the name of its holder.
//!
//! pylockfile itself looks for a row and then inserts one, in two steps, so two of its processes
//! can both succeed. Here both steps are one transaction, and an index keeps every program from
//! inserting a second row: in a race that pylockfile would not have noticed, it gets an error of
//! the database. Unless `SQLiteLockFile.testdb` is set, each pylockfile process creates a database
//! of its own. A shared one has to be named there, and created by another program, because a
//! pylockfile process removes the database that it created when it ends, even if others have locks
//! in it.
//!
//! The settings of the database stay as they are, so each acquire and each release waits for the
//! disk as any transaction does.

mod database;

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior, params};

use self::database::{
    Database, INDEX, JOURNAL, TABLE, WRITE_AHEAD_LOG, connect, in_database, is_table, locate,
};
use super::api::{Backend, Request};
use super::existence::owner_record::OwnerRecord;
use crate::object::{Created, Location, LockObject, Marker};
use crate::sys::TimedWait;
use crate::types::{ForeignHolder, Mode};
use crate::watch::{Changes, WatchedEntry};

#[derive(Debug)]
pub(super) struct Sqlite;

/// How long one attempt to release waits for other transactions on the database.
const RELEASE: Duration = Duration::from_millis(2);

/// How long breaking a lock waits for them, and how it pauses before it looks again: SQLite reports
/// some kinds of busy at once.
const BREAK: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(1);

impl Backend for Sqlite {
    fn place(&self, file: &OsStr, database: Option<&Path>) -> io::Result<Location> {
        let Some(database) = database else {
            let missing = "no database is named for this protocol";
            return Err(io::Error::new(io::ErrorKind::Unsupported, missing));
        };
        let mut name = file.to_owned();
        name.push(".lock");
        Ok(Location::Row(name, Arc::new(Database(locate(database)?))))
    }

    fn watched(&self, object: &LockObject) -> Vec<WatchedEntry> {
        let store = object.as_marker().and_then(Marker::store);
        let Some(database) = store.and_then(Path::file_name) else {
            return Vec::new();
        };
        let entry = |suffix, changes| {
            let mut name = database.to_owned();
            name.push(suffix);
            WatchedEntry { name, changes }
        };
        vec![
            entry("", Changes::NameAndContent),
            entry(JOURNAL, Changes::NameAndContent),
            // Every reader creates and removes it, so waking readers for that would never end.
            entry(WRITE_AHEAD_LOG, Changes::Content),
        ]
    }

    fn try_lock(&self, object: &LockObject, _: Request) -> io::Result<bool> {
        let (name, key, mut connection) = parts(object)?;
        // Reading does not keep other programs from writing.
        let holders = self.read(&connection, &key)?;
        if let Some(created) = &*name.created()
            && holders.iter().any(|holder| *created.token == **holder)
        {
            return Ok(true);
        }
        if holders.iter().any(|holder| !is_dead(object, holder)) {
            return Ok(false);
        }
        let token = unique_name(&key);
        let behavior = TransactionBehavior::Immediate;
        let taken = Transaction::new(&mut connection, behavior).and_then(|transaction| {
            transaction.execute(TABLE, ())?;
            // What was there before may have been exchanged.
            is_table(&transaction)?;
            // Fails if one lock has two holders already.
            let _ = transaction.execute(INDEX, ());
            for dead in holders {
                let delete = "delete from locks where lock_file = ? and unique_name = ?";
                transaction.execute(delete, params![key, dead])?;
            }
            let insert = "insert into locks select ?1, ?2 \
                          where not exists (select 1 from locks where lock_file = ?1)";
            let taken = transaction.execute(insert, params![key, token])?;
            transaction.commit()?;
            Ok(taken == 1)
        });
        match taken {
            Ok(true) => {
                *name.created() = Some(Created {
                    token: token.into(),
                    pin: None,
                    life: None,
                });
                Ok(true)
            }
            Ok(false) => Ok(false),
            // Another program inserted one after the last look.
            Err(e) if e.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => Ok(false),
            Err(e) => Err(in_database(&connection)(e)),
        }
    }

    fn wait(&self, _: &LockObject, _: Request, _: &TimedWait) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn unlock(&self, object: &LockObject) -> io::Result<()> {
        let delete = "delete from locks where lock_file = ? and unique_name = ?";
        let (name, key, connection) = match parts(object) {
            // The row is gone with the database.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                object.as_marker().map(|name| name.created().take());
                return Ok(());
            }
            parts => parts?,
        };
        let mut created = name.created();
        if let Some(Created { token, .. }) = &*created {
            let token = token.to_string_lossy();
            let deleted = connection.busy_timeout(RELEASE).and_then(|()| {
                Ok(match is_table(&connection)? {
                    true => connection.execute(delete, params![key, token])?,
                    false => 0,
                })
            });
            deleted.map_err(in_database(&connection))?;
            *created = None;
        }
        Ok(())
    }

    fn is_held(&self, object: &LockObject) -> bool {
        let held = || -> io::Result<bool> {
            let (name, key, connection) = parts(object)?;
            let created = name.created();
            let Some(created) = &*created else {
                return Ok(false);
            };
            self.is_there(&connection, &key, &created.token.to_string_lossy())
        };
        // If the database exists and cannot be read, the state is not known.
        held().unwrap_or_else(|e| e.kind() != io::ErrorKind::NotFound)
    }

    fn holder(&self, object: &LockObject) -> io::Result<Option<ForeignHolder>> {
        let (_, key, connection) = parts(object)?;
        let holders = self.read(&connection, &key)?;
        let holder = holders.into_iter().find(|holder| !is_dead(object, holder));
        Ok(holder.map(|holder| match claim(&holder) {
            Some(claim) => claim.holder(),
            None => ForeignHolder::new(Mode::Exclusive),
        }))
    }

    fn holder_pid(&self, object: &LockObject) -> Option<u32> {
        let (_, key, connection) = parts(object).ok()?;
        let holder = self.read(&connection, &key).ok()?.pop()?;
        claim(&holder)
            .filter(OwnerRecord::is_here)
            .map(|claim| claim.pid)
    }

    // A row of that table is nothing but a lock, so `require_owner` does not matter.
    fn break_lock(&self, object: &LockObject, _: bool) -> io::Result<bool> {
        let delete = "delete from locks where lock_file = ?";
        patiently(|| {
            let (_, key, connection) = parts(object)?;
            let broken = || Ok(is_table(&connection)? && connection.execute(delete, [key])? > 0);
            broken().map_err(in_database(&connection))
        })
    }
}

/// Does something again while another transaction is in its way. Each time is cut off like a try.
#[expect(clippy::disallowed_methods, reason = "a database cannot be waited for")]
fn patiently<T>(mut once: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let end = Instant::now() + BREAK;
    loop {
        match once() {
            Err(e) if e.kind() == io::ErrorKind::ResourceBusy && Instant::now() < end => {
                thread::sleep(PAUSE);
            }
            done => return done,
        }
    }
}

impl Sqlite {
    /// The names of the holders: none or one, and two if another program let in more.
    fn read(&self, connection: &Connection, key: &str) -> io::Result<Vec<String>> {
        let select = "select unique_name from locks where lock_file = ? limit 2";
        let read = || -> rusqlite::Result<Vec<String>> {
            if !is_table(connection)? {
                return Ok(Vec::new());
            }
            let mut statement = connection.prepare(select)?;
            let rows = statement.query_map([key], |row| row.get(0))?;
            rows.collect()
        };
        read().map_err(in_database(connection))
    }

    /// Whether `token` is among them.
    fn is_there(&self, connection: &Connection, key: &str, token: &str) -> io::Result<bool> {
        let select = "select 1 from locks where lock_file = ? and unique_name = ? limit 1";
        let read = || -> rusqlite::Result<bool> {
            Ok(is_table(connection)? && connection.prepare(select)?.exists([key, token])?)
        };
        read().map_err(in_database(connection))
    }
}

fn parts(object: &LockObject) -> io::Result<(&Marker, String, Connection)> {
    let name = object.as_marker().ok_or(io::ErrorKind::InvalidInput)?;
    let database = name.store().ok_or(io::ErrorKind::InvalidInput)?;
    let key = name.name().to_string_lossy().into_owned();
    Ok((name, key, connect(database, false)?))
}

/// The name of this process in the row, in place of pylockfile's.
fn unique_name(key: &str) -> String {
    let name: OsString = OwnerRecord::mine().unique_name();
    let path = Path::new(key).with_file_name(name);
    path.to_string_lossy().into_owned()
}

fn claim(holder: &str) -> Option<OwnerRecord> {
    OwnerRecord::of_name(Path::new(holder).file_name()?)
}

fn is_dead(object: &LockObject, holder: &str) -> bool {
    claim(holder).is_some_and(|claim| claim.is_dead(&object.file))
}
