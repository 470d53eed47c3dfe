//! `locket break`: removes a lock that was left behind.

use std::path::{Path, PathBuf};

use clap::Args;
use locket::{Engine, Error, Options, Protocol};

use super::{exit, lock_error, protocol, say};

/// Break an existence lock: take it away from its holder.
///
/// Existence locks stay when their holder dies. If the holder has provably died, the next waiter
/// takes the lock over, and no command is needed. Use this command if you know that nobody relies
/// on the lock any more but Locket cannot prove it. If a holder still exists and uses Locket, it
/// learns that it has lost the lock. Kernel locks (native, flock, fcntl) are never left behind and
/// cannot be broken.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  locket break app                   break any lock that names its holder: app.lock, or app itself
  locket break --protocol link app   break app.lock even if it does not name its holder

Exit status:
  0 the lock was broken, 1 the lock is not held, 66 PATH or PATH.lock exists but is not a lock,
  69 a kernel lock is held")]
pub(crate) struct Break {
    /// Break only a lock of this protocol [default: any protocol whose locks reliably name their
    /// holder, that is, all except `pid-file` and `sqlite`]
    #[arg(long, value_name = "PROTOCOL", value_parser = protocol())]
    protocol: Option<Protocol>,

    /// Database that contains the lock, for `--protocol sqlite`
    #[arg(long, value_name = "FILE")]
    database: Option<PathBuf>,

    /// Locked file, for example app
    path: PathBuf,
}

impl Break {
    pub(crate) fn run(self) -> anyhow::Result<u8> {
        match self.break_lock() {
            Ok(protocol) => {
                say(format_args!(
                    "broke the {protocol} lock of `{}`",
                    self.path.display()
                ));
                Ok(0)
            }
            Err(e) if e.is_not_locked() => {
                let hint = if self.protocol.is_none() {
                    " (no lock that names its holder; use `--protocol` for one that does not)"
                } else {
                    ""
                };
                say(format_args!(
                    "`{}` is not locked{hint}",
                    self.path.display()
                ));
                Ok(exit::FAILURE)
            }
            Err(e) if e.is_unsupported() => {
                let path = self.path.display();
                say(format_args!(
                    "cannot break the kernel lock of `{path}`, which lasts until its holder ends; \
                     `locket status {path}` shows the holder"
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
