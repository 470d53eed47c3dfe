//! What the URL says: which server, which user and database, and how TLS is used.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::super::Settings;
use super::error::with_causes;
use super::tls::{Files, Trust, connector};

/// Where the server is, and how to talk to it.
#[derive(Clone)]
pub(super) struct Config {
    pub(super) client: tokio_postgres::Config,
    pub(super) tls: MakeRustlsConnect,
    /// Its host and port, for messages.
    pub(super) server: Arc<str>,
    pub(super) ttl: Duration,
    pub(super) request_timeout: Duration,
    pub(super) fencing: Fencing,
}

/// Whether grants carry a token: the parameter `fencing`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Fencing {
    /// If there is a sequence for it, or it can be created.
    #[default]
    Prefer,
    /// Or there is no lock.
    Require,
    Off,
}

/// The parameters of the URL that the client library leaves to us.
#[derive(Default)]
struct Ours {
    ssl_mode: Option<(SslMode, Trust)>,
    files: Files,
    fencing: Fencing,
}

/// The shortest time to live: what a keep-alive of TCP, which counts in seconds, can still follow.
const SHORTEST_TTL: Duration = Duration::from_secs(2);
/// What the server keeps of a name of an application, in bytes.
const LONGEST_LABEL: usize = 63;

impl Config {
    pub(super) fn new(url: &str, settings: &Settings) -> io::Result<Self> {
        let (url, ours) = split(url)?;
        let mut client: tokio_postgres::Config =
            url.parse().map_err(|e| invalid(with_causes(&e)))?;
        if client.get_password().is_some() {
            return Err(invalid("a password is no part of the URL".into()));
        }
        if client.get_hosts().is_empty() && client.get_hostaddrs().is_empty() {
            client.host("localhost");
        }
        let several = client.get_hosts().len().max(client.get_hostaddrs().len()) > 1;
        if several && client.get_target_session_attrs() == TargetSessionAttrs::Any {
            client.target_session_attrs(TargetSessionAttrs::ReadWrite);
        }
        if let Some(password) = &settings.password {
            client.password(password);
        }
        if let Some(label) = &settings.label {
            client.application_name(prefix(label, LONGEST_LABEL));
        } else if client.get_application_name().is_none() {
            client.application_name("locket");
        }
        let ttl = settings.ttl.max(SHORTEST_TTL);
        // Two sessions are opened within the time of one request, and all hosts but one may be silent.
        let hosts = client.get_hosts().len().max(client.get_hostaddrs().len());
        let shares = u32::try_from(2 * hosts).unwrap_or(u32::MAX);
        client
            .connect_timeout(match several {
                true => settings.request_timeout / shares,
                false => settings.request_timeout,
            })
            .tcp_user_timeout(ttl)
            .keepalives_idle(Duration::from_secs(seconds(ttl / 3).into()))
            .keepalives_interval(Duration::from_secs(1))
            .keepalives_retries(seconds(ttl));
        let (ssl_mode, trust) = ours.ssl_mode.unwrap_or((SslMode::Prefer, Trust::Any));
        client.ssl_mode(ssl_mode);
        Ok(Self {
            tls: connector(trust, &ours.files)?,
            server: server(&client).into(),
            client,
            ttl,
            request_timeout: settings.request_timeout,
            fencing: ours.fencing,
        })
    }
}

/// Whole seconds, rounded up.
pub(super) fn seconds(time: Duration) -> u32 {
    let whole = u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
    whole.saturating_add(u32::from(time.subsec_nanos() > 0))
}

/// Takes out of the URL the parameters that the client library does not know.
fn split(url: &str) -> io::Result<(String, Ours)> {
    let mut ours = Ours::default();
    let Some((start, parameters)) = url.split_once('?') else {
        return Ok((url.to_owned(), ours));
    };
    let mut theirs = Vec::new();
    for parameter in parameters.split('&').filter(|p| !p.is_empty()) {
        let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let value = percent_decode_str(value)
            .decode_utf8()
            .map_err(|_| invalid(format!("`{key}` is not UTF-8")))?;
        match key {
            "sslmode" => ours.ssl_mode = Some(ssl_mode(&value)?),
            "sslrootcert" => ours.files.roots = Some(value.as_ref().into()),
            "sslcert" => ours.files.certificate = Some(value.as_ref().into()),
            "sslkey" => ours.files.key = Some(value.as_ref().into()),
            "fencing" => ours.fencing = fencing(&value)?,
            _ => theirs.push(parameter),
        }
    }
    // Who names roots wants the certificate looked at.
    if ours.ssl_mode.is_none() && ours.files.roots.is_some() {
        ours.ssl_mode = Some((SslMode::Require, Trust::Roots));
    }
    // As libpq has it: with roots, `require` looks at the certificate.
    if let Some((SslMode::Require, trust @ Trust::Any)) = &mut ours.ssl_mode
        && ours.files.roots.is_some()
    {
        *trust = Trust::Roots;
    }
    let theirs = theirs.join("&");
    let url = match theirs.as_str() {
        "" => start.to_owned(),
        theirs => format!("{start}?{theirs}"),
    };
    Ok((url, ours))
}

fn ssl_mode(value: &str) -> io::Result<(SslMode, Trust)> {
    Ok(match value {
        "disable" => (SslMode::Disable, Trust::Any),
        "prefer" => (SslMode::Prefer, Trust::Any),
        "require" => (SslMode::Require, Trust::Any),
        "verify-ca" => (SslMode::Require, Trust::Roots),
        "verify-full" => (SslMode::Require, Trust::RootsAndName),
        _ => {
            let modes = "disable, prefer, require, verify-ca or verify-full";
            return Err(invalid(format!("`sslmode` is {modes}")));
        }
    })
}

fn fencing(value: &str) -> io::Result<Fencing> {
    match value {
        "prefer" => Ok(Fencing::Prefer),
        "require" => Ok(Fencing::Require),
        "off" => Ok(Fencing::Off),
        _ => Err(invalid("`fencing` is prefer, require or off".into())),
    }
}

/// The hosts and ports.
fn server(client: &tokio_postgres::Config) -> String {
    let ports = client.get_ports();
    let hosts = client.get_hosts().iter().map(|host| match host {
        Host::Tcp(host) => host.clone(),
        #[cfg(unix)]
        Host::Unix(path) => path.display().to_string(),
    });
    let addresses = client.get_hostaddrs().iter().map(ToString::to_string);
    let all: Vec<_> = match client.get_hosts() {
        [] => addresses.collect(),
        _ => hosts.collect(),
    };
    let with_port = all.iter().enumerate().map(|(i, host)| {
        let port = ports.get(i).or(ports.first()).copied().unwrap_or(5432);
        format!("{host}:{port}")
    });
    with_port.collect::<Vec<_>>().join(",")
}

fn prefix(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

fn invalid(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why)
}
