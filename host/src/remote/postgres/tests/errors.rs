//! What goes wrong before there is a lock: errors by kind, within the timeout.

use std::io;

use locket_test_support::servers::free_port;
use locket_test_support::servers::postgres::Pooler;

use super::*;

/// Why the first try fails, and that a wait fails for the same reason.
#[track_caller]
fn refusal(url: &str, password: Option<&str>) -> io::Error {
    let settings = Settings {
        password: password.map(str::to_owned),
        ..settings()
    };
    let remote = Postgres::new(url, &settings).expect("the URL is one of a server");
    let seat = seat(&remote, "refused");
    let error = seat
        .wait(Mode::Exclusive, NEVER, &Stop::default())
        .unwrap_err();
    let tried = seat.try_lock(Mode::Exclusive).unwrap_err();
    assert_eq!(error.kind(), tried.kind(), "{error}; {tried}");
    assert_eq!(remote.holder("refused").unwrap_err().kind(), error.kind());
    assert_eq!(seat.standing(), Standing::Free);
    error
}

#[track_caller]
fn invalid(url: &str) -> String {
    let error = Postgres::new(url, &settings()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    error.to_string()
}

#[test]
fn urls_and_names() {
    let error = invalid("postgres://user:secret@localhost/db");
    assert!(!error.contains("secret"), "{error}");
    let error = invalid("postgres://localhost/db?user=user&password=secret");
    assert!(!error.contains("secret"), "{error}");
    for wrong in [
        "sslmode=allow",
        "fencing=maybe",
        "port=x",
        "unknown=1",
        "sslmode=verify-full",
    ] {
        invalid(&format!("postgres://localhost/db?{wrong}"));
    }
    invalid("postgres://localhost/db?sslmode=verify-ca&sslrootcert=/no/such/file");
    invalid("postgres://localhost/db?sslcert=/no/such/file");
    let remote = remote("postgres://user@localhost/db?fencing=require");
    assert!(remote.guarantee().fencing);
    for name in ["", "a\0b", &"x".repeat(1025)] {
        let error = remote.check_name(name).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
    for name in ["/", "jobs/nightly", "🔒", &"x".repeat(1024)] {
        remote.check_name(name).unwrap();
    }
    assert!(!format!("{remote:?}").contains("secret"));
}

#[test]
fn a_server_that_is_not_there() {
    let port = free_port();
    let error = refusal(&format!("postgres://user@127.0.0.1:{port}/db"), None);
    assert_eq!(error.kind(), ErrorKind::NotConnected, "{error}");
    assert!(error.to_string().contains(&port.to_string()), "{error}");
    // One that takes connections and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let settings = Settings {
        request_timeout: QUIESCENT,
        ..settings()
    };
    let remote = Postgres::new(&format!("postgres://user@127.0.0.1:{port}/db"), &settings).unwrap();
    let seat = seat(&remote, "silent");
    let error = seat
        .wait(Mode::Exclusive, NEVER, &Stop::default())
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotConnected, "{error}");
    assert_eq!(
        remote.break_lock("silent").unwrap_err().kind(),
        ErrorKind::NotConnected
    );
}

#[test]
fn passwords_and_permissions() {
    let Some(cluster) = &Cluster::start(&[]) else {
        return;
    };
    cluster.sql("CREATE ROLE guarded LOGIN PASSWORD 'right'");
    cluster.sql("CREATE ROLE plain LOGIN");
    let guarded = cluster.url("guarded");
    for password in [Some("wrong"), None] {
        let error = refusal(&guarded, password);
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
        assert!(!error.to_string().contains("wrong"), "{error}");
    }
    let none = cluster.url("postgres") + "?dbname=none";
    let error = refusal(&none, None);
    assert_eq!(error.kind(), ErrorKind::NotConnected, "{error}");

    // Tokens as far as the role may.
    let plain = cluster.url("plain");
    let error = refusal(&format!("{plain}?fencing=require"), None);
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
    let without = remote(&plain);
    let held = seat(&without, "held");
    assert!(held.try_lock(Mode::Exclusive).unwrap());
    held.renew().unwrap();
    assert!(matches!(held.standing(), Standing::Held(grant) if grant.token.is_none()));
    assert!(!without.guarantee().fencing);
    let warnings = without.warnings();
    assert!(warnings[0].contains("locket_token"), "{warnings:?}");

    let settings = Settings {
        password: Some("right".into()),
        ..settings()
    };
    cluster.sql("GRANT CREATE ON SCHEMA public TO guarded");
    let owner = Postgres::new(&format!("{guarded}?fencing=require"), &settings).unwrap();
    let owned = seat(&owner, "owned");
    assert!(owned.try_lock(Mode::Exclusive).unwrap());
    assert_eq!(token(&owned), 1);
    let error = refusal(&format!("{plain}?fencing=require"), None);
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
    cluster.sql("GRANT USAGE ON SEQUENCE public.locket_token TO plain");
    let may = remote(&format!("{plain}?fencing=require"));
    let third = seat(&may, "third");
    assert!(third.try_lock(Mode::Exclusive).unwrap());
    assert_eq!(token(&third), 2);
    cluster.sql("ALTER SEQUENCE public.locket_token CACHE 2");
    let error = refusal(&format!("{plain}?fencing=require"), None);
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");

    // One role may not end the sessions of another.
    let error = without.break_lock("owned").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
    assert!(is_held(&owned));
}

