//! Locks beyond one machine: on a server, behind the same handle as a lock of a file.

#![cfg_attr(
    not(any(feature = "etcd", feature = "postgres")),
    allow(
        dead_code,
        unused_imports,
        unused_variables,
        reason = "the servers use it"
    )
)]

mod clock;
#[cfg(feature = "etcd")]
mod etcd;
mod origin;
#[cfg(feature = "postgres")]
mod postgres;
mod runtime;
mod server;
mod stop;
pub(crate) mod timer;

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::types::Guarantee;

pub(crate) use clock::Moment;
pub(crate) use origin::Origin;
pub(crate) use runtime::Runtime;
pub(crate) use server::{Changed, Grant, Seat, Server, Standing, unavailable};
pub(crate) use stop::Stop;

/// A server that keeps locks: etcd, or PostgreSQL.
///
/// [`Engine::open_remote`](crate::Engine::open_remote) opens a lock on it. Clones are the same
/// remote: one connection, and one lease, for all of a process.
///
/// The URL says which server, and where its locks are:
/// - `etcd://HOST:PORT[,HOST:PORT…]/PREFIX`, with the parameters that the feature `etcd` documents;
/// - `postgres://USER@HOST:PORT/DATABASE`, as PostgreSQL's own clients read it.
///
/// A password is no part of the URL, which ends up in messages and lists of processes.
#[derive(Clone)]
pub struct Remote {
    pub(crate) server: Arc<dyn Server>,
    url: Arc<str>,
    /// Tells it from the others of this process.
    pub(crate) number: u64,
}

/// Settings for a [`Remote`].
#[derive(Clone)]
#[must_use = "a builder does nothing until `connect` is called"]
pub struct RemoteBuilder {
    url: String,
    settings: Settings,
}

/// What the servers have in common.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) ttl: Duration,
    pub(crate) request_timeout: Duration,
    pub(crate) password: Option<String>,
    /// Shown to those who ask who holds a lock.
    pub(crate) label: Option<String>,
}

impl Remote {
    /// A remote with default settings. Does not connect: the first acquire does.
    ///
    /// # Errors
    ///
    /// [Invalid path](Error::is_invalid_path) for a URL that is not one of a lock server, or has a
    /// password in it; [unsupported](Error::is_unsupported) if this build has no such server.
    pub fn new(url: &str) -> Result<Self> {
        Self::builder(url).build()
    }

    /// Settings for a remote.
    pub fn builder(url: &str) -> RemoteBuilder {
        RemoteBuilder {
            url: url.to_owned(),
            settings: Settings {
                ttl: Duration::from_secs(10),
                request_timeout: Duration::from_secs(5),
                password: None,
                label: None,
            },
        }
    }

    pub(crate) fn of(server: Arc<dyn Server>, url: &str) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self {
            server,
            url: url.into(),
            number: NEXT.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// What to know about the server that may harm its locks, such as an old version of it. Empty
    /// until the server was asked for the first time.
    pub fn warnings(&self) -> Vec<String> {
        self.server.warnings()
    }

    /// What the locks of this remote are worth.
    pub fn guarantee(&self) -> Guarantee {
        self.server.guarantee()
    }
}

impl RemoteBuilder {
    /// How long the server keeps a lock of a process that it does not hear from: 10 s by default, 2 s
    /// at least. The remote renews it three times as often. PostgreSQL has no such time: there, the
    /// server frees the locks of a connection that is gone by keep-alive.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.settings.ttl = ttl;
        self
    }

    /// How long one request may take, 5 s by default.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.settings.request_timeout = timeout;
        self
    }

    /// The password of the user that the URL names.
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.settings.password = Some(password.into());
        self
    }

    /// A name for this process, shown to those who ask who holds a lock.
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.settings.label = Some(label.into());
        self
    }

    /// Builds the remote. Does not connect: the first acquire does.
    ///
    /// # Errors
    ///
    /// As [`Remote::new`].
    pub fn build(self) -> Result<Remote> {
        let Self { url, settings } = self;
        let shown = without_password(&url);
        let server = connect(&url, &settings).map_err(|e| Error::os(e, Path::new(&shown)))?;
        Ok(Remote::of(server, &shown))
    }
}

/// The URL as it may be shown, even if it has a password, with which it is refused.
fn without_password(url: &str) -> String {
    if let Some((start, rest)) = url.split_once("password=") {
        let end = rest.find('&').map_or("", |end| &rest[end..]);
        return without_password(&format!("{start}password{end}"));
    }
    let start = url.find("://").map_or(0, |at| at + 3);
    // The last one: a password may contain any character, even if it should not.
    let Some(at) = url[start..].rfind('@').map(|at| start + at) else {
        return url.to_owned();
    };
    match url[start..at].find(':') {
        Some(colon) => format!("{}{}", &url[..start + colon], &url[at..]),
        None => url.to_owned(),
    }
}

/// The server of a URL.
fn connect(url: &str, settings: &Settings) -> io::Result<Arc<dyn Server>> {
    let scheme = url.split_once("://").map_or("", |(scheme, _)| scheme);
    match scheme {
        #[cfg(feature = "etcd")]
        "etcd" => Ok(Arc::new(etcd::Etcd::new(url, settings)?)),
        #[cfg(feature = "postgres")]
        "postgres" | "postgresql" => Ok(Arc::new(postgres::Postgres::new(url, settings)?)),
        _ if ["etcd", "postgres", "postgresql"].contains(&scheme) => {
            let why = format!("this build has no {scheme}: build it with that feature");
            Err(io::Error::new(io::ErrorKind::Unsupported, why))
        }
        _ => {
            let why = "not the URL of a lock server: etcd://… or postgres://…";
            Err(io::Error::new(io::ErrorKind::InvalidInput, why))
        }
    }
}

/// Without settings, which may be secret.
impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").field("url", &self.url).finish()
    }
}

impl fmt::Debug for RemoteBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteBuilder")
            .field("url", &without_password(&self.url))
            .finish_non_exhaustive()
    }
}
