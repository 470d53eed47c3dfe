//! Errors: typed, in time, and without a trace on the server.

use std::fs;
use std::io::{self, ErrorKind, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use etcd_client::{Client, ConnectOptions};
use locket_test_support::not_tested;
use locket_test_support::servers::free_port;
use locket_test_support::servers::proxy::Proxy;

use super::*;
use crate::remote::Runtime;

const EXCLUSIVE: Mode = Mode::Exclusive;

fn refused(url: &str, settings: &Settings) -> std::io::Error {
    let remote = Etcd::new(url, settings).expect("the URL is valid");
    let start = Instant::now();
    let refused = seat(&remote, "jobs/a").try_lock(EXCLUSIVE);
    let refused = refused.expect_err("it is refused");
    let limit = settings.request_timeout + STUCK;
    assert!(start.elapsed() < limit, "late: {refused}");
    let waited = Waiter::forever(seat(&remote, "jobs/a"), EXCLUSIVE).result();
    let waited = waited.expect_err("it is refused");
    assert_eq!(waited.kind(), refused.kind(), "{waited}, {refused}");
    let holder = remote.holder("jobs/a").expect_err("it is refused");
    assert_eq!(holder.kind(), refused.kind(), "{holder}, {refused}");
    refused
}

#[test]
fn no_server() {
    let url = format!("etcd://127.0.0.1:{}/", free_port());
    // What is not refused at once takes that long.
    let patient = Settings {
        request_timeout: STUCK,
        ..settings(5)
    };
    let start = Instant::now();
    let refused = refused(&url, &patient);
    assert_eq!(refused.kind(), ErrorKind::NotConnected);
    assert!(refused.to_string().contains("refused"), "{refused}");
    assert!(start.elapsed() < STUCK, "all three are refused at once");
}

#[test]
fn a_server_that_is_silent() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it has an address");
    let hasty = Settings {
        request_timeout: Duration::from_millis(400),
        ..settings(5)
    };
    let refused = refused(&format!("etcd://{address}/"), &hasty);
    assert_eq!(refused.kind(), ErrorKind::NotConnected, "{refused}");
}

/// The second one is named, and is never asked for a lock that the first one may have granted.
#[test]
fn servers_of_two_clusters() {
    let (Some(mut cluster), Some(stranger)) = (Cluster::start(1), Cluster::start(1)) else {
        return;
    };
    let strange = &stranger.addresses()[0];
    let url = format!("etcd://{},{strange}/", cluster.addresses()[0]);
    // An attempt has a quarter of that. If the first one is not answered in time, the second server
    // is the one of the cluster.
    let patient = Settings {
        request_timeout: Duration::from_secs(10),
        ..settings(2)
    };
    let remote = Etcd::new(&url, &patient).expect("the URL is valid");
    let held = seat(&remote, "jobs/a");
    hold(&held, EXCLUSIVE);
    let warned = || remote.warnings().iter().any(|text| text.contains(strange));
    eventually("the other cluster is noticed", warned);
    let warnings = remote.warnings();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    cluster.kill(0);
    let refused = seat(&remote, "jobs/b").try_lock(EXCLUSIVE);
    let refused = refused.expect_err("no server of the cluster answers");
    assert_eq!(refused.kind(), ErrorKind::NotConnected, "{refused}");
    eventually("the lock is lost", || {
        matches!(held.standing(), Standing::Lost(_))
    });
    assert!(stranger.leases().is_empty() && stranger.keys("/").is_empty());
}

/// A connection that breaks is made anew at the same address.
#[test]
fn an_address_that_leads_to_another_cluster() {
    let (Some(cluster), Some(stranger)) = (Cluster::start(1), Cluster::start(1)) else {
        return;
    };
    let server = &cluster.addresses()[0];
    let proxy = Proxy::new(server);
    let holder = remote(&format!("etcd://{server}/"), 5);
    let held = seat(&holder, "jobs/a");
    hold(&held, EXCLUSIVE);
    let remote = remote(&format!("etcd://{},{server}/", proxy.address()), 5);
    let waiter = Waiter::forever(seat(&remote, "jobs/a"), EXCLUSIVE);
    keys(&cluster, "/jobs/a", 2);
    proxy.lead_to(&stranger.addresses()[0]);
    waiter.waits();
    // Its lease is none there, and it waits with a new one, at the end of the same queue.
    eventually("it looks once more", || !stranger.leases().is_empty());
    waiter.waits();
    assert!(stranger.keys("/").is_empty());
    held.unlock().expect("it is given back");
    waiter.granted().unlock().expect("it is given back");
}

