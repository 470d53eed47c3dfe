//! The tools that Locket is tried with, and how they are driven.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use locket_tests::process::{Process, STUCK};

use super::experiment::{Met, fails};

/// A foreign tool.
pub(crate) struct Peer {
    /// A library and, after a space, a part of it.
    pub(crate) name: &'static str,
    /// Its name in the README, if it is there.
    pub(crate) title: &'static str,
    pub(crate) language: Language,
    pub(crate) way: Way,
    pub(crate) waits: Waits,
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Language {
    Python,
    Node,
    Java,
    Rust,
    Shell,
}

/// How a peer keeps its lock, where P is the path that it is given.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Way {
    /// By `flock` on P.
    Flock,
    /// By a POSIX lock on P.
    Fcntl,
    /// By having created `P.lock`, of any kind.
    Beside,
    /// By having created P.
    Path,
    /// By a row in a database.
    Row,
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Waits {
    /// Up to a timeout.
    Limited,
    /// Only indefinitely.
    Indefinitely,
    /// Not at all.
    Never,
}

pub(crate) const fn peer(
    name: &'static str,
    title: &'static str,
    language: Language,
    way: Way,
    waits: Waits,
) -> Peer {
    Peer {
        name,
        title,
        language,
        way,
        waits,
    }
}

/// Only newer versions of `flock(1)` have it.
pub(crate) const OPTIONAL: &str = "flock --fcntl";

pub(crate) const PEERS: [Peer; 24] = {
    use Language::{Java, Node, Python, Rust, Shell};
    use Waits::{Indefinitely, Limited, Never};
    use Way::{Beside, Fcntl, Flock, Path, Row};
    [
        peer("locket", "locket.py", Python, Flock, Limited),
        peer("filelock FileLock", "filelock", Python, Flock, Limited),
        peer("portalocker", "portalocker", Python, Flock, Limited),
        peer("zc.lockfile", "zc.lockfile", Python, Flock, Never),
        peer("flock", "`flock(1)`", Shell, Flock, Limited),
        peer("flock -s", "`flock(1)`", Shell, Flock, Limited),
        peer("std", "Rust's `File::lock`", Rust, Flock, Indefinitely),
        peer("fs4", "fs4", Rust, Flock, Indefinitely),
        peer("fd-lock", "fd-lock", Rust, Flock, Indefinitely),
        peer(
            "fasteners InterProcessLock",
            "fasteners",
            Python,
            Fcntl,
            Limited,
        ),
        peer("fasteners write", "fasteners", Python, Fcntl, Limited),
        peer("fasteners read", "fasteners", Python, Fcntl, Limited),
        peer(
            "oslo.concurrency",
            "oslo.concurrency",
            Python,
            Fcntl,
            Indefinitely,
        ),
        peer("java", "Java", Java, Fcntl, Indefinitely),
        peer("flock --fcntl", "", Shell, Fcntl, Limited),
        // A database is locked by POSIX locks on some of its bytes, so P is a database here.
        peer("sqlite3", "SQLite", Shell, Fcntl, Limited),
        peer("lockfile Link", "lockfile", Python, Beside, Limited),
        peer("lockfile Symlink", "lockfile", Python, Beside, Limited),
        peer("lockfile Mkdir", "lockfile", Python, Beside, Limited),
        peer("proper-lockfile", "proper-lockfile", Node, Beside, Limited),
        // Its P is the index of a repository.
        peer("git", "git", Shell, Beside, Never),
        peer("lockfile PID", "lockfile (PID)", Python, Path, Limited),
        peer(
            "filelock SoftFileLock",
            "filelock (soft)",
            Python,
            Path,
            Limited,
        ),
        peer("lockfile SQLite", "lockfile (SQLite)", Python, Row, Limited),
    ]
};

/// The peer of a name.
pub(crate) fn named(name: &str) -> &'static Peer {
    let mut peers = PEERS.iter();
    peers
        .find(|peer| peer.name == name)
        .expect("there is such a peer")
}

/// A peer at work.
pub(crate) struct Driver(pub(crate) Process);

impl Driver {
    /// None if it is not installed. In CI everything must be.
    pub(crate) fn start(peer: &Peer, temporary: &Path) -> Option<(Self, String)> {
        let mut process = Process::spawn(peer.command().env("TMPDIR", temporary));
        let version = process.answer_within(STUCK)?;
        Some((Self(process), version))
    }

    pub(crate) fn acquire(
        &mut self,
        command: fmt::Arguments<'_>,
        path: &Path,
    ) -> Result<bool, Met> {
        let answer = self.0.ask(&format!("{command} {}", path.display()));
        match answer.as_str() {
            "got" => Ok(true),
            "busy" | "timed-out" => Ok(false),
            _ => Err(fails(path, &answer)),
        }
    }

    pub(crate) fn release(&mut self) {
        // An error is also an answer: a tool that did not see the lock may have broken it.
        self.0.ask("release");
    }
}

impl Peer {
    pub(crate) fn command(&self) -> Command {
        let foreign = Path::new(env!("CARGO_MANIFEST_DIR")).join("foreign");
        let installed = installed();
        let (program, file) = match self.language {
            Language::Python => (installed.join("venv/bin/python"), "peers.py"),
            Language::Node => ("node".into(), "peers.js"),
            Language::Java => ("java".into(), "Peers.java"),
            Language::Rust => (env!("CARGO_BIN_EXE_rust_peers").into(), ""),
            Language::Shell => ("sh".into(), "peers.sh"),
        };
        // A program that is missing ends as soon as it is started, without output.
        let mut command = Command::new("env");
        command.env("NODE_PATH", installed.join("node_modules"));
        command.arg(program);
        if self.language != Language::Rust {
            command.arg(foreign.join(file));
        }
        command.arg(self.name);
        command
    }
}

/// Where `tests/peers` puts the libraries.
pub(crate) fn installed() -> PathBuf {
    let tests = std::env::current_exe().expect("the path of this test is known");
    let mut folders = tests.ancestors().map(|folder| folder.join("peers"));
    folders.find(|folder| folder.is_dir()).unwrap_or_default()
}
