//! What a host learns of its guests: by hooks of its own, and as events of [`tracing`].

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::Level;

use crate::error::{Error, Result};
use crate::protocol::Protocol;
use crate::range::Range;
use crate::types::{LostReason, Mode};

/// What a guest asks for.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Request<'a> {
    /// The label of the guest.
    pub label: Option<&'a str>,
    /// The host's own tag of the guest.
    pub tag: Option<&'a str>,
    /// The path, as the guest knows it.
    pub path: &'a str,
    /// The protocol; none if the guest leaves the choice to its sandbox, and got no lock.
    pub protocol: Option<Protocol>,
    /// The mode; none for the opening of a lock.
    pub mode: Option<Mode>,
    /// What of the file, if the guest locks a range of bytes.
    pub range: Option<Range>,
}

/// Follows what guests do with locks, for metrics and policies of the host.
///
/// Each acquire begins with [`admit`](Self::admit), and ends with one of
/// [`acquired`](Self::acquired), [`refused`](Self::refused) and [`abandoned`](Self::abandoned).
/// Each hold ends with one of [`released`](Self::released) and [`lost`](Self::lost). So the numbers
/// add up. A [range](Request::range) that is locked is no hold: it ends without a word.
///
/// The methods are called in the thread in which it happens, which may be one that serves all locks
/// of the engine: they should return soon. No mutex is held meanwhile.
///
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use std::time::Duration;
///
/// use locket::sandbox::{Hooks, Request, Rights, Sandbox};
/// use locket::{Engine, Mode, OnRelease};
///
/// #[derive(Default)]
/// struct Metrics {
///     acquired: AtomicU64,
///     waited_ms: AtomicU64,
/// }
///
/// impl Hooks for Metrics {
///     fn acquired(&self, _: &Request<'_>, waited: Duration) {
///         self.acquired.fetch_add(1, Ordering::Relaxed);
///         self.waited_ms.fetch_add(waited.as_millis() as u64, Ordering::Relaxed);
///     }
/// }
///
/// # let dir = tempfile::tempdir()?;
/// let metrics = Arc::new(Metrics::default());
/// let guest = Sandbox::builder(&Engine::new())
///     .hooks(Arc::clone(&metrics) as _)
///     .grant_dir(dir.path(), "/jobs", Rights::LOCKS)?
///     .build();
/// let lock = guest.open("/jobs/a.lock", None, OnRelease::Keep)?;
/// drop(lock.acquire(Mode::Exclusive, None)?);
/// assert_eq!(metrics.acquired.load(Ordering::Relaxed), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Hooks: Send + Sync {
    /// Whether a guest may begin an acquire that its rights allow. If not, it fails with
    /// [denied](Error::is_denied). The guest's limits are checked afterwards.
    fn admit(&self, request: &Request<'_>) -> bool {
        let _ = request;
        true
    }

    /// An acquire has to wait.
    fn waiting(&self, request: &Request<'_>) {
        let _ = request;
    }

    /// A lock was acquired, after `waited` from the beginning of the acquire.
    fn acquired(&self, request: &Request<'_>, waited: Duration) {
        let _ = (request, waited);
    }

    /// An acquire, or the opening of a lock, failed with an error: a lock that is held and a timeout
    /// included.
    fn refused(&self, request: &Request<'_>, error: &Error) {
        let _ = (request, error);
    }

    /// An acquire was dropped before it ended, after `waited`.
    fn abandoned(&self, request: &Request<'_>, waited: Duration) {
        let _ = (request, waited);
    }

    /// A hold ended with its release, after `held`.
    fn released(&self, request: &Request<'_>, held: Duration) {
        let _ = (request, held);
    }

    /// A hold was lost, after `held`.
    fn lost(&self, request: &Request<'_>, reason: LostReason, held: Duration) {
        let _ = (request, reason, held);
    }
}

/// Where the events of a guest go: to the hooks of the host, and to its log.
pub(super) struct Listener {
    label: Option<Arc<str>>,
    tag: Option<Arc<str>>,
    hooks: Option<Arc<dyn Hooks>>,
    span: tracing::Span,
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut listener = f.debug_struct("Listener");
        listener.field("label", &self.label).field("tag", &self.tag);
        listener.field("hooks", &self.hooks.is_some()).finish()
    }
}

/// Records an event in the span of the guest.
macro_rules! event {
    ($listener:expr, $level:expr, $($fields:tt)*) => {
        tracing::event!(target: "locket", parent: &$listener.span, $level, $($fields)*)
    };
}

impl Listener {
    pub(super) fn new(
        label: Option<&str>,
        tag: Option<&str>,
        hooks: Option<Arc<dyn Hooks>>,
    ) -> Self {
        Self {
            label: label.map(Into::into),
            tag: tag.map(Into::into),
            hooks,
            span: tracing::info_span!(target: "locket", "guest", label, tag),
        }
    }

    /// The same for another tag.
    pub(super) fn tagged(&self, tag: &str) -> Self {
        Self::new(self.label.as_deref(), Some(tag), self.hooks.clone())
    }

