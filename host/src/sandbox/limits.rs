//! How much a guest may use.

use std::time::Duration;

/// How much a guest may use at a time. What the guest gives back no longer counts.
///
/// | limit | default | what counts | what happens beyond it |
/// |---|---|---|---|
/// | [`handles`](Self::handles) | 64 | open locks, guards, pending acquires, pollables | [limit exceeded](crate::Error::is_limit_exceeded); a pollable, which cannot fail, may go up to twice the limit, and then traps |
/// | [`held`](Self::held) | 16 | holds that are neither released nor lost | limit exceeded |
/// | [`waiters`](Self::waiters) | 16 | acquires that wait | limit exceeded, unless the lock is free |
/// | [`created`](Self::created) | 1,024 | files that the guest created and that are still there | limit exceeded; files that exist can be locked all the same |
/// | [`ranges`](Self::ranges) | 1,024 | ranges of one file that are locked, neighbors in one mode as one | limit exceeded |
/// | [`path_length`](Self::path_length) | 1,024 bytes | the path of a lock | [invalid path](crate::Error::is_invalid_path) |
/// | [`longest_wait`](Self::longest_wait) | none | the time of one acquire | [canceled](crate::Error::is_canceled) |
/// | [`longest_hold`](Self::longest_hold) | none | the time of one hold | the guest has [lost](crate::State::Lost) the lock |
///
/// They bound what the guest costs its host. A handle has one descriptor, and one more once its
/// lock was held exclusively in `native` or `fcntl`; a hold of an existence lock has one; a wait
/// has at most two and, unless other waiters of this engine are ahead of it, one thread.
///
/// A sandbox in which many tasks of WASI 0.3 run at once, as that of a warm instance does, needs
/// more of each: 100 calls that hold one lock each and wait for it need 100 waiters and 300 handles.
/// Limits for all calls of a customer are those of a [`Tenant`](super::Tenant). All waits of an
/// engine share its [waiter threads](crate::EngineBuilder::max_waiter_threads), so the waiters of
/// all tenants together should stay below that number.
///
/// With the feature `serde`, limits can be read from a file: the names in the table with `-` in
/// place of `_`, and times in seconds.
#[derive(Clone, Debug, Eq, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Deserialize, serde::Serialize),
    serde(default, deny_unknown_fields, rename_all = "kebab-case")
)]
pub struct Limits {
    pub(super) handles: usize,
    pub(super) held: usize,
    pub(super) waiters: usize,
    pub(super) created: usize,
    pub(super) ranges: usize,
    pub(super) path_length: usize,
    #[cfg_attr(feature = "serde", serde(with = "crate::serialize::optional_seconds"))]
    pub(super) longest_wait: Option<Duration>,
    #[cfg_attr(feature = "serde", serde(with = "crate::serialize::optional_seconds"))]
    pub(super) longest_hold: Option<Duration>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handles: 64,
            held: 16,
            waiters: 16,
            created: 1024,
            ranges: 1024,
            path_length: 1024,
            longest_wait: None,
            longest_hold: None,
        }
    }
}

impl Limits {
    /// The defaults of the table.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many handles may be open: [locks](super::GuestLock), and what else an adapter
    /// [counts](super::GuestLock::handle). The adapter for Wasmtime counts guards, pending acquires
    /// and pollables.
    pub fn handles(mut self, limit: usize) -> Self {
        self.handles = limit;
        self
    }

    /// How many locks may be held. Each of several holds on one file counts.
    pub fn held(mut self, limit: usize) -> Self {
        self.held = limit;
        self
    }

    /// How many acquires may wait.
    pub fn waiters(mut self, limit: usize) -> Self {
        self.waiters = limit;
        self
    }

    /// How many of the files that the guest created may exist. A file counts until it is removed,
    /// by any program.
    pub fn created(mut self, limit: usize) -> Self {
        self.created = limit;
        self
    }

    /// How many ranges of a file may be locked. It counts for files that are opened from now on.
    pub fn ranges(mut self, limit: usize) -> Self {
        self.ranges = limit;
        self
    }

    /// How long a path may be, in bytes.
    pub fn path_length(mut self, limit: usize) -> Self {
        self.path_length = limit;
        self
    }

    /// How long an acquire may wait. If the guest's own timeout is longer or none, the acquire then
    /// fails with [`Error::is_canceled`](crate::Error::is_canceled).
    pub fn longest_wait(mut self, limit: Option<Duration>) -> Self {
        self.longest_wait = limit;
        self
    }

    /// How long a lock may be held. After that, the guest has [lost](crate::State::Lost) it.
    pub fn longest_hold(mut self, limit: Option<Duration>) -> Self {
        self.longest_hold = limit;
        self
    }
}
