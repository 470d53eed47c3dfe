//! Settings that a host reads from its files, and reports that it writes.
#![cfg(all(feature = "serde", feature = "sandbox", not(any(loom, shuttle))))]

use std::time::Duration;

use locket::sandbox::{Limits, Rights, Sandbox};
use locket::{Engine, Mode, OnRelease, Protocol};
use serde_json::{from_str, from_value, json, to_value};

#[test]
fn rights_are_names() {
    for rights in 0..64 {
        let single = [
            Rights::SHARED,
            Rights::EXCLUSIVE,
            Rights::CREATE,
            Rights::REMOVE,
            Rights::EXISTENCE,
            Rights::BREAK,
        ];
        let chosen = single
            .into_iter()
            .zip(0..)
            .filter(|(_, bit)| rights >> bit & 1 == 1);
        let rights = chosen.fold(Rights::NONE, |all, (right, _)| all | right);
        let written = to_value(rights).unwrap();
        assert_eq!(written, json!(rights.to_string()));
        assert_eq!(from_value::<Rights>(written).unwrap(), rights);
    }
    assert_eq!(
        from_str::<Rights>(r#""locks|break""#).unwrap(),
        Rights::LOCKS | Rights::BREAK
    );
    assert_eq!(
        from_str::<Rights>(r#"" read-only | create ""#).unwrap(),
        Rights::READ_ONLY | Rights::CREATE
    );
    // With an escape, the name is not a part of the text.
    assert_eq!(from_str::<Rights>(r#""\u0061ll""#).unwrap(), Rights::ALL);
    for unknown in [r#""""#, r#""lock""#, r#""locks,break""#, "3", "null"] {
        assert!(from_str::<Rights>(unknown).is_err(), "{unknown}");
    }
    let error = from_str::<Rights>(r#""write""#).unwrap_err().to_string();
    assert!(
        error.contains(r#""write""#) && error.contains("read-write"),
        "{error}"
    );
}

#[test]
fn limits_have_their_defaults_and_no_unknown_names() {
    assert_eq!(from_str::<Limits>("{}").unwrap(), Limits::new());
    let read: Limits = from_value(json!({
        "handles": 10, "held": 2, "waiters": 3, "created": 0, "path-length": 100,
        "longest-wait": 1.5, "longest-hold": null,
    }))
    .unwrap();
    let same = Limits::new()
        .handles(10)
        .held(2)
        .waiters(3)
        .created(0)
        .path_length(100);
    let same = same.longest_wait(Some(Duration::from_millis(1500)));
    assert_eq!(read, same);
    for limits in [
        Limits::new(),
        same.longest_hold(Some(Duration::from_secs(60))),
    ] {
        let written = to_value(&limits).unwrap();
        assert_eq!(from_value::<Limits>(written).unwrap(), limits);
    }
    for wrong in [
        r#"{"path_length": 1}"#,
        r#"{"hold": 1}"#,
        r#"{"held": -1}"#,
        r#"{"longest-wait": -1}"#,
        r#"{"longest-wait": 1e300}"#,
        r#"{"longest-hold": "1 s"}"#,
    ] {
        assert!(from_str::<Limits>(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn protocols_are_names() {
    for protocol in Protocol::ALL {
        let written = to_value(protocol).unwrap();
        assert_eq!(written, json!(protocol.to_string()));
        assert_eq!(from_value::<Protocol>(written).unwrap(), *protocol);
    }
    assert!(from_str::<Protocol>(r#""lockf""#).is_err());
}

#[test]
fn reports_have_plain_names_and_seconds() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::new();
    let guest = Sandbox::builder(&engine).label("alice").tag("call 1");
    let guest = guest.grant_dir(dir.path(), "/jobs", Rights::LOCKS);
    let guest = guest.unwrap().build();
    let lock = guest.open("/jobs/a", None, OnRelease::Keep).unwrap();
    let _hold = lock.acquire(Mode::Shared, None).unwrap();
    let ranges = guest.open_ranges("/jobs/b").unwrap();
    ranges.lock(Mode::Exclusive, 5..8, None).unwrap();

    let mut snapshot = to_value(engine.snapshot()).unwrap();
    let since = snapshot["locks"][0]["holders"][0]["since"].take();
    assert!(since.as_f64().is_some_and(|since| since >= 0.0), "{since}");
    assert_eq!(
        snapshot["ranges"].take(),
        json!([{
            "path": dir.path().join("b"),
            "label": "alice",
            "tag": "call 1",
            "held": [{"mode": "exclusive", "range": {"start": 5, "length": 3}}],
            "waiting": 0,
        }])
    );
    let expected = json!({
        "ranges": null,
        "locks": [{
            "path": dir.path().join("a"),
            "protocol": "native",
            "awaited_elsewhere": false,
            "holders": [
                {"label": "alice", "tag": "call 1", "guest": true, "mode": "shared", "since": null},
            ],
            "waiters": [],
        }],
        "totals": {
            "granted": 1, "granted_after_wait": 0, "waited": 0.0, "given_up": 0, "lost": 0,
        },
    });
    assert_eq!(snapshot, expected);
    drop(ranges);
    let mut claim = to_value(&guest.holds()[0]).unwrap();
    assert!(claim["since"].take().is_f64());
    let expected =
        json!({"path": "/jobs/a", "protocol": "native", "mode": "shared", "since": null});
    assert_eq!(claim, expected);
    let usage = to_value(guest.usage()).unwrap();
    assert_eq!(
        usage,
        json!({"handles": 1, "held": 1, "waiters": 0, "created": 2})
    );
}
