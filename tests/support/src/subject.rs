//! A holder of locks under the command of a test, and the stands on which there are some.

use std::path::PathBuf;
use std::time::Duration;

use locket::{Engine, LockFile, Options, Protocol};

use crate::dialogue::encode;
use crate::files::Dir;
use crate::waits::{QUIESCENT, STUCK};

/// A holder of locks that obeys line by line: a thread, a process or a guest.
///
/// It speaks the language of [`dialogue`](crate::dialogue). Each one is an owner of its own: what
/// it holds, no other subject holds.
pub trait Subject {
    /// Sends a command, and does not wait for the answer.
    fn send(&mut self, line: &str);

    /// The answer to the next command, if it comes within `limit`.
    fn answer_within(&mut self, limit: Duration) -> Option<String>;

    /// The number of the process that its locks belong to.
    fn pid(&self) -> u32;

    /// Lets it come to the end of its input, and waits for its end.
    fn finish(self: Box<Self>);

    /// Ends it wherever it is, even if it waits, and waits for its end.
    fn kill(self: Box<Self>);

    /// Waits for the end of one whose last command ends it.
    fn ended(self: Box<Self>);
}

/// A subject on any stand.
pub type AnySubject = Box<dyn Subject>;

impl dyn Subject + '_ {
    /// The answer to the next command.
    #[track_caller]
    pub fn answer(&mut self) -> String {
        let answer = self.answer_within(STUCK);
        answer.unwrap_or_else(|| panic!("no answer in {STUCK:?}"))
    }

    /// Sends a command, and returns the answer.
    #[track_caller]
    pub fn ask(&mut self, line: &str) -> String {
        self.send(line);
        let answer = self.answer_within(STUCK);
        answer.unwrap_or_else(|| panic!("no answer to {line:?} in {STUCK:?}"))
    }

    /// Sends a command that succeeds, and returns its result.
    #[track_caller]
    pub fn ok(&mut self, line: &str) -> String {
        let answer = self.ask(line);
        let result = answer.strip_prefix("ok");
        let result = result.unwrap_or_else(|| panic!("{line:?}: {answer}"));
        result.trim_start().to_owned()
    }

    /// Sends a command that fails, and returns the kind of error.
    #[track_caller]
    pub fn err(&mut self, line: &str) -> String {
        let answer = self.ask(line);
        let kind = answer.strip_prefix("err ");
        kind.unwrap_or_else(|| panic!("{line:?}: {answer}"))
            .to_owned()
    }

    /// Sends a command that waits, and returns once it does.
    #[track_caller]
    pub fn waits(&mut self, line: &str) {
        self.send(line);
        let answer = self.answer_within(QUIESCENT);
        assert_eq!(answer, None, "{line:?} does not wait");
    }

    /// The answer to a command that waited: it succeeds.
    #[track_caller]
    pub fn granted(&mut self) {
        assert_eq!(self.answer(), "ok");
    }
}

/// Where the subjects of one test meet: a directory with lock files of one protocol.
#[derive(Debug)]
pub struct Site {
    /// The protocol of the locks.
    pub protocol: Protocol,
    /// The directory of the lock files.
    pub dir: Dir,
    /// The directory of the database, so that it is not among the lock files.
    elsewhere: Dir,
}

impl Site {
    /// An empty directory.
    pub fn new(protocol: Protocol) -> Self {
        Self {
            protocol,
            dir: Dir::new(),
            elsewhere: Dir::new(),
        }
    }

    /// The lock file of most tests.
    pub fn lock_path(&self) -> PathBuf {
        self.dir.path("lock")
    }

    /// The database of the protocol that is kept in one.
    pub fn database(&self) -> PathBuf {
        self.elsewhere.path("locks.db")
    }

    /// How the engine opens a lock here.
    pub fn options(&self) -> Options {
        let options = Options::new().protocol(self.protocol);
        options.database(self.database())
    }

    /// The lock in an engine of its own, which is to every subject like another process.
    ///
    /// # Panics
    ///
    /// If it cannot be opened.
    pub fn foreign(&self) -> LockFile {
        let lock = Engine::new().open_with(self.lock_path(), &self.options());
        lock.expect("the lock can be opened")
    }

    /// Whether nothing and no one holds the lock: it can be acquired, exclusively.
    ///
    /// # Panics
    ///
    /// If that cannot be found out.
    pub fn is_free(&self) -> bool {
        let acquired = self.foreign().try_acquire(locket::Mode::Exclusive);
        acquired.expect("the lock can be tried").is_some()
    }
}

/// How a subject can end without being asked to release what it holds.
#[derive(Clone, Copy, Debug)]
pub enum End {
    /// It comes to the end of its input.
    Finish,
    /// It is killed.
    Kill,
    /// A command is its end.
    Command(&'static str),
}

/// A kind of subjects, and what is different about it.
pub trait Stand {
    /// A stand for locks of one protocol.
    fn new(protocol: Protocol) -> Self
    where
        Self: Sized;

    /// Where the lock files are.
    fn site(&self) -> &Site;

    /// A new subject. It has opened nothing.
    fn start(&self) -> AnySubject;

    /// What subjects call a file of the directory, as one word.
    fn path(&self, name: &str) -> String {
        encode(&self.site().dir.path(name).to_string_lossy())
    }

    /// How many wait for the lock `lock`; none if the system does not show it.
    fn waiting(&self) -> Option<usize>;

    /// The ways in which subjects end.
    fn ends(&self) -> Vec<End>;

    /// The commands that acquire: blocking, and in a task.
    fn acquires(&self) -> &'static [&'static str] {
        &["acquire", "acquire-async"]
    }

    /// How many subjects a test of the order has.
    fn crowd(&self) -> usize {
        8
    }

    /// Whether all subjects wait in one queue, that of one engine.
    fn is_one_queue(&self) -> bool {
        false
    }

    /// Whether a subject that would wait for itself learns it, with the error `deadlock`.
    fn detects_deadlock(&self) -> bool {
        false
    }
}

impl dyn Stand + '_ {
    /// The command that opens the lock as `a`, and keeps its file.
    pub fn open(&self) -> String {
        self.open_as("a", "lock")
    }

    /// The command that opens the lock of a file under a name, and keeps the file.
    pub fn open_as(&self, name: &str, file: &str) -> String {
        let (path, protocol) = (self.path(file), self.protocol());
        format!("open {name} {path} keep {protocol}")
    }

    /// The command that opens the lock as `a`, and removes its file on release.
    pub fn open_removing(&self) -> String {
        format!("open a {} remove {}", self.path("lock"), self.protocol())
    }

    /// A subject that has opened the lock as `a`.
    #[track_caller]
    pub fn subject(&self) -> AnySubject {
        let mut subject = self.start();
        subject.ok(&self.open());
        subject
    }

    /// The protocol of the locks.
    pub fn protocol(&self) -> Protocol {
        self.site().protocol
    }

    /// Whether the lock is a kernel lock.
    pub fn is_kernel_lock(&self) -> bool {
        !self.protocol().is_existence_lock()
    }
}