#[test]
fn a_name_that_no_lock_can_have() {
    let remote = remote("etcd://localhost/", 5);
    for name in ["", "a/../b", &"a".repeat(2000)] {
        let refused = remote.check_name(name).expect_err(name);
        assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    }
}

#[test]
fn a_wrong_password_a_wrong_user_and_a_role_that_does_not_reach() {
    let Some(cluster) = Cluster::start(1) else {
        return;
    };
    let run = |arguments: &[&str]| cluster.lines(arguments);
    run(&["user", "add", "root:secret"]);
    run(&["user", "add", "ann:secret"]);
    run(&["user", "grant-role", "root", "root"]);
    run(&["role", "add", "jobs"]);
    run(&[
        "role",
        "grant-permission",
        "jobs",
        "--prefix=true",
        "readwrite",
        "/locks/",
    ]);
    run(&["user", "grant-role", "ann", "jobs"]);
    run(&["auth", "enable"]);
    let url =
        |user: &str, prefix: &str| format!("etcd://{user}{}/{prefix}", cluster.addresses()[0]);
    let with = |password: Option<&str>| Settings {
        password: password.map(str::to_owned),
        ..settings(5)
    };
    let cases = [
        (url("ann@", "locks"), Some("wrong-word")),
        (url("bob@", "locks"), Some("secret")),
        (url("", "locks"), None),
        (url("ann@", "other"), Some("secret")),
    ];
    for (url, password) in cases {
        let refused = refused(&url, &with(password));
        assert_eq!(
            refused.kind(),
            ErrorKind::PermissionDenied,
            "{url}: {refused}"
        );
        let text = refused.to_string();
        assert!(
            !text.contains("secret") && !text.contains("wrong-word"),
            "{text}"
        );
    }
    let remote = Etcd::new(&url("ann@", "locks"), &with(Some("secret"))).expect("it is valid");
    let held = seat(&remote, "jobs/a");
    hold(&held, EXCLUSIVE);
    let waiter = Waiter::forever(seat(&remote, "jobs/a"), EXCLUSIVE);
    waiter.waits();
    let mut other = Login::new(&remote, &cluster, "ann", "secret");
    assert!(other.works());
    forget_logins(&cluster, "ann", "secret");
    assert!(!other.works(), "it is not forgotten");
    held.renew()
        .expect("it is held, and the login was repeated");
    held.unlock().expect("it is given back");
    assert!(is_held(&waiter.granted()));
    drop((held, remote));
    let list = ["--user=root:secret", "get", "--prefix", "--keys-only", "/"];
    eventually("nothing is left", || cluster.lines(&list).is_empty());
}

/// A login that is not repeated.
struct Login<'a> {
    runtime: &'a Runtime,
    client: Client,
}

impl<'a> Login<'a> {
    fn new(remote: &'a Etcd, cluster: &Cluster, user: &str, password: &str) -> Self {
        let runtime = &remote.shared.core().expect("it is not forked").runtime;
        let options = ConnectOptions::new().with_user(user, password);
        let addresses = cluster.addresses();
        let client = runtime.run(async move {
            let client = Client::connect(addresses, Some(options)).await;
            client.map_err(io::Error::other)
        });
        let client = client.expect("the password is right");
        Self { runtime, client }
    }

    fn works(&mut self) -> bool {
        let mut client = self.client.clone();
        let asked = async move { client.get("/locks/", None).await.map_err(io::Error::other) };
        self.runtime.run(asked).is_ok()
    }
}

