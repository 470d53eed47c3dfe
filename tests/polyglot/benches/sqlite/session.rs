//! A database, and the processes and components that write to it.

use locket_tests::process::Process;
use polyglot::sqlite::program::{Program, Side};
use std::fmt;
use std::path::Path;

use crate::Result;

/// A database with a table `counter` of one number, and a table `log`.
pub(crate) struct Database<'a> {
    program: &'a Program,
    folder: tempfile::TempDir,
    pub(crate) journal: &'static str,
    synchronous: &'static str,
}

impl fmt::Display for Database<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            journal,
            synchronous,
            ..
        } = self;
        write!(f, "Journal {journal}, synchronous {synchronous}")
    }
}

impl<'a> Database<'a> {
    pub(crate) fn new(
        program: &'a Program,
        journal: &'static str,
        synchronous: &'static str,
    ) -> Result<Self> {
        let this = Self {
            program,
            folder: tempfile::tempdir()?,
            journal,
            synchronous,
        };
        let mut first = Session::new(&this, Side::Native, "unix", Patience::Poll)?;
        first.ask(&format!("sql 0 pragma journal_mode={journal}"));
        first.sql("create table counter(n); insert into counter values (0); create table log(n)");
        Ok(this)
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }
}

/// How one waits for a busy database.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(crate) enum Patience {
    /// Asks again and again, with pauses of up to 100 ms.
    Poll,
    /// Blocks in locks, where the VFS and the journal have that.
    Queue,
}

/// A process or component with a connection.
pub(crate) struct Session(Process);

impl Session {
    pub(crate) fn new(
        database: &Database<'_>,
        side: Side,
        vfs: &str,
        patience: Patience,
    ) -> Result<Self> {
        let folder = database.folder();
        let mut command = side.command(database.program, folder);
        let mut this = Self(Process::spawn(command.arg(vfs)));
        let path = side.folder(folder);
        assert_eq!(this.ask(&format!("open 0 file:{path}/db")), "ok");
        let how = match patience {
            Patience::Poll => "poll",
            Patience::Queue => "queue",
        };
        this.ask(&format!("wait 0 {how} 60000"));
        this.sql(&format!("pragma synchronous={}", database.synchronous));
        Ok(this)
    }

    pub(crate) fn send(&mut self, line: &str) {
        self.0.send(line);
    }

    fn ask(&mut self, line: &str) -> String {
        self.0.ask(line)
    }

    /// Does what has no rows.
    pub(crate) fn sql(&mut self, sql: &str) {
        let answer = self.ask(&format!("sql 0 {sql}"));
        assert_eq!(answer, "ok", "{sql}");
    }

    /// The answer to what was sent.
    pub(crate) fn number(&mut self) -> f64 {
        let answer = self.0.answer();
        let number = answer.parse();
        number.unwrap_or_else(|_| panic!("it is no number: {answer}"))
    }

    /// The nanoseconds of a transaction, of so many.
    pub(crate) fn write(&mut self, count: u32) -> f64 {
        self.send(&format!("write 0 {count}"));
        self.number()
    }
}
