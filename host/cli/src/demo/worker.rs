//! A native participant of the demo. It performs the same steps as the component.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use locket::{Engine, Mode, Options, Protocol};

use crate::args::protocol;
use crate::exit::{self, ExitError};

/// A native participant of the demo.
#[derive(Args, Debug)]
pub(crate) struct Worker {
    #[arg(long)]
    lock: PathBuf,
    #[arg(long)]
    counter: PathBuf,
    #[arg(long)]
    journal: PathBuf,
    #[arg(long)]
    count: u32,
    #[arg(long)]
    id: String,
    #[arg(long)]
    unlocked: bool,
    #[arg(long, value_parser = protocol(), default_value = "native")]
    protocol: Protocol,
}

impl Worker {
    pub(crate) fn run(self) -> anyhow::Result<u8> {
        // The input ends when all participants are ready, so that they start together.
        io::copy(&mut io::stdin(), &mut io::sink())?;
        if self.unlocked {
            (0..self.count).try_for_each(|_| self.increment())?;
            return Ok(0);
        }
        let options = Options::new().protocol(self.protocol);
        let failed = |e| ExitError::from_lock(&e, exit::FAILURE);
        let lock = Engine::new()
            .open_with(&self.lock, &options)
            .map_err(failed)?;
        for _ in 0..self.count {
            let guard = lock.acquire(Mode::Exclusive, None).map_err(failed)?;
            self.increment()?;
            guard.release().map_err(failed)?;
        }
        Ok(0)
    }

    fn increment(&self) -> anyhow::Result<()> {
        let number = read_number(&self.counter)?;
        fs::write(&self.counter, (number + 1).to_string())?;
        let mut journal = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.journal)?;
        journal.write_all(format!("{}\n", self.id).as_bytes())?;
        Ok(())
    }
}

/// The number in a file; 0 if the file is missing or empty.
pub(super) fn read_number(path: &Path) -> anyhow::Result<u64> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => String::new(),
        Err(e) => return Err(e.into()),
    };
    match text.as_str() {
        "" => Ok(0),
        text => text
            .parse()
            .with_context(|| format!("not a number: {text:?}")),
    }
}
