//! A native participant of the demo. It performs the same steps as the component.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use locket::{Engine, LockFile, Mode, Options, Protocol};
use rusqlite::TransactionBehavior;

use super::table::{open, read_number};
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
    #[cfg(feature = "remote")]
    #[arg(long)]
    remote: Option<String>,
}

impl Worker {
    pub(crate) fn run(self) -> anyhow::Result<u8> {
        // The input ends when all participants are ready, so that they start together.
        io::copy(&mut io::stdin(), &mut io::sink())?;
        if self.unlocked {
            (0..self.count).try_for_each(|_| self.increment())?;
            return Ok(0);
        }
        let failed = |e| ExitError::from_lock(&e, exit::FAILURE);
        let lock = self.open()?;
        for _ in 0..self.count {
            let guard = lock.acquire(Mode::Exclusive, None).map_err(failed)?;
            self.increment()?;
            guard.release().map_err(failed)?;
        }
        Ok(0)
    }

    fn open(&self) -> Result<LockFile, ExitError> {
        let engine = Engine::new();
        #[cfg(feature = "remote")]
        if let Some(url) = &self.remote {
            let remote = crate::remote::connect(url, None)?;
            return crate::remote::open(&engine, &remote, &self.lock);
        }
        let options = Options::new().protocol(self.protocol);
        let lock = engine.open_with(&self.lock, &options);
        lock.map_err(|e| ExitError::from_lock(&e, exit::FAILURE))
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

/// A native participant that counts in a database, on SQLite's own VFS.
#[derive(Args, Debug)]
pub(crate) struct DatabaseWorker {
    database: PathBuf,
    count: u32,
    id: String,
}

impl DatabaseWorker {
    pub(crate) fn run(self) -> anyhow::Result<u8> {
        let mut db = open(&self.database)?;
        io::copy(&mut io::stdin(), &mut io::sink())?;
        for _ in 0..self.count {
            let turn = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
            turn.execute("update counter set n = n + 1", ())?;
            turn.execute("insert into turns(name) values (?1)", [&self.id])?;
            turn.commit()?;
        }
        Ok(0)
    }
}
