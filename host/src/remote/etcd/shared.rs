//! The end of a remote, and its refusal in a forked child.

use std::io;
use std::sync::Arc;

use super::core::Core;

/// What the remote and its seats own. When the last of them is dropped, the lease is given back.
pub(super) struct Shared {
    /// Always there, but in `drop`.
    core: Option<Arc<Core>>,
    process: u32,
}

impl Shared {
    pub(super) fn new(core: Core) -> Self {
        Self {
            core: Some(Arc::new(core)),
            process: std::process::id(),
        }
    }

    /// Fails in a forked child, which has neither the thread nor the right to the connections.
    pub(super) fn core(&self) -> io::Result<&Arc<Core>> {
        let own = self.core.as_ref().filter(|_| !self.is_forked());
        own.ok_or_else(|| io::Error::other("a forked child cannot use the remote of its parent"))
    }

    pub(super) fn is_forked(&self) -> bool {
        self.process != std::process::id()
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
