//! The URL of a cluster.

use std::io;
use std::path::Path;
use std::time::Duration;

use etcd_client::{Certificate, ConnectOptions, Identity, TlsOptions};
use percent_encoding::percent_decode_str;

use super::key;
use crate::remote::Settings;

/// The port of a server for which the URL names none.
const PORT: u16 = 2379;
/// The shortest lease that a server grants with its default settings.
const SHORTEST: Duration = Duration::from_secs(2);

/// What the URL and the settings say.
pub(super) struct Config {
    /// The URL of each server, as the client wants it.
    pub(super) endpoints: Vec<String>,
    pub(super) options: ConnectOptions,
    /// What the names of all locks begin with: empty, or with a slash at its start alone.
    pub(super) root: String,
    /// Whole seconds.
    pub(super) ttl: Duration,
    pub(super) request_timeout: Duration,
    pub(super) label: Option<String>,
}

impl Config {
    /// Reads a URL
    /// `etcd://[USER@]HOST[:PORT][,HOST[:PORT]…][/PREFIX][?ca=FILE[&cert=FILE&key=FILE]]` and the
    /// files that it names.
    pub(super) fn new(url: &str, settings: &Settings) -> io::Result<Self> {
        let rest = url.strip_prefix("etcd://");
        let rest = rest.ok_or_else(|| invalid("it does not begin with etcd://"))?;
        let (rest, parameters) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let (user, hosts) = match authority.rsplit_once('@') {
            Some((user, hosts)) => (Some(user), hosts),
            None => (None, authority),
        };
        let tls = Tls::read(parameters)?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let endpoints = hosts.split(',').map(|host| endpoint(scheme, host));
        let mut options = ConnectOptions::new()
            .with_require_leader(true)
            .with_auto_token_refresh(true)
            .with_connect_timeout(settings.request_timeout)
            .with_tcp_keepalive(settings.ttl);
        if let Some((user, password)) = credentials(user, settings.password.as_deref())? {
            options = options.with_user(user, password);
        }
        if let Some(tls) = tls {
            options = options.with_tls(tls.options);
        }
        Ok(Self {
            endpoints: endpoints.collect::<io::Result<_>>()?,
            options,
            root: root(path)?,
            ttl: whole_seconds(settings.ttl.max(SHORTEST)),
            request_timeout: settings.request_timeout,
            label: settings.label.clone(),
        })
    }
}

/// A lease has no others.
fn whole_seconds(time: Duration) -> Duration {
    let more = u64::from(time.subsec_nanos() > 0);
    Duration::from_secs(time.as_secs().saturating_add(more))
}

fn endpoint(scheme: &str, host: &str) -> io::Result<String> {
    // The colons of an address of IPv6 are between brackets.
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, port.parse().ok()),
        _ => (host, Some(PORT)),
    };
    match port {
        Some(port) if !name.is_empty() && !name.contains(char::is_whitespace) => {
            Ok(format!("{scheme}://{name}:{port}"))
        }
        _ => Err(invalid("one of its servers is not HOST or HOST:PORT")),
    }
}

fn credentials(user: Option<&str>, password: Option<&str>) -> io::Result<Option<(String, String)>> {
    match (user, password) {
        // What is in the URL ends up in messages and in lists of processes.
        (Some(user), _) if user.contains(':') => Err(invalid("a password is no part of a URL")),
        (Some(user), Some(password)) => Ok(Some((decoded(user)?, password.to_owned()))),
        (Some(_), None) => Err(invalid("the user of the URL needs a password")),
        (None, Some(_)) => Err(invalid("the password needs a user in the URL")),
        (None, None) => Ok(None),
    }
}

fn root(path: &str) -> io::Result<String> {
    let root = decoded(path.trim_end_matches('/'))?;
    match root.strip_prefix('/') {
        None => Ok(root),
        Some(name) => key::check_name(name).map(|()| root),
    }
}

struct Tls {
    options: TlsOptions,
}

impl Tls {
    /// The parameters are those of TLS, which is in use if there are any.
    fn read(parameters: &str) -> io::Result<Option<Self>> {
        let (mut ca, mut cert, mut key) = (None, None, None);
        for parameter in parameters.split('&').filter(|p| !p.is_empty()) {
            let (name, file) = parameter.split_once('=').unwrap_or((parameter, ""));
            let place = match name {
                "ca" => &mut ca,
                "cert" => &mut cert,
                "key" => &mut key,
                _ => return Err(invalid("its parameters are `ca`, `cert` and `key`")),
            };
            *place = Some(read(Path::new(&decoded(file)?))?);
        }
        let Some(ca) = ca else {
            return match (cert, key) {
                (None, None) => Ok(None),
                _ => Err(invalid("`cert` and `key` need `ca`")),
            };
        };
        let options = TlsOptions::new().ca_certificate(Certificate::from_pem(ca));
        let options = match (cert, key) {
            (Some(cert), Some(key)) => options.identity(Identity::from_pem(cert, key)),
            (None, None) => options,
            _ => return Err(invalid("`cert` and `key` need each other")),
        };
        Ok(Some(Self { options }))
    }
}

fn read(file: &Path) -> io::Result<Vec<u8>> {
    let named = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", file.display()));
    std::fs::read(file).map_err(named)
}

fn decoded(text: &str) -> io::Result<String> {
    let decoded = percent_decode_str(text).decode_utf8();
    let decoded = decoded.map_err(|_| invalid(&format!("`{text}` is not UTF-8")))?;
    Ok(decoded.into_owned())
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(password: Option<&str>) -> Settings {
        Settings {
            ttl: Duration::from_millis(2100),
            request_timeout: Duration::from_secs(5),
            password: password.map(str::to_owned),
            label: None,
        }
    }

    #[test]
    fn a_url_says_where_the_servers_and_the_locks_are() {
        let url = "etcd://ann%40x@one:1,two,[::1]:3,[::2]/locks/my%20app/";
        let config = Config::new(url, &settings(Some("secret"))).expect("it is valid");
        let servers = [
            "http://one:1",
            "http://two:2379",
            "http://[::1]:3",
            "http://[::2]:2379",
        ];
        assert_eq!(config.endpoints, servers);
        assert_eq!(config.root, "/locks/my app");
        assert_eq!(
            config.ttl,
            Duration::from_secs(3),
            "a lease has whole seconds"
        );
        let config = Config::new("etcd://one", &settings(None)).expect("it is valid");
        assert_eq!(config.root, "");
    }

    #[test]
    fn a_url_with_a_mistake_is_refused() {
        let urls = [
            "etcd://",
            "etcd://one:",
            "etcd://one:x",
            "etcd://one,,two",
            "etcd://:1",
            "etcd:one",
            "etcd://a:b@one",
            "etcd://one//a",
            "etcd://one/a/../b",
            "etcd://one?tls=1",
            "etcd://ann@one",
            "etcd://one/%ff",
            "etcd://one?cert=Cargo.toml",
            "etcd://one?ca=Cargo.toml&key=Cargo.toml",
        ];
        for url in urls {
            let refused = Config::new(url, &settings(None)).err().expect(url);
            assert_eq!(
                refused.kind(),
                io::ErrorKind::InvalidInput,
                "{url}: {refused}"
            );
        }
        let missing = Config::new("etcd://one?ca=/no/such/file", &settings(None)).err();
        let missing = missing.expect("the file is missing");
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        assert!(missing.to_string().contains("/no/such/file"));
        let lonely = Config::new("etcd://one", &settings(Some("secret"))).err();
        assert!(!lonely.expect("no user").to_string().contains("secret"));
    }
}
