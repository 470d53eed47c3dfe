//! Locks of a server in place of files: `--remote URL`.

use std::cell::OnceCell;
use std::env;
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use locket::{Engine, LockFile, Protocol, Remote};

use crate::args::seconds;
use crate::exit::{self, ExitError};
use crate::output::{eprint_line, shown_error, shown_path};
use crate::status::report::{Holder, Mode, Process, Report, Unknown};

/// Where the password of the URL's user comes from: it would be seen in a URL.
const PASSWORD: &str = "LOCKET_PASSWORD";
const PASSWORD_FILE: &str = "LOCKET_PASSWORD_FILE";

/// The server that keeps the locks.
#[derive(Args, Debug)]
pub(crate) struct RemoteArgs {
    /// Lock names on a server instead of files: etcd://HOST:PORT/PREFIX or postgres://USER@HOST/DB;
    /// the password comes from $LOCKET_PASSWORD or the file $LOCKET_PASSWORD_FILE
    #[arg(long, value_name = "URL")]
    #[arg(conflicts_with_all = ["protocol", "database"])]
    remote: Option<String>,

    /// How long the server keeps the lock of a process that it does not hear from [default: 10]
    #[arg(long, value_name = "SECONDS", value_parser = seconds, requires = "remote")]
    ttl: Option<Duration>,

    #[arg(skip)]
    connected: OnceCell<Remote>,
}

impl RemoteArgs {
    /// The server, if the user named one.
    pub(crate) fn connect(&self) -> Result<Option<Remote>, ExitError> {
        let Some(url) = &self.remote else {
            return Ok(None);
        };
        let remote = connect(url, self.ttl)?;
        Ok(Some(self.connected.get_or_init(|| remote).clone()))
    }

    /// Says what may harm the locks of the server, as far as it is known by now.
    pub(crate) fn warn(&self) {
        for warning in self
            .connected
            .get()
            .iter()
            .flat_map(|remote| remote.warnings())
        {
            eprint_line(format_args!("warning: {warning}"));
        }
    }

    pub(crate) fn is_set(&self) -> bool {
        self.remote.is_some()
    }
}

/// The server of a URL. Asks no server yet.
pub(crate) fn connect(url: &str, ttl: Option<Duration>) -> Result<Remote, ExitError> {
    let mut builder = Remote::builder(url).label(label());
    if let Some(ttl) = ttl {
        builder = builder.ttl(ttl);
    }
    if let Some(password) = password()? {
        builder = builder.password(password);
    }
    builder.build().map_err(|e| ExitError::new(exit::USAGE, e))
}

fn password() -> Result<Option<String>, ExitError> {
    if let Ok(password) = env::var(PASSWORD) {
        return Ok(Some(password));
    }
    let Some(path) = env::var_os(PASSWORD_FILE) else {
        return Ok(None);
    };
    let text = fs::read_to_string(&path).map_err(|e| {
        let message = format_args!("cannot read `{}`: {e}", shown_path(Path::new(&path)));
        ExitError::new(exit::NO_INPUT, message)
    })?;
    Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()))
}

/// What others see who ask for the holder: this command on this host.
fn label() -> String {
    let process = std::process::id();
    let host = env::var("HOSTNAME").ok().filter(|host| !host.is_empty());
    let host = host.or_else(|| fs::read_to_string("/proc/sys/kernel/hostname").ok());
    match host {
        Some(host) => format!("locket, process {process} on {}", host.trim()),
        None => format!("locket, process {process}"),
    }
}

/// Opens the lock of a server called `name`.
pub(crate) fn open(engine: &Engine, remote: &Remote, name: &Path) -> Result<LockFile, ExitError> {
    let Some(text) = name.to_str() else {
        let why = format_args!(
            "`{}` is not UTF-8, as names on a server are",
            shown_path(name)
        );
        return Err(ExitError::new(exit::USAGE, why));
    };
    engine.open_remote(remote, text).map_err(|e| error(&e))
}

/// What the failure of a server, or of its lock, means here.
pub(crate) fn error(error: &locket::Error) -> ExitError {
    let (code, hint) = if error.is_invalid_path() {
        (exit::USAGE, "")
    } else if error.is_unavailable() {
        (
            exit::UNAVAILABLE,
            "; is the URL right, and does the server run?",
        )
    } else if error.is_denied() {
        let hint = "; check the user of the URL, $LOCKET_PASSWORD, and what the user may do there";
        (exit::UNAVAILABLE, hint)
    } else {
        (exit::UNAVAILABLE, "")
    };
    ExitError::new(code, format_args!("{}{hint}", shown_error(error)))
}

/// Who holds the lock called `name`, and whether it can be told.
pub(crate) fn report(remote: &Remote, name: &Path) -> Result<Report, ExitError> {
    let lock = open(&Engine::new(), remote, name)?;
    let holder = lock.holder().map_err(|e| error(&e))?;
    let mode = holder.as_ref().map(|holder| match holder.mode {
        locket::Mode::Exclusive => Mode::Exclusive,
        locket::Mode::Shared => Mode::Shared,
    });
    let since = |time: SystemTime| time.duration_since(UNIX_EPOCH).ok();
    let holders = holder.map(|holder| Holder {
        process: Process {
            command: holder.label,
            ..Process::default()
        },
        protocol: Protocol::Remote,
        mode,
        ranges: Vec::new(),
        acquired_by: None,
        since: holder.since.and_then(since).map(|since| since.as_secs()),
        host: holder.host,
        elsewhere: holder.elsewhere,
    });
    Ok(Report {
        held: Some(mode.is_some()),
        unknown: None,
        mode,
        holders: holders.into_iter().collect(),
        ..Report::unknown(name, Unknown::NoAnswer)
    })
}
