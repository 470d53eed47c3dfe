//! Where the participants count: in two files, or in a database.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use rusqlite::Connection;

/// For how long a participant asks for a busy database.
pub(super) const BUSY: Duration = Duration::from_mins(1);

/// What the participants change: a number, and a journal of their turns.
#[derive(Clone, Debug)]
pub(super) enum Table {
    Files { counter: PathBuf, journal: PathBuf },
    Database(PathBuf),
}

impl Table {
    pub(super) fn files(dir: &Path) -> Self {
        Self::Files {
            counter: dir.join("counter"),
            journal: dir.join("journal"),
        }
    }

    /// A new database, in the mode that `log` says: with a write-ahead log, or with a rollback journal.
    pub(super) fn database(dir: &Path, log: bool) -> anyhow::Result<Self> {
        let path = dir.join("db");
        let mode = if log { "wal" } else { "delete" };
        let db = Connection::open(&path)?;
        db.pragma_update(None, "journal_mode", mode)?;
        db.execute_batch(
            "create table counter(n); insert into counter values (0);
             create table turns(id integer primary key, name)",
        )?;
        db.close().map_err(|(_, e)| e)?;
        Ok(Self::Database(path))
    }

    /// The number. Asks for a busy database for as long as `busy`.
    pub(super) fn total(&self, busy: Duration) -> anyhow::Result<u64> {
        match self {
            Self::Files { counter, .. } => read_number(counter),
            Self::Database(path) => {
                let db = open(path)?;
                db.busy_timeout(busy)?;
                let number: i64 = db.query_row("select n from counter", (), |row| row.get(0))?;
                Ok(u64::try_from(number)?)
            }
        }
    }

    /// Whether it is a database that is no longer sound.
    pub(super) fn is_damaged(&self) -> bool {
        let Self::Database(path) = self else {
            return false;
        };
        let checked = || -> anyhow::Result<String> {
            let db = open(path)?;
            Ok(db.query_row("pragma integrity_check", (), |row| row.get(0))?)
        };
        !checked().is_ok_and(|answer| answer == "ok")
    }

    /// Whose turn each was.
    pub(super) fn turns(&self) -> anyhow::Result<Vec<String>> {
        match self {
            Self::Files { journal, .. } => {
                let journal = fs::read_to_string(journal)?;
                Ok(journal.lines().map(str::to_owned).collect())
            }
            Self::Database(path) => {
                let db = open(path)?;
                let mut turns = db.prepare("select name from turns order by id")?;
                let turns = turns.query_map((), |row| row.get(0))?;
                Ok(turns.collect::<Result<_, _>>()?)
            }
        }
    }
}

/// A connection of a native participant, on SQLite's own VFS.
pub(super) fn open(path: &Path) -> anyhow::Result<Connection> {
    let db = Connection::open(path)?;
    db.busy_timeout(BUSY)?;
    // The demo outlives no loss of power.
    db.pragma_update(None, "synchronous", "off")?;
    Ok(db)
}

/// The number in a file; 0 if the file is missing or empty.
pub(super) fn read_number(path: &Path) -> anyhow::Result<u64> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(e) => return Err(e.into()),
    };
    match text.as_str() {
        "" => Ok(0),
        text => text
            .parse()
            .with_context(|| format!("not a number: {text:?}")),
    }
}
