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
//!
//! **The content of the database is not trusted**, since other programs may write it. It is opened
//! without following symbolic links, and with views and triggers disabled. The table `locks` has to
//! be the one that pylockfile creates, with no index but ours: a function in a default, a check, a
//! generated column or an index can run for seconds in one step. The work of every call is cut off
//! after some milliseconds, a row may not be longer than any path, and a journal that was left
//! behind may not be longer than one of this table ever gets.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::limits::Limit;
use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior, params};

use super::owner_record::OwnerRecord;
use super::{Backend, ForeignHolder, Request};
use crate::Mode;
use crate::object::{Created, Location, LockObject, Marker, OpenLock};
use crate::sys::{self, Identity, TimedWait};

#[derive(Debug)]
pub(crate) struct Sqlite;

/// What is created in the database: pylockfile's table, and an index of ours.
const TABLE: &str = "create table if not exists \
                     locks (lock_file varchar(32), unique_name varchar(32))";
const INDEX: &str = "create unique index if not exists locket_one_holder on locks (lock_file)";

/// How long a try, and a release, waits for other transactions on the database.
const TRY: Duration = Duration::from_millis(20);
const RELEASE: Duration = Duration::from_secs(10);

/// How long a release pauses before it looks again: SQLite reports some kinds of busy at once.
const PAUSE: Duration = Duration::from_millis(1);

/// How long the database may keep a call busy, apart from waiting for other transactions. The work
/// takes microseconds.
const WORK: Duration = Duration::from_millis(20);

/// Longer than any path or name, and thus than any valid row.
const LONGEST_ROW: i32 = 64 << 10;

/// The path of a database with the symbolic links to its directory resolved.
pub(crate) fn locate(database: &Path) -> io::Result<PathBuf> {
    let absolute = std::path::absolute(database)?;
    let (Some(dir), Some(name)) = (absolute.parent(), absolute.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let dir = dir.canonicalize();
    Ok(dir.map_err(|e| about(e.kind(), &e, database))?.join(name))
}

/// Opens the row of the lock `key`.
pub(crate) fn open(database: &Path, key: PathBuf, create: bool) -> io::Result<OpenLock> {
    if key.to_str().is_none() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "the path is not valid text, which the database requires",
        ));
    }
    // Creates an empty file only: another process may have a transaction at this moment.
    drop(connect(database, create)?);
    let missing = || io::Error::from(io::ErrorKind::NotFound);
    let identity = Identity::at(database, false)?.ok_or_else(missing)?;
    let dir = sys::open_dir(database.parent().ok_or_else(missing)?)?;
    Ok(OpenLock {
        identity,
        network: identity.is_network(&dir),
        object: LockObject::marker(dir, key.into(), Some(database.to_owned())),
    })
}

/// More than a journal of this table ever has. SQLite reads one that was left behind at once, which
/// nothing cuts off.
const LONGEST_JOURNAL: u64 = 16 << 20;

/// Fails if a journal of the database is too long to be read in time.
fn check_journals(database: &Path) -> io::Result<()> {
    for suffix in ["-journal", "-wal"] {
        let mut journal = database.as_os_str().to_owned();
        journal.push(suffix);
        let found = std::fs::symlink_metadata(&journal);
        if found.is_ok_and(|found| found.len() > LONGEST_JOURNAL) {
            let long = "it is too long for one of locks";
            return Err(about(io::ErrorKind::Other, &long, Path::new(&journal)));
        }
    }
    Ok(())
}

/// Opens the database for one call, which waits for other transactions at most for as long as a try.
fn connect(database: &Path, create: bool) -> io::Result<Connection> {
    check_journals(database)?;
    let mut flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    if create {
        flags |= OpenFlags::SQLITE_OPEN_CREATE;
    }
    let open = || -> rusqlite::Result<Connection> {
        let mut connection = Connection::open_with_flags(database, flags)?;
        connection.busy_timeout(TRY)?;
        connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, LONGEST_ROW)?;
        for off in [
            DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA,
            DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW,
            DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER,
        ] {
            connection.set_db_config(off, false)?;
        }
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
        // From the first time that it is asked, since it may have waited for others before.
        let mut end = None;
        let is_over = move || {
            let now = Instant::now();
            now >= *end.get_or_insert(now + WORK)
        };
        connection.progress_handler(1000, Some(is_over))?;
        Ok(connection)
    };
    let connection = open().map_err(|e| match std::fs::symlink_metadata(database) {
        // SQLite only reports that it cannot open the file.
        Ok(file) if file.is_symlink() => {
            let link = "a symbolic link, which is not followed";
            about(io::ErrorKind::Other, &link, database)
        }
        Err(file) if !create || database.parent().is_some_and(|dir| !dir.exists()) => {
            about(file.kind(), &file, database)
        }
        _ => error(e, database),
    })?;
    Ok(connection)
}