/// Gives a user a password, which may be the same, and so ends what the server knows of its logins.
fn forget_logins(cluster: &Cluster, user: &str, password: &str) {
    let mut ctl = cluster.ctl();
    ctl.args([
        "--user=root:secret",
        "user",
        "passwd",
        user,
        "--interactive=false",
    ]);
    let mut ctl = ctl.stdin(Stdio::piped()).stdout(Stdio::null()).spawn();
    let ctl = ctl.as_mut().expect("etcdctl can be started");
    let mut input = ctl.stdin.take().expect("its input is piped");
    writeln!(input, "{password}").expect("etcdctl reads");
    drop(input);
    assert!(ctl.wait().expect("it ends").success());
}

/// Whether `openssl` is installed. In CI it must be.
fn has_openssl() -> bool {
    let found = Command::new("openssl").arg("version").output().is_ok();
    assert!(found || std::env::var_os("CI").is_none(), "CI has openssl");
    if !found {
        not_tested(format_args!("openssl is not installed"));
    }
    found
}

fn openssl(folder: &Path, arguments: &str) {
    let openssl = Command::new("openssl")
        .args(arguments.split(' '))
        .current_dir(folder)
        .output()
        .expect("openssl is installed");
    let error = String::from_utf8_lossy(&openssl.stderr);
    assert!(openssl.status.success(), "{arguments}: {error}");
}

/// A certificate that an authority signs, with a key.
fn certificate(folder: &Path, name: &str, authority: &str) {
    let key = "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    openssl(
        folder,
        &format!("{key} -keyout {name}.key -out {name}.csr -subj /CN={name}"),
    );
    fs::write(folder.join("names"), "subjectAltName=IP:127.0.0.1\n").expect("it can be written");
    let sign = format!("x509 -req -CA {authority}.pem -CAkey {authority}.key -CAcreateserial");
    openssl(
        folder,
        &format!("{sign} -in {name}.csr -out {name}.pem -days 2 -extfile names"),
    );
}

#[test]
fn certificates_that_are_right_and_wrong() {
    if !has_openssl() {
        return;
    }
    let folder = tempfile::tempdir().expect("a directory can be created");
    let folder = folder.path();
    for name in ["right", "wrong"] {
        let new = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2";
        openssl(
            folder,
            &format!("{new} -keyout {name}.key -out {name}.pem -subj /CN={name}"),
        );
    }
    certificate(folder, "server", "right");
    certificate(folder, "client", "right");
    certificate(folder, "stranger", "wrong");
    let file = |name: &str| folder.join(name).display().to_string();
    let server = [
        "--cert-file",
        &file("server.pem"),
        "--key-file",
        &file("server.key"),
    ];
    let server = server.iter().map(|s| (*s).to_owned());
    let clients = [
        "--client-cert-auth".to_owned(),
        "--trusted-ca-file".into(),
        file("right.pem"),
    ];
    let arguments: Vec<_> = server.chain(clients).collect();
    let [cacert, cert, key] = [
        ("cacert", "right.pem"),
        ("cert", "client.pem"),
        ("key", "client.key"),
    ]
    .map(|(option, name)| format!("--{option}={}", file(name)));
    let Some(cluster) = Cluster::start_with(1, "https", &arguments, &[cacert, cert, key]) else {
        return;
    };
    let url = |ca: &str, client: &str| {
        let client = match client {
            "" => String::new(),
            name => format!(
                "&cert={}&key={}",
                file(&format!("{name}.pem")),
                file(&format!("{name}.key"))
            ),
        };
        format!("{}?ca={}{client}", cluster.url("locks"), file(ca))
    };
    let remote = remote(&url("right.pem", "client"), 5);
    hold(&seat(&remote, "a"), EXCLUSIVE);
    for (ca, client) in [
        ("wrong.pem", "client"),
        ("right.pem", "stranger"),
        ("right.pem", ""),
    ] {
        let refused = refused(&url(ca, client), &settings(5));
        assert_eq!(
            refused.kind(),
            ErrorKind::PermissionDenied,
            "{ca}, {client}: {refused}"
        );
    }
    let plain = refused(
        &cluster.url("locks"),
        &Settings {
            request_timeout: Duration::from_millis(400),
            ..settings(5)
        },
    );
    assert_eq!(plain.kind(), ErrorKind::NotConnected, "{plain}");
}
