//! A process that runs one operation on a lock and reports what it sees.
//!
//! It is this program, started with a hidden command. Its standard input is a socket to the process that
//! started it. Between the message that lets it proceed and its answer it makes only the system calls of
//! the operation, so that these can be counted and made to fail, and the process killed at one.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use locket::{Engine, Error, Guard, LockFile, Mode, Protocol, State};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use rustix::process::{PTracer, Signal, set_parent_process_death_signal, set_ptracer};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::faults::answer::{After, Answer, Done, Failure, OwnState, Resources};
use crate::faults::operation::{Operation, options};

/// Which operation on which lock.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// What to do
    pub operation: Operation,
    /// The protocol of the lock
    pub protocol: Protocol,
    /// The path of the lock
    pub path: PathBuf,
    /// A promise to break, to test that this is noticed
    #[arg(long)]
    pub fault: Option<Fault>,
}

/// A promise that the subject breaks.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Fault {
    /// Reports that the acquire failed, and holds the lock.
    Hold,
    /// Reports that it holds the lock, and does not.
    Pretend,
    /// Leaves a descriptor open.
    Descriptor,
    /// Leaves a thread behind.
    Thread,
    /// Never answers.
    Hang,
    /// Panics.
    Panic,
}

/// The timeout of a wait that is granted.
const GRANTED: Duration = Duration::from_secs(5);

/// The timeout of a wait that is not.
const IN_VAIN: Duration = Duration::from_millis(15);

/// How long idle threads may take to end; they stay a second for more work.
const ENDED: Duration = Duration::from_secs(5);

/// What the process has open; closed in this order.
struct Subject {
    args: Args,
    guard: Option<Guard>,
    lock: Option<LockFile>,
    engine: Engine,
}

/// Runs the process.
pub fn main(args: Args) -> ExitCode {
    let run = || -> anyhow::Result<()> {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // The tracer is not always an ancestor.
        if let Err(e) = set_ptracer(PTracer::Any) {
            // The kernel does not restrict tracing.
            anyhow::ensure!(e == Errno::INVAL, "{e}");
        }
        let before = resources()?;
        let mut subject = Subject::prepare(args)?;
        send_reply(&())?;
        let () = receive()?;
        send_reply(&())?;
        let result = subject.operate();
        let done = subject.done(result);
        send_reply(&done)?;
        let () = receive()?;
        let again = subject.again();
        send_reply(&After {
            again: again.map_err(|error| Failure::from(&error)),
            after: settle(&before)?,
            before,
        })
    };
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("{e:#}");
            ExitCode::FAILURE
        }
    }
}

impl Subject {
    fn prepare(args: Args) -> Result<Self, Error> {
        let mut subject = Self {
            engine: Engine::new(),
            lock: None,
            guard: None,
            args,
        };
        if subject.args.operation != Operation::Open {
            subject.open()?;
        }
        if let Operation::Release | Operation::Remove = subject.args.operation {
            subject.acquire(Mode::Exclusive, Duration::ZERO)?;
        }
        Ok(subject)
    }

    fn operate(&mut self) -> Result<Answer, Error> {
        match self.args.operation {
            Operation::Open => self.open()?,
            Operation::Acquire | Operation::TakeOver => {
                self.acquire(Mode::Exclusive, Duration::ZERO)?;
            }
            Operation::AcquireShared => self.acquire(Mode::Shared, Duration::ZERO)?,
            Operation::Wait => self.acquire(Mode::Exclusive, GRANTED)?,
            Operation::TimeOut => self.acquire(Mode::Exclusive, IN_VAIN)?,
            Operation::WaitAsync => self.acquire_async(GRANTED)?,
            Operation::TimeOutAsync => self.acquire_async(IN_VAIN)?,
            Operation::Release | Operation::Remove => {
                self.guard.take().expect("the lock is held").release()?;
            }
            Operation::Break => self.lock().break_lock()?,
            Operation::Holder => return Ok(Answer::IsHeld(self.lock().holder()?.is_some())),
        }
        Ok(Answer::Done)
    }

