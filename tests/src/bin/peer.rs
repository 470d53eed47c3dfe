//! A native process that holds locks as its standard input tells it: the program of
//! [`locket_test_support::dialogue`].
//!
//! `peer PATH [--protocol P] [--database PATH] [--remove] [--pinned] [--threaded]` has one lock,
//! which its commands do not name. If it cannot be opened, the program says `err KIND MESSAGE`
//! and ends. Without PATH, its commands open locks.

use std::io::{BufRead, Write};
use std::path::PathBuf;

use clap::Parser;
use locket::{Engine, OnRelease, Options, Owner, Protocol};
use locket_test_support::dialogue::{Session, kind};

/// Holds and releases locks as each line of its input says.
#[derive(Parser)]
struct Args {
    path: Option<PathBuf>,
    #[arg(long, default_value = "native")]
    protocol: Protocol,
    #[arg(long)]
    remove: bool,
    #[arg(long)]
    pinned: bool,
    #[arg(long)]
    threaded: bool,
    #[arg(long)]
    database: Option<PathBuf>,
}

impl Args {
    fn options(&self) -> Options {
        let on_release = match self.remove {
            true => OnRelease::Remove,
            false => OnRelease::Keep,
        };
        let options = Options::new()
            .protocol(self.protocol)
            .on_release(on_release)
            .skip_identity_check(self.pinned)
            .owner(if self.threaded {
                Owner::Thread
            } else {
                Owner::Process
            });
        match &self.database {
            Some(database) => options.database(database),
            None => options,
        }
    }
}

fn main() -> std::io::Result<()> {
    let args = Args::parse();
    let (engine, options) = (Engine::new(), args.options());
    let mut session = match args.path {
        None => Session::new(engine, options),
        Some(path) => match engine.open_with(&path, &options) {
            Ok(lock) => Session::with_lock(engine, options, lock),
            Err(e) => {
                println!("err {} {e}", kind(&e));
                return Ok(());
            }
        },
    };
    for command in std::io::stdin().lock().lines() {
        println!("{}", session.obey(&command?));
        std::io::stdout().flush()?;
    }
    Ok(())
}
