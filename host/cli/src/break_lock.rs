//! `locket break`: removes a lock that was left behind.

use std::path::PathBuf;

use clap::Args;
use locket::{Engine, Error, Protocol};

use crate::args::ProtocolArgs;
use crate::exit::{self, ExitError};
use crate::output::{eprint_line, shown_path};
#[cfg(feature = "remote")]
use crate::remote::{self, RemoteArgs};

const PROTOCOL: &str = "\
Break only a lock of this protocol [default: any protocol whose locks reliably name their holder, that \
is, all except `pid-file` and `sqlite`]";

/// Break an existence lock: take it away from its holder.
///
/// Existence locks stay when their holder dies. If the holder has provably died, the next waiter
/// takes the lock over, and no command is needed. Use this command if you know that no program relies
/// on the lock any more but Locket cannot prove it. If a holder still exists and uses Locket, it
/// learns that it has lost the lock. Kernel locks (native, flock, fcntl) are never left behind and
/// cannot be broken.
#[derive(Args, Debug)]
#[command(
    after_help = "\
Examples:
  locket break app                   break any lock that names its holder: app.lock, or app itself
  locket break --protocol link app   break app.lock even if it does not name its holder

Exit status:
  0 the lock was broken, 1 the lock is not held, 66 PATH or PATH.lock exists but is not a lock,
  69 a kernel lock is held, or the server is away or refuses the user, 71 the system fails",
    mut_arg("protocol", |arg| arg.help(PROTOCOL))
)]
pub(crate) struct Break {
    #[command(flatten)]
    locking: ProtocolArgs,

    #[cfg(feature = "remote")]
    #[command(flatten)]
    remote: RemoteArgs,

    /// Locked file, for example app
    path: PathBuf,
}

impl Break {
    pub(crate) fn run(self) -> anyhow::Result<u8> {
        #[cfg(feature = "remote")]
        if let Some(remote) = self.remote.connect()? {
            let lock = remote::open(&Engine::new(), &remote, &self.path)?;
            let name = shown_path(&self.path);
            return match lock.break_lock() {
                Ok(()) => {
                    eprint_line(format_args!("broke the lock `{name}` of the server"));
                    Ok(0)
                }
                Err(e) if e.is_not_locked() => {
                    eprint_line(format_args!("`{name}` is not locked"));
                    Ok(exit::FAILURE)
                }
                Err(e) => Err(remote::error(&e).into()),
            };
        }
        match self.break_lock() {
            Ok(protocol) => {
                eprint_line(format_args!(
                    "broke the {protocol} lock of `{}`",
                    shown_path(&self.path)
                ));
                Ok(0)
            }
            Err(e) if e.is_not_locked() => {
                let hint = if self.locking.protocol.is_none() {
                    " (no lock that names its holder; use `--protocol` for one that does not)"
                } else {
                    ""
                };
                eprint_line(format_args!(
                    "`{}` is not locked{hint}",
                    shown_path(&self.path)
                ));
                Ok(exit::FAILURE)
            }
            Err(e) if e.is_unsupported() && !self.is_of_existence() => {
                let path = shown_path(&self.path);
                eprint_line(format_args!(
                    "cannot break the kernel lock of `{path}`, which lasts until its holder ends; \
                     `locket status {path}` shows the holder"
                ));
                Ok(exit::UNAVAILABLE)
            }
            Err(e) => Err(ExitError::from_lock(&e, exit::SYSTEM).into()),
        }
    }

    /// Whether the user chose a protocol whose locks can be broken, which this build or system may lack.
    fn is_of_existence(&self) -> bool {
        let protocol = self.locking.protocol;
        protocol.is_some_and(Protocol::is_existence_lock)
    }

    fn break_lock(&self) -> Result<Protocol, Error> {
        let engine = Engine::new();
        let Some(protocol) = self.locking.protocol else {
            return engine.break_lock(&self.path);
        };
        let options = self.locking.options(protocol).create(false);
        let lock = engine.open_with(&self.path, &options)?;
        lock.break_lock().map(|()| protocol)
    }
}
