//! Opening a database whose content is not trusted.
//!
//! Other programs may write the database, and what is in it. It is opened
//! without following symbolic links, and with views and triggers disabled. The table `locks` has to
//! be the one that pylockfile creates, with no index but ours: a function in a default, a check, a
//! generated column or an index can run for seconds in one step. The work of every call is cut off
//! after some milliseconds, a row may not be longer than any path, and a journal that was left
//! behind may not be longer than one of this table ever gets.

use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::limits::Limit;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::object::{LockObject, OpenLock, Store};
use crate::sys::{self, Identity};

/// What is created in the database: pylockfile's table, and an index of ours.
pub(super) const TABLE: &str = "create table if not exists \
                     locks (lock_file varchar(32), unique_name varchar(32))";
pub(super) const INDEX: &str =
    "create unique index if not exists locket_one_holder on locks (lock_file)";

/// How long a try waits for other transactions on the database.
const TRY: Duration = Duration::from_millis(20);

/// How long the database may keep a call busy, apart from waiting for other transactions. The work
/// takes microseconds.
const WORK: Duration = Duration::from_millis(20);

/// Longer than any path or name, and thus than any valid row.
const LONGEST_ROW: i32 = 64 << 10;

/// What SQLite appends to the name of a database for its journals.
pub(super) const JOURNAL: &str = "-journal";
pub(super) const WRITE_AHEAD_LOG: &str = "-wal";

/// The path of a database with the symbolic links to its directory resolved.
pub(super) fn locate(database: &Path) -> io::Result<PathBuf> {
    let absolute = std::path::absolute(database)?;
    let (Some(dir), Some(name)) = (absolute.parent(), absolute.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let dir = dir.canonicalize();
    Ok(dir.map_err(|e| about(e.kind(), &e, database))?.join(name))
}

/// A database in which locks are rows.
#[derive(Debug)]
pub(super) struct Database(pub(super) PathBuf);

impl Store for Database {
    fn path(&self) -> &Path {
        &self.0
    }

    fn open(&self, dir: &File, name: &OsStr, create: bool) -> io::Result<OpenLock> {
        let Self(database) = self;
        let key = sys::path_of(dir)?.join(name);
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
            backing: identity.backing(&dir),
            object: LockObject::marker(dir, key.into(), Some(database.clone())),
        })
    }
}

/// More than a journal of this table ever has. SQLite reads one that was left behind at once, which
/// nothing cuts off.
const LONGEST_JOURNAL: u64 = 16 << 20;

/// Fails if a journal of the database is too long to be read in time.
fn check_journals(database: &Path) -> io::Result<()> {
    for suffix in [JOURNAL, WRITE_AHEAD_LOG] {
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

/// Opens the database for one call, which waits for other transactions at most for as long as a
/// try.
pub(super) fn connect(database: &Path, create: bool) -> io::Result<Connection> {
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

/// Whether the table exists, which the first acquire creates. Fails if something else has its name,
/// or if more belongs to it than the two columns and the index: an expression in a default, a
/// check, a generated column or an index can take any time, in a single step that nothing cuts off.
pub(super) fn is_table(connection: &Connection) -> rusqlite::Result<bool> {
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

/// The error of an operation on the open database.
pub(super) fn in_database(connection: &Connection) -> impl Fn(rusqlite::Error) -> io::Error {
    |e| error(e, Path::new(connection.path().unwrap_or_default()))
}

pub(super) fn error(error: rusqlite::Error, database: &Path) -> io::Error {
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
pub(super) fn about(kind: io::ErrorKind, what: &dyn fmt::Display, database: &Path) -> io::Error {
    io::Error::new(kind, format!("{}: {what}", database.display()))
}
