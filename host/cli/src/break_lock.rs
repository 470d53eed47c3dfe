//! `locket break`: takes a lock away that somebody left behind.

use std::path::{Path, PathBuf};

use clap::Args;
use locket::{Engine, Error, Options, Protocol};

use super::{exit, lock_error, protocol, say};

/// Take a lock away from whoever holds it.
///
/// For locks that stay when their holder dies. One whose holder is proven dead is taken over by the
/// next who wants it; this is for one of which only you know that nobody relies on it any more. Its
/// holder, if there is one that uses Locket, learns that the lock is lost. Locks of the kernel
/// (native, flock, fcntl) are never left behind, and cannot be broken.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  locket break app                       whatever lock names its holder: app.lock, or app itself
  locket break --protocol link app       the lock app.lock, even if it does not tell whose it is

Exit status: 0, 1 nobody holds it, 66 what is there is no lock, 69 a lock of the kernel is held")]
pub(crate) struct Break {
    /// The protocol of the lock; by default every one in which the lock says beyond doubt who
    /// holds it, which is neither `pid-file` nor `sqlite`
    #[arg(long, value_name = "PROTOCOL", value_parser = protocol())]
    protocol: Option<Protocol>,

    /// The database in which the lock is a row, for `--protocol sqlite`
    #[arg(long, value_name = "FILE")]
    database: Option<PathBuf>,

    /// The file that was locked, for example app
    path: PathBuf,
}

impl Break {
    pub(crate) fn run(self) -> anyhow::Result<u8> {
        match self.break_lock() {
            Ok(protocol) => {
                say(format_args!(
                    "the {protocol} lock of `{}` is broken",
                    self.path.display()
                ));
                Ok(0)
            }
            Err(e) if e.is_not_locked() => {
                let hint = if self.protocol.is_none() {
                    " that says who holds it; `--protocol` looks for one that does not"
                } else {
                    ""
                };
                say(format_args!(
                    "there is no lock of `{}`{hint}",
                    self.path.display()
                ));
                Ok(exit::FAILURE)
            }
            Err(e) if e.is_unsupported() => {
                let path = self.path.display();
                say(format_args!(
                    "the kernel keeps the lock of `{path}` until its holder ends; \
                     `locket status {path}` tells who that is"
                ));
                Ok(exit::UNAVAILABLE)
            }
            Err(e) => Err(lock_error(&e, exit::FAILURE)),
        }
    }

    fn break_lock(&self) -> Result<Protocol, Error> {
        let engine = Engine::new();
        let path: &Path = &self.path;
        let Some(protocol) = self.protocol else {
            return engine.break_lock(path);
        };
        let mut options = Options::new().create(false).protocol(protocol);
        if let Some(database) = &self.database {
            options = options.database(database);
        }
        match engine.open_with(path, &options) {
            Ok(lock) => lock.break_lock().map(|()| protocol),
            Err(e) => Err(e),
        }
    }
}
