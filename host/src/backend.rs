//! How a lock is kept.
//!
//! Each protocol has a file of its own below this module and one line in the table of
//! [`Protocol::backend`]. A backend knows neither queues nor owners: when the queue calls it, at
//! most one thread of this engine waits for the lock, and no owner in it holds the lock.
//!
//! There are two kinds. Kernel locks belong to an open file: waiters wait in the kernel, and the
//! lock is free once its holder is dead. An existence lock is a directory entry or a row that its
//! holder creates: waiters watch the directory, and the lock remains when its holder dies.
//! [`existence`] has what those in directories have in common.

mod api;
mod existence;
mod fcntl;
#[cfg(unix)]
mod flock;
#[cfg(not(all(feature = "sqlite", feature = "remote")))]
mod missing;
#[cfg(target_os = "linux")]
mod native;
#[cfg(feature = "remote")]
mod remote;
#[cfg(feature = "sqlite")]
mod sqlite;

pub(crate) use api::{Backend, Request, is_out_of_reach};
#[cfg(feature = "sandbox")]
pub(crate) use existence::is_reserved;

use std::io;

use crate::protocol::Protocol;
use crate::types::Mode;

impl Protocol {
    /// The implementation of this protocol.
    pub(crate) fn backend(self) -> &'static dyn Backend {
        use existence::{
            link::Link, mkdir::Mkdir, pid_file::PidFile, soft::Soft, symlink::Symlink,
        };
        match self {
            #[cfg(target_os = "linux")]
            Self::Native => &native::Native,
            #[cfg(not(target_os = "linux"))]
            Self::Native => &fcntl::Fcntl,
            #[cfg(unix)]
            Self::Flock => &flock::Flock,
            #[cfg(windows)]
            Self::Flock => &fcntl::Fcntl,
            Self::Fcntl => &fcntl::Fcntl,
            Self::Link => &Link,
            Self::Symlink => &Symlink,
            Self::Mkdir => &Mkdir,
            Self::PidFile => &PidFile,
            Self::Soft => &Soft,
            #[cfg(feature = "sqlite")]
            Self::Sqlite => &sqlite::Sqlite,
            #[cfg(not(feature = "sqlite"))]
            Self::Sqlite => &missing::Missing,
            #[cfg(feature = "remote")]
            Self::Remote => &remote::OnServer,
            #[cfg(not(feature = "remote"))]
            Self::Remote => &missing::Missing,
        }
    }
}

impl Request {
    /// Refuses to share an existence lock, which is never granted, whether it is held or free.
    pub(crate) fn refuse_sharing(self) -> io::Result<()> {
        if self.mode == Mode::Shared && self.protocol.is_existence_lock() {
            let why = "this protocol has no shared mode";
            return Err(io::Error::new(io::ErrorKind::Unsupported, why));
        }
        Ok(())
    }

    /// Whether it needs a descriptor that is open for writing.
    pub(crate) fn needs_write(self) -> bool {
        self.mode == Mode::Exclusive && self.protocol.backend().needs_write()
    }
}
