//! The end of a remote, and its refusal in a forked child.

use std::io;
use std::sync::Arc;

use super::core::Core;
use crate::remote::Origin;

/// What the remote and its seats own. When the last of them is dropped, the lease is given back.
pub(super) struct Shared {
    /// Always there, but in `drop`.
    core: Option<Arc<Core>>,
    origin: Origin,
}

impl Shared {
    pub(super) fn new(core: Core) -> Self {
        Self {
            core: Some(Arc::new(core)),
            origin: Origin::current(),
        }
    }

    /// Fails in a forked child, which has neither the thread nor the right to the connections.
    pub(super) fn core(&self) -> io::Result<&Arc<Core>> {
        self.origin.refuse_forked()?;
        Ok(self.core.as_ref().expect("it is there until the drop"))
    }

    pub(super) fn is_forked(&self) -> bool {
        self.origin.is_forked()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let core = self.core.take();
        if self.is_forked() {
            // The parent's, down to the mutexes that another thread may have held at the fork.
            std::mem::forget(core);
        } else if let Some(core) = core {
            core.end();
        }
    }
}
