//! The calls in progress: whose they are, and a handle on the guest of each.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use locket_wasmtime::LocketCtx;
use tokio::sync::watch;

/// A call in progress.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// The name of the tenant.
    pub(crate) tenant: String,
    /// The version of the plugin that it is a call of.
    pub(crate) version: u64,
    /// When it began.
    pub(crate) since: Instant,
    /// A handle on the guest, which works while that runs or waits.
    pub(crate) guest: LocketCtx,
}

/// All calls in progress, by number.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    last: AtomicU64,
    running: watch::Sender<BTreeMap<u64, Call>>,
}

/// A call that is listed until this is dropped.
pub(crate) struct Entry<'a> {
    calls: &'a Calls,
    number: u64,
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        self.calls.running.send_modify(|running| {
            running.remove(&self.number);
        });
    }
}

impl Calls {
    /// A number for a new call.
    pub(crate) fn number(&self) -> u64 {
        self.last.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Lists a call.
    pub(crate) fn enter(&self, number: u64, call: Call) -> Entry<'_> {
        self.running.send_modify(|running| {
            running.insert(number, call);
        });
        Entry {
            calls: self,
            number,
        }
    }

    /// The calls in progress now.
    pub(crate) fn list(&self) -> BTreeMap<u64, Call> {
        self.running.borrow().clone()
    }

    /// Waits until no call in progress is one that `concerns`.
    pub(crate) async fn end(&self, concerns: impl Fn(&Call) -> bool) {
        let none = |running: &BTreeMap<u64, Call>| !running.values().any(&concerns);
        // Fails only if the sender is gone, and with it all calls.
        let _ = self.running.subscribe().wait_for(none).await;
    }
}
