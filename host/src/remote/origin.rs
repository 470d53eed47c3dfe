//! The process to which a remote belongs.
//!
//! A forked child has none of its threads, its mutexes may be locked by threads that do not exist
//! there, and its connections are the parent's: a byte that the child sent, or a registration that it
//! took back, would be one of the parent's. So the child is refused, and drops nothing of a remote.

use std::io;
use std::mem;
use std::sync::Arc;

use crate::sys::Process;

/// The process that made a remote.
#[derive(Debug)]
pub(crate) struct Origin(Process);

impl Origin {
    pub(crate) fn current() -> Self {
        Self(Process::current())
    }

    /// Whether the calling process is a forked child of that one.
    pub(crate) fn is_forked(&self) -> bool {
        self.0.is_parent()
    }

    /// Fails in a forked child.
    pub(crate) fn refuse_forked(&self) -> io::Result<()> {
        if self.is_forked() {
            let why = "this process was forked from the one that made the remote; make another";
            return Err(io::Error::new(io::ErrorKind::Unsupported, why));
        }
        Ok(())
    }

    /// Keeps `shared` from ever being dropped in a forked child.
    pub(crate) fn keep<T>(&self, shared: &Arc<T>) {
        if self.is_forked() {
            mem::forget(Arc::clone(shared));
        }
    }
}
