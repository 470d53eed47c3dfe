//! Increments the number in a file in each round, while it holds a lock.
//!
//! `--lock PATH --counter PATH --journal PATH --count N --id NAME
//! [--timeout-ms N] [--unlocked]`
//!
//! Each round reads the number, overwrites it with the number plus one, and appends
//! the name of this participant to the journal. These three steps lose counts and
//! mix up lines unless the lock excludes all other participants.

use locket_guest::{LockFile, Mode};
use std::error::Error;
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::process::ExitCode;
use std::time::Duration;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

struct Args {
    lock: String,
    counter: String,
    journal: String,
    count: u64,
    id: String,
    timeout: Option<Duration>,
    unlocked: bool,
}

impl Args {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Self> {
        let (mut lock, mut counter, mut journal) = (None, None, None);
        let (mut count, mut id) = (None, None);
        let (mut timeout, mut unlocked) = (None, false);
        while let Some(name) = args.next() {
            let mut value = || args.next().ok_or(format!("{name} needs a value"));
            match name.as_str() {
                "--lock" => lock = Some(value()?),
                "--counter" => counter = Some(value()?),
                "--journal" => journal = Some(value()?),
                "--count" => count = Some(number(&value()?)?),
                "--id" => id = Some(value()?),
                "--timeout-ms" => timeout = Some(Duration::from_millis(number(&value()?)?)),
                "--unlocked" => unlocked = true,
                _ => return Err(format!("unknown argument {name}").into()),
            }
        }
        Ok(Self {
            lock: lock.ok_or("--lock is missing")?,
            counter: counter.ok_or("--counter is missing")?,
            journal: journal.ok_or("--journal is missing")?,
            count: count.ok_or("--count is missing")?,
            id: id.ok_or("--id is missing")?,
            timeout,
            unlocked,
        })
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("counter: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let args = Args::parse(std::env::args().skip(1))?;
    if args.unlocked {
        for _ in 0..args.count {
            step(&args)?;
        }
        return Ok(());
    }
    let lock = LockFile::open(&args.lock)?;
    for _ in 0..args.count {
        let guard = lock.acquire(Mode::Exclusive, args.timeout)?;
        step(&args)?;
        guard.release()?;
    }
    Ok(())
}

fn step(args: &Args) -> Result<()> {
    let counted = match fs::read_to_string(&args.counter) {
        Ok(text) if text.trim().is_empty() => 0,
        Ok(text) => number(text.trim())?,
        Err(error) if error.kind() == ErrorKind::NotFound => 0,
        Err(error) => return Err(format!("{}: {error}", args.counter).into()),
    };
    // Overwrite the old number, which is never longer: if this guest is killed here, the file
    // still contains a number.
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&args.counter)
        .and_then(|mut counter| counter.write_all((counted + 1).to_string().as_bytes()))
        .map_err(|error| format!("{}: {error}", args.counter))?;
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(&args.journal)
        .and_then(|mut journal| journal.write_all(format!("{}\n", args.id).as_bytes()))
        .map_err(|error| format!("{}: {error}", args.journal))?;
    Ok(())
}

fn number(text: &str) -> Result<u64> {
    text.parse()
        .map_err(|_| format!("not a number: {text:?}").into())
}
