//! The surroundings of one subject: a directory with a lock, its holder before the operation, and its
//! next owner.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::ValueEnum as _;
use locket::{Engine, Guard, Mode, Options, Protocol};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::faults::answer::Done;
use crate::faults::operation::{Operation, options};
pub use locket_test_support::waits::STUCK;

use crate::faults::strace::{Injection, Strace};
use crate::faults::subject::Fault;

/// What is in the lock file of a kernel lock.
pub const CONTENT: &str = "precious";

/// An operation in a protocol.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Scenario {
    /// The protocol of the lock.
    pub protocol: Protocol,
    /// The operation.
    pub operation: Operation,
}

impl Scenario {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        Protocol::ALL.iter().flat_map(|&protocol| {
            Operation::all(protocol).map(move |operation| Self {
                protocol,
                operation,
            })
        })
    }
}

impl std::fmt::Display for Scenario {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let operation = self.operation.to_possible_value();
        let operation = operation.as_ref().map_or("?", |value| value.get_name());
        write!(f, "{operation} in {}", self.protocol)
    }
}

/// A directory with a lock in it. Removed when dropped.
#[derive(Debug)]
pub struct Fixture {
    /// What happens in it.
    pub scenario: Scenario,
    program: PathBuf,
    root: tempfile::TempDir,
}

impl Fixture {
    /// Sets it up. `program` is the one that runs subjects.
    pub fn new(program: &Path, scenario: Scenario) -> anyhow::Result<Self> {
        let fixture = Self {
            scenario,
            program: program.to_owned(),
            root: tempfile::tempdir()?,
        };
        fs::create_dir(fixture.dir())?;
        let exists = scenario.operation != Operation::Open;
        if exists && !scenario.protocol.is_existence_lock() {
            fs::write(fixture.path(), CONTENT)?;
        }
        if scenario.protocol == Protocol::Sqlite && exists {
            // Creates the table, which every lock but the very first finds.
            fixture.next(STUCK)?;
        }
        if scenario.operation == Operation::TakeOver {
            fixture.abandon()?;
        }
        Ok(fixture)
    }

    /// The directory of the lock.
    pub fn dir(&self) -> PathBuf {
        self.root.path().join("locks")
    }

    /// The path of the lock.
    pub fn path(&self) -> PathBuf {
        self.dir().join("lock")
    }

    /// The file to which `strace` writes the calls of a subject.
    pub fn log(&self) -> PathBuf {
        self.root.path().join("strace")
    }

    fn complaints(&self) -> PathBuf {
        self.root.path().join("complaints")
    }

    /// What all subjects have written to standard error.
    pub fn complained(&self) -> io::Result<String> {
        fs::read_to_string(self.complaints())
    }

    fn options(&self) -> Options {
        options(
            self.scenario.operation,
            self.scenario.protocol,
            &self.path(),
        )
    }

    /// Acquires the lock within `timeout`, as another process would.
    pub fn acquire(&self, timeout: Duration) -> Result<Guard, locket::Error> {
        let lock = Engine::new().open_with(self.path(), &self.options())?;
        lock.acquire(Mode::Exclusive, timeout)
    }

    /// Whether the lock is held for at least as long as `patience`, found out by acquiring it.
    pub fn is_held(&self, patience: Duration) -> Result<bool, locket::Error> {
        match self.acquire(patience) {
            Ok(guard) => guard.release().map(|()| false),
            Err(e) if e.is_would_block() || e.is_timeout() => Ok(true),
            Err(e) => Err(e),
        }
    }

    /// Acquires the lock as the next owner and releases it; returns how long the acquire took.
    pub fn next(&self, timeout: Duration) -> Result<Duration, locket::Error> {
        let start = Instant::now();
        let guard = self.acquire(timeout)?;
        let took = start.elapsed();
        guard.release().map(|()| took)
    }

    /// Leaves the lock behind, held by a process that was killed.
    pub fn abandon(&self) -> anyhow::Result<()> {
        let mut holder = self.start(Operation::Acquire, None)?;
        holder.proceed()?;
        let () = holder.receive(STUCK)?.context("the holder died")?;
        let done: Done = holder.receive(STUCK)?.context("the holder died")?;
        ensure!(done.result.is_ok(), "{done:?}");
        holder.kill()?;
        holder.end()?;
        Ok(())
    }

    /// Starts a subject, which waits until it may proceed.
    pub fn subject(&self, fault: Option<Fault>) -> anyhow::Result<SubjectProcess> {
        self.start(self.scenario.operation, fault)
    }