impl Backend for Sqlite {
    fn place(&self, file: &OsStr) -> io::Result<Location> {
        let mut name = file.to_owned();
        name.push(".lock");
        Ok(Location::Row(name))
    }

    fn try_lock(&self, object: &LockObject, request: Request) -> io::Result<bool> {
        if request.mode == Mode::Shared {
            return Err(super::no_sharing());
        }
        let (name, key, mut connection) = parts(object)?;
        // Reading does not keep other programs from writing.
        let holders = match self.read(&connection, &key) {
            Err(e) if e.kind() == io::ErrorKind::ResourceBusy => return Ok(false),
            read => read?,
        };
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
                });
                Ok(true)
            }
            Ok(false) => Ok(false),
            Err(e) if is_busy(&e) => Ok(false),
            Err(e) => Err(in_database(&connection)(e)),
        }
    }

    fn wait(&self, _: &LockObject, _: Request, _: &TimedWait) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn unlock(&self, object: &LockObject) -> io::Result<()> {
        let delete = "delete from locks where lock_file = ? and unique_name = ?";
        patiently(|| {
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
                let deleted = is_table(&connection).and_then(|there| match there {
                    true => connection.execute(delete, params![key, token]),
                    false => Ok(0),
                });
                deleted.map_err(in_database(&connection))?;
                *created = None;
            }
            Ok(())
        })
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
        Ok(holder.map(|holder| {
            let claim = claim(&holder);
            ForeignHolder {
                host: claim.as_ref().and_then(OwnerRecord::host),
                pid: claim.map(|claim| claim.pid),
                ..ForeignHolder::new(Mode::Exclusive)
            }
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

/// Does something again while another transaction is in its way, for as long as a release waits. Each
/// time is cut off like a try.
#[expect(clippy::disallowed_methods, reason = "a database cannot be waited for")]
fn patiently<T>(mut once: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let end = Instant::now() + RELEASE;
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

/// Whether the table exists, which the first acquire creates. Fails if something else has its name, or
/// if more belongs to it than the two columns and the index: an expression in a default, a check, a
/// generated column or an index can take any time, in a single step that nothing cuts off.
fn is_table(connection: &Connection) -> rusqlite::Result<bool> {
    const MOST: usize = 3;
    let select = "select type, sql from sqlite_schema where tbl_name = 'locks' collate nocase \
                  and type <> 'trigger' limit 3";
    let mut statement = connection.prepare(select)?;
    let parts = statement.query_map((), |row| Ok((row.get(0)?, row.get(1)?)))?;
    let parts: Vec<(String, Option<String>)> = parts.collect::<rusqlite::Result<_>>()?;
    let is_known = |(kind, sql): &(String, Option<String>)| {
        let known = if kind == "table" { TABLE } else { INDEX };
        sql.as_ref().is_some_and(|sql| is_same(sql, known))
    };
    if parts.len() == MOST || !parts.iter().all(is_known) {
        return Err(rusqlite::Error::InvalidQuery);
    }
    Ok(!parts.is_empty())
}

/// Whether two statements that create something are the same but for case, space and a condition.
fn is_same(one: &str, other: &str) -> bool {
    let plain = |sql: &str| {
        let sql: String = sql.split_whitespace().collect();
        sql.to_ascii_lowercase().replace("ifnotexists", "")
    };
    plain(one) == plain(other)
}

fn parts(object: &LockObject) -> io::Result<(&Marker, String, Connection)> {
    let name = object.as_marker().ok_or(io::ErrorKind::InvalidInput)?;
    let database = name.database.as_ref().ok_or(io::ErrorKind::InvalidInput)?;
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

fn is_busy(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error_code();
    matches!(
        code,
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::ConstraintViolation)
    )
}

/// The error of an operation on the open database.
fn in_database(connection: &Connection) -> impl Fn(rusqlite::Error) -> io::Error {
    |e| error(e, Path::new(connection.path().unwrap_or_default()))
}

fn error(error: rusqlite::Error, database: &Path) -> io::Error {
    use io::ErrorKind as E;
    if let rusqlite::Error::InvalidQuery = error {
        let other = "its `locks` is not a table";
        return about(E::Other, &other, database);
    }
    let kind = match error.sqlite_error_code() {
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => E::PermissionDenied,
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => E::ResourceBusy,
        Some(ErrorCode::DiskFull) => E::StorageFull,
        Some(ErrorCode::OperationInterrupted) => E::TimedOut,
        _ => E::Other,
    };
    about(kind, &error, database)
}

/// Names the database: the message of the error names the lock, which is another file.
fn about(kind: io::ErrorKind, what: &dyn fmt::Display, database: &Path) -> io::Error {
    io::Error::new(kind, format!("{}: {what}", database.display()))
}
