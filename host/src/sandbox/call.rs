//! Calls of one guest to another, which the engine cannot see.

use std::path::Path;
use std::sync::Arc;

use super::Sandbox;
use super::quota::Guest;
use crate::deadlock::Suspension;
use crate::error::{Error, ErrorKind, Result};

impl Sandbox {
    /// Declares that this guest waits for the end of a call to `callee`, and does nothing else until
    /// the result is dropped. A guest that would wait for a lock of this one meanwhile, directly or
    /// through others, gets [deadlock](Error::is_deadlock).
    ///
    /// Only for a guest that is suspended by the call. One whose other tasks continue, as those of
    /// WASI 0.3 can, may release what it holds.
    ///
    /// ```
    /// # use locket::sandbox::{Rights, Sandbox};
    /// # use locket::{Engine, Mode, OnRelease};
    /// # let dir = tempfile::tempdir()?;
    /// # let engine = Engine::new();
    /// # let guest = || Ok::<_, std::io::Error>(Sandbox::builder(&engine)
    /// #     .grant_dir(dir.path(), "/data", Rights::LOCKS)?
    /// #     .build());
    /// let (caller, callee) = (guest()?, guest()?);
    /// let _held = caller.open("/data/db", None, OnRelease::Keep)?.acquire(Mode::Exclusive, None)?;
    ///
    /// let call = caller.calls(&callee)?;
    /// let lock = callee.open("/data/db", None, OnRelease::Keep)?;
    /// assert!(lock.acquire(Mode::Exclusive, None).unwrap_err().is_deadlock());
    /// drop(call);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [Deadlock](Error::is_deadlock) if the callee already waits for a lock of this guest.
    pub fn calls(&self, callee: &Self) -> Result<Call> {
        let guest = &self.guest;
        guest.engine.refuse_forked(Path::new(""))?;
        let knows = guest.is_sole_owner() && callee.guest.is_sole_owner();
        let suspension = Suspension::Call(callee.guest.client.owner);
        if knows && !guest.engine.suspend(guest.client.owner, suspension.clone()) {
            return Err(Error::new(
                ErrorKind::Deadlock,
                Path::new("a call of another guest"),
            ));
        }
        Ok(Call {
            caller: Arc::clone(guest),
            suspension: knows.then_some(suspension),
        })
    }
}

/// A call of one guest to another that is in progress, as declared by [`Sandbox::calls`]. It is over
/// when this is dropped.
#[derive(Debug)]
#[must_use = "the call counts as over as soon as this is dropped"]
pub struct Call {
    caller: Arc<Guest>,
    suspension: Option<Suspension>,
}

impl Drop for Call {
    fn drop(&mut self) {
        if let Some(suspension) = &self.suspension
            && !self.caller.is_forked()
        {
            self.caller
                .engine
                .resume(self.caller.client.owner, suspension);
        }
    }
}