    fn request<'a>(
        &'a self,
        path: &'a str,
        protocol: Option<Protocol>,
        mode: Option<Mode>,
    ) -> Request<'a> {
        Request {
            label: self.label.as_deref(),
            tag: self.tag.as_deref(),
            path,
            protocol,
            mode,
            range: None,
        }
    }

    /// Whether anything comes of an event.
    pub(super) fn listens(&self) -> bool {
        self.hooks.is_some() || tracing::enabled!(target: "locket", Level::INFO)
    }

    pub(super) fn opened(&self, path: &str, protocol: Protocol) {
        event!(self, Level::DEBUG, path, %protocol, "opened");
    }

    pub(super) fn not_opened(&self, path: &str, protocol: Option<Protocol>, error: &Error) {
        refuse(self, &self.request(path, protocol, None), error);
    }

    pub(super) fn broken(&self, path: &str) {
        event!(self, Level::INFO, path, "broken");
    }

    pub(super) fn revoked(&self) {
        event!(self, Level::INFO, "everything revoked");
    }
}

fn refuse(listener: &Listener, request: &Request<'_>, error: &Error) {
    // As a string, because subscribers escape strings: it contains a path from the guest.
    event!(
        listener,
        Level::DEBUG,
        error = error.to_string().as_str(),
        "refused"
    );
    if let Some(hooks) = &listener.hooks {
        hooks.refused(request, error);
    }
}

/// What happens to one open lock of a guest.
#[derive(Debug)]
pub(super) struct Story {
    pub(super) listener: Arc<Listener>,
    path: Arc<str>,
    protocol: Protocol,
    range: Option<Range>,
}

impl Story {
    pub(super) fn new(listener: Arc<Listener>, path: &str, protocol: Protocol) -> Self {
        Self {
            listener,
            path: path.into(),
            range: None,
            protocol,
        }
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }

    pub(super) fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// The same for a range of the file.
    pub(super) fn of_range(&self, range: Range) -> Self {
        Self {
            listener: Arc::clone(&self.listener),
            path: Arc::clone(&self.path),
            protocol: self.protocol,
            range: Some(range),
        }
    }

    fn request(&self, mode: Mode) -> Request<'_> {
        let request = self
            .listener
            .request(&self.path, Some(self.protocol), Some(mode));
        Request {
            range: self.range,
            ..request
        }
    }

    /// Whether the host has hooks.
    pub(super) fn has_hooks(&self) -> bool {
        self.listener.hooks.is_some()
    }

    /// Whether the host's policy admits an acquire.
    pub(super) fn admits(&self, mode: Mode) -> bool {
        let hooks = self.listener.hooks.as_ref();
        hooks.is_none_or(|hooks| hooks.admit(&self.request(mode)))
    }

    pub(super) fn waiting(&self, mode: Mode) {
        event!(self.listener, Level::TRACE, path = &*self.path, %mode, "waiting");
        if let Some(hooks) = &self.listener.hooks {
            hooks.waiting(&self.request(mode));
        }
    }

    pub(super) fn acquired(&self, mode: Mode, began: Instant) {
        if self.listener.listens() {
            let waited = began.elapsed();
            event!(self.listener, Level::TRACE, path = &*self.path, %mode, ?waited, "acquired");
            if let Some(hooks) = &self.listener.hooks {
                hooks.acquired(&self.request(mode), waited);
            }
        }
    }

    pub(super) fn refused(&self, mode: Mode, error: &Error) {
        refuse(&self.listener, &self.request(mode), error);
    }

    /// An acquire has ended, one way or the other.
    pub(super) fn ended(&self, mode: Mode, began: Instant, result: &Result<()>) {
        match result {
            Ok(()) => self.acquired(mode, began),
            Err(error) => self.refused(mode, error),
        }
    }

    /// Another call about the lock failed.
    pub(super) fn failed(&self, error: &Error) {
        let error = error.to_string();
        event!(
            self.listener,
            Level::DEBUG,
            path = &*self.path,
            error = error.as_str(),
            "failed"
        );
    }

    pub(super) fn abandoned(&self, mode: Mode, began: Instant) {
        let waited = began.elapsed();
        event!(self.listener, Level::DEBUG, path = &*self.path, %mode, ?waited, "abandoned");
        if let Some(hooks) = &self.listener.hooks {
            hooks.abandoned(&self.request(mode), waited);
        }
    }

    pub(super) fn released(&self, mode: Mode, held: Duration) {
        event!(self.listener, Level::TRACE, path = &*self.path, %mode, ?held, "released");
        if let Some(hooks) = &self.listener.hooks {
            hooks.released(&self.request(mode), held);
        }
    }

    pub(super) fn lost(&self, mode: Mode, reason: LostReason, held: Duration) {
        event!(self.listener, Level::INFO, path = &*self.path, %mode, %reason, ?held, "lost");
        if let Some(hooks) = &self.listener.hooks {
            hooks.lost(&self.request(mode), reason, held);
        }
    }
}