    fn start(&self, operation: Operation, fault: Option<Fault>) -> anyhow::Result<SubjectProcess> {
        let (ours, theirs) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        let complaints = fs::File::options()
            .append(true)
            .create(true)
            .open(self.complaints())?;
        let value = |value: Option<clap::builder::PossibleValue>| {
            let value = value.map(|value| value.get_name().to_owned());
            value.context("a value without a name")
        };
        let mut command = Command::new(&self.program);
        command.arg("subject");
        command.arg(value(operation.to_possible_value())?);
        command.arg(self.scenario.protocol.name()).arg(self.path());
        if let Some(fault) = fault {
            command.args(["--fault", &value(fault.to_possible_value())?]);
        }
        let child = command
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .stderr(complaints)
            .spawn()?;
        // The command still has the subject's end of the socket. While it is open, a message to a dead
        // subject would not fail.
        drop(command);
        let mut subject = SubjectProcess {
            child,
            socket: ours,
        };
        let ready = subject.receive::<()>(STUCK)?;
        ensure!(
            ready.is_some(),
            "the subject did not start: {}",
            self.complained()?
        );
        Ok(subject)
    }

    /// What is in the directory beside the lock file or the database.
    pub fn litter(&self) -> io::Result<Vec<String>> {
        let own = match self.scenario.protocol {
            Protocol::Sqlite => "database",
            protocol if protocol.is_existence_lock() => "",
            _ => "lock",
        };
        let names = fs::read_dir(self.dir())?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        let names = names.collect::<io::Result<Vec<_>>>()?;
        Ok(names.into_iter().filter(|name| name != own).collect())
    }

    /// The content of the lock file, if there is one.
    pub fn content(&self) -> io::Result<Option<String>> {
        match fs::read_to_string(self.path()) {
            Ok(content) => Ok(Some(content)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }
}

/// A process that runs an operation. Killed when dropped.
#[derive(Debug)]
pub struct SubjectProcess {
    child: Child,
    socket: OwnedFd,
}

impl SubjectProcess {
    /// Traces its calls from now on.
    pub fn trace(&self, injection: Option<&Injection>, log: &Path) -> anyhow::Result<Strace> {
        Strace::attach(self.child.id(), injection, log)
    }

    /// Lets it proceed.
    pub fn proceed(&self) -> anyhow::Result<()> {
        send_to(&self.socket, &())
    }

    /// Its next message; none if it died.
    ///
    /// # Errors
    ///
    /// No message within `limit`.
    pub fn receive<T: DeserializeOwned>(&mut self, limit: Duration) -> anyhow::Result<Option<T>> {
        ensure!(self.has_spoken(limit)?, "nothing was heard in {limit:?}");
        let mut buffer = vec![0; 1 << 16];
        let length = match recv(&self.socket, &mut buffer, RecvFlags::empty()) {
            Ok((length, _)) => length,
            Err(rustix::io::Errno::CONNRESET) => 0,
            Err(e) => return Err(e.into()),
        };
        let message = &buffer[..length];
        if message.is_empty() {
            return Ok(None);
        }
        Ok(Some(serde_json::from_slice(message)?))
    }

    /// Whether within `limit` there is a message from it, or it has died.
    fn has_spoken(&self, limit: Duration) -> anyhow::Result<bool> {
        let limit = Timespec::try_from(limit)?;
        let mut sockets = [PollFd::new(&self.socket, PollFlags::IN)];
        Ok(poll(&mut sockets, Some(&limit))? > 0)
    }

    /// Waits until it sleeps within its operation, has sent a message, or has died.
    pub fn await_sleep(&self) -> anyhow::Result<()> {
        let start = Instant::now();
        while !self.has_spoken(Duration::ZERO)? {
            let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
            let state = stat
                .rsplit_once(") ")
                .and_then(|(_, rest)| rest.chars().next());
            // A process that its tracer has stopped is in another state.
            if state == Some('S') || start.elapsed() > STUCK {
                break;
            }
            thread::sleep(Duration::from_micros(200));
        }
        Ok(())
    }

    /// Waits for its end.
    pub fn end(&mut self) -> io::Result<ExitStatus> {
        self.child.wait()
    }

    /// Kills it. It has not ended yet when this returns.
    pub fn kill(&mut self) -> io::Result<()> {
        self.child.kill()
    }
}

impl Drop for SubjectProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn send_to(socket: &OwnedFd, message: &impl Serialize) -> anyhow::Result<()> {
    let message = serde_json::to_vec(message)?;
    match send(socket, &message, SendFlags::NOSIGNAL) {
        // If it is dead, the next receive shows that.
        Ok(_) | Err(rustix::io::Errno::PIPE | rustix::io::Errno::CONNRESET) => Ok(()),
        Err(e) => Err(e.into()),
    }
}
