//! File systems without locks, that hang, and that lie.

use locket_test_support::fuse::Locks;
use serde_json::json;

use super::{ALL, Checked, file_system, mounted};
use crate::support::{locket, output};

#[test]
fn behind_fuse_other_hosts_are_not_known() {
    let Some(files) = file_system(Locks::OfKernel) else {
        return;
    };
    let checked = Checked::dir(files.dir());
    assert_eq!(checked.with("this-host-only"), ALL, "{:#}", checked.report);
    assert_eq!(checked.code, Some(1));
    assert_eq!(checked.report["file_system"]["type"], json!("fuse"));
    assert_eq!(checked.report["recommended"], json!("native"));
}

#[test]
fn without_locks_another_protocol_is_recommended() {
    let Some(files) = file_system(Locks::Refused) else {
        return;
    };
    let checked = Checked::dir(files.dir());
    let unsupported = checked.with("not-supported");
    assert_eq!(
        unsupported[..3],
        ["native", "flock", "fcntl"],
        "{:#}",
        checked.report
    );
    assert_eq!(checked.report["recommended"], json!("link"));
    assert_eq!(checked.code, Some(1));
    let text = output(locket(&["check", files.dir().to_str().unwrap()])).stdout;
    let text = String::from_utf8(text).unwrap();
    assert!(
        text.contains("native    not supported     Function not implemented\n"),
        "{text}"
    );
}

#[test]
fn if_every_lock_is_granted_none_excludes() {
    let Some(files) = file_system(Locks::Granted) else {
        return;
    };
    let checked = Checked::dir(files.dir());
    let lies = checked.with("does-not-exclude");
    assert_eq!(
        lies[..3],
        ["native", "flock", "fcntl"],
        "{:#}",
        checked.report
    );
    assert!(lies.contains(&"sqlite"), "{lies:?}");
    assert_eq!(checked.report["tries"]["flock"]["exclusive"], json!("no"));
    assert_eq!(checked.report["tries"]["record"]["exclusive"], json!("no"));
    assert_eq!(checked.code, Some(1));
}

#[test]
fn a_wait_that_cannot_be_interrupted_is_told() {
    let Some(files) = mounted(Locks::Kept, false) else {
        return;
    };
    let checked = Checked::dir(files.dir());
    let tries = &checked.report["tries"];
    for family in ["flock", "record"] {
        assert_eq!(tries[family]["granted"], json!("yes"), "{tries:#}");
        assert_eq!(
            tries[family]["interrupted"],
            json!("no-answer"),
            "{tries:#}"
        );
    }
    let notes = checked.notes();
    assert!(
        notes.contains("a wait for `flock` cannot be interrupted"),
        "{notes}"
    );
}

#[test]
fn a_lock_that_hangs_is_a_verdict() {
    let Some(files) = file_system(Locks::Unanswered) else {
        return;
    };
    let checked = Checked::dir(files.dir());
    let hangs = checked.with("hangs");
    assert_eq!(
        hangs[..3],
        ["native", "flock", "fcntl"],
        "{:#}",
        checked.report
    );
    assert_eq!(
        checked.report["tries"]["flock"]["exclusive"],
        json!("no-answer")
    );
    // The rest was tried meanwhile.
    assert_eq!(checked.report["tries"]["names"]["exchange"], json!("yes"));
    assert_eq!(checked.code, Some(1));
}

#[test]
fn a_file_system_that_hangs_is_a_verdict() {
    let Some(mut files) = file_system(Locks::OfKernel) else {
        return;
    };
    files.stop();
    let checked = Checked::dir(files.dir());
    files.resume();
    assert_eq!(checked.with("hangs"), ALL, "{:#}", checked.report);
    assert_eq!(checked.report["answers"], json!(false));
    assert_eq!(checked.report["file_system"]["type"], json!("fuse"));
    assert_eq!(checked.report["recommended"], json!(null));
    assert_eq!(checked.code, Some(69));
}