    fn done(&mut self, result: Result<Answer, Error>) -> Done {
        let mut result = result.map_err(|error| Failure::from(&error));
        match self.args.fault {
            None => {}
            Some(Fault::Hold) => {
                result = Err(Failure {
                    text: format!("cannot lock `{}`", self.args.path.display()),
                    kind: Some("io".into()),
                    path: self.args.path.clone(),
                    cause: Some("a lie".into()),
                });
            }
            Some(Fault::Pretend) => self.guard = None,
            Some(Fault::Descriptor) => {
                let file = fs::File::open("/dev/null").expect("/dev/null can be opened");
                std::mem::forget(file);
            }
            Some(Fault::Thread) => _ = thread::spawn(thread::park),
            Some(Fault::Hang) => thread::park(),
            Some(Fault::Panic) => panic!("the panic that was asked for"),
        }
        let state = match self.lock.as_ref().map(LockFile::state) {
            Some(State::Held) => OwnState::Held,
            Some(State::Lost(_)) => OwnState::Lost,
            _ => OwnState::Unlocked,
        };
        Done { result, state }
    }

    /// Acquires and releases the lock once more, and closes everything.
    fn again(mut self) -> Result<(), Error> {
        drop(self.guard.take());
        if self.lock.is_none() {
            self.open()?;
        }
        self.acquire(Mode::Exclusive, GRANTED)?;
        self.guard.take().expect("the lock is held").release()
    }

    fn open(&mut self) -> Result<(), Error> {
        let options = options(self.args.operation, self.args.protocol, &self.args.path);
        self.lock = Some(self.engine.open_with(&self.args.path, &options)?);
        Ok(())
    }

    fn lock(&self) -> &LockFile {
        self.lock.as_ref().expect("the lock is open")
    }

    fn acquire(&mut self, mode: Mode, timeout: Duration) -> Result<(), Error> {
        self.guard = Some(self.lock().acquire(mode, timeout)?);
        Ok(())
    }

    fn acquire_async(&mut self, timeout: Duration) -> Result<(), Error> {
        let acquire = self.lock().acquire_async(Mode::Exclusive, timeout);
        self.guard = Some(pollster::block_on(acquire)?);
        Ok(())
    }
}

/// The open descriptors and the threads of this process. The private file that the engine keeps for as
/// long as the process lives is left out.
fn resources() -> io::Result<Resources> {
    let mut resources = Resources::new();
    let mut count = |what: String| *resources.entry(what).or_default() += 1;
    for descriptor in fs::read_dir("/proc/self/fd")? {
        match fs::read_link(descriptor?.path()) {
            Ok(target) if target.starts_with("/memfd:locket (deleted)") => {}
            Ok(target) => count(target.display().to_string()),
            // The descriptor with which the folder is read.
            Err(_) => {}
        }
    }
    for thread in fs::read_dir("/proc/self/task")? {
        if let Ok(name) = fs::read_to_string(thread?.path().join("comm")) {
            count(format!("thread {}", name.trim_end()));
        }
    }
    Ok(resources)
}

/// Waits until this process has what it had `before`, or for long enough; returns what it has.
fn settle(before: &Resources) -> io::Result<Resources> {
    let start = Instant::now();
    loop {
        let now = resources()?;
        if now == *before || start.elapsed() > ENDED {
            return Ok(now);
        }
        thread::sleep(Duration::from_millis(100));
    }
}

/// Sends a message with a system call that no operation makes.
fn send_reply(message: &impl Serialize) -> anyhow::Result<()> {
    let message = serde_json::to_vec(message)?;
    send(io::stdin(), &message, SendFlags::empty())?;
    Ok(())
}

/// Waits for a message.
fn receive<T: DeserializeOwned>() -> anyhow::Result<T> {
    let mut buffer = vec![0; 1 << 16];
    let length = loop {
        match recv(io::stdin(), &mut buffer, RecvFlags::empty()) {
            Ok((length, _)) => break length,
            Err(Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    };
    Ok(serde_json::from_slice(&buffer[..length])?)
}