#[test]
fn certificates() {
    let Some(cluster) = &Cluster::start(&["ssl=on"]) else {
        return;
    };
    let (url, dir) = (cluster.url("postgres"), cluster.dir().display());
    let localhost = url.replace("127.0.0.1", "localhost");
    let works = |url: &str| {
        let remote = remote(url);
        let seat = seat(&remote, "secret");
        assert!(seat.try_lock(Mode::Exclusive).unwrap(), "{url}");
        let ssl =
            "SELECT ssl FROM pg_stat_ssl JOIN pg_locks USING (pid) WHERE locktype = 'advisory'";
        assert_eq!(
            cluster.sql(ssl),
            if url.contains("disable") { "f" } else { "t" }
        );
        // A cancel request travels in the same way.
        let second = remote.seat("secret", &Arc::default());
        let error = second.wait(Mode::Exclusive, after(QUIESCENT), &Stop::default());
        assert_eq!(error.unwrap_err().kind(), ErrorKind::TimedOut);
        seat.unlock().unwrap();
        nothing_is_left(cluster);
    };
    works(&url);
    works(&format!("{url}?sslmode=disable"));
    works(&format!("{url}?sslmode=require"));
    works(&format!(
        "{url}?sslmode=verify-ca&sslrootcert={dir}/root.crt"
    ));
    let full = format!("sslmode=verify-full&sslrootcert={dir}/root.crt");
    works(&format!("{localhost}?{full}"));
    for wrong in [
        format!("{url}?{full}"),
        format!("{localhost}?sslmode=verify-ca&sslrootcert={dir}/other.crt"),
        format!("{localhost}?sslmode=require&sslrootcert={dir}/other.crt"),
    ] {
        let error = refusal(&wrong, None);
        assert_eq!(
            error.kind(),
            ErrorKind::PermissionDenied,
            "{wrong}: {error}"
        );
    }
    cluster.sql("CREATE ROLE certified LOGIN");
    let certified = localhost.replace("//postgres@", "//certified@");
    let error = refusal(&format!("{certified}?{full}"), None);
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
    works(&format!(
        "{certified}?{full}&sslcert={dir}/client.crt&sslkey={dir}/client.key"
    ));
}

#[test]
fn servers_without_tls_and_standbys() {
    let Some(mut cluster) = Cluster::start(&[]) else {
        return;
    };
    let url = cluster.url("postgres");
    let error = refusal(&format!("{url}?sslmode=require"), None);
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    cluster.shut_down();
    cluster.become_standby();
    cluster.restart();
    let error = refusal(&url, None);
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(error.to_string().contains("standby"), "{error}");
}

#[test]
fn poolers_that_move_sessions_are_refused() {
    let Some(cluster) = &Cluster::start(&[]) else {
        return;
    };
    for mode in ["transaction", "statement"] {
        for round_robin in [false, true] {
            let Some(pooler) = Pooler::start(cluster, mode, round_robin) else {
                return;
            };
            for _ in 0..5 {
                let error = refusal(&pooler.url(), None);
                assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
                assert!(error.to_string().contains("pooler"), "{error}");
            }
        }
    }
    nothing_is_left(cluster);
    let Some(pooler) = Pooler::start(cluster, "session", false) else {
        return;
    };
    let remote = remote(&pooler.url());
    let (one, two) = (seat(&remote, "pooled"), seat(&remote, "pooled"));
    assert!(one.try_lock(Mode::Exclusive).unwrap());
    assert!(!two.try_lock(Mode::Shared).unwrap());
    let error = two.wait(Mode::Exclusive, after(QUIESCENT), &Stop::default());
    assert_eq!(error.unwrap_err().kind(), ErrorKind::TimedOut);
    one.unlock().unwrap();
    assert!(two.try_lock(Mode::Exclusive).unwrap());
}

/// What no seat can bring about by itself: it holds nothing while it waits.
#[test]
fn a_deadlock_among_others_is_told_as_one() {
    let Some(cluster) = &Cluster::start(&[]) else {
        return;
    };
    let remote = remote(&cluster.url("postgres"));
    let raise = "DO $$ BEGIN RAISE 'a circle' USING ERRCODE = '40P01'; END $$";
    let error = remote.ask(raise.into(), |_| ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Deadlock, "{error}");
}
