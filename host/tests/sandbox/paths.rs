//! The path of a guest, which can be any string, leads to a file in what is granted or to an error of a
//! kind that a path can cause, and never anywhere else.

use std::os::unix::fs::symlink;

use proptest::prelude::{Strategy, prop_oneof};
use proptest::test_runner::{Config, TestRunner};

use super::path_tree::{Outcome, PathTree};
use super::*;

const PROTOCOLS: [Protocol; 3] = [Protocol::Native, Protocol::Soft, Protocol::Link];

#[test]
fn a_grant_ends_where_its_name_does() {
    let dir = Dir::new();
    let guest = guest(&Engine::new(), dir.0.path(), Limits::new());
    assert!(open(&guest, "/jobs/lock").is_ok());
    for outside in ["/jobsworth/lock", "/job/lock", "/lock", "lock"] {
        assert!(open(&guest, outside).unwrap_err().is_denied(), "{outside}");
    }
}

#[test]
fn no_link_leads_out() {
    let (dir, outside) = (Dir::new(), Dir::new());
    fs::write(outside.path("there"), "").unwrap();
    symlink(outside.path("there"), dir.path("to_file")).unwrap();
    symlink(outside.path("missing"), dir.path("to_nothing")).unwrap();
    symlink(outside.0.path(), dir.path("to_folder")).unwrap();
    symlink(dir.path("in_grant"), dir.path("absolute")).unwrap();
    let guest = guest(&Engine::new(), dir.0.path(), Limits::new());
    for path in [
        "to_file",
        "to_nothing",
        "to_folder/there",
        "to_folder/new",
        "absolute",
        "../there",
        "a/../../there",
    ] {
        let error = open(&guest, &format!("/jobs/{path}")).unwrap_err();
        assert!(error.is_invalid_path() || error.is_not_found(), "{error}");
    }
    let names = fs::read_dir(outside.0.path()).unwrap();
    assert_eq!(names.count(), 1);
    assert!(!dir.path("in_grant").exists());
}

#[test]
fn paths_that_lead_nowhere_else() {
    let tree = PathTree::new();
    for (path, outcome) in [
        ("file", Outcome::Locked),
        ("/jobs/file", Outcome::Locked),
        ("/jobs/new", Outcome::Locked),
        ("folder/../file", Outcome::Locked),
        ("out/file", Outcome::Refused),
        ("up/outside/file", Outcome::Refused),
        ("file_out", Outcome::Refused),
        ("new_out", Outcome::Refused),
        ("around", Outcome::Refused),
        ("../outside/file", Outcome::Refused),
        ("jobs/absolute/file", Outcome::Refused),
        ("root/etc/passwd", Outcome::Refused),
        ("loop", Outcome::Refused),
        ("", Outcome::Refused),
    ] {
        assert_eq!(tree.go(path, Protocol::Native), outcome, "{path}");
    }
}

#[test]
fn the_corpus_stays_inside() {
    let tree = PathTree::new();
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/guest_paths");
    let mut paths = 0;
    for entry in fs::read_dir(corpus).unwrap() {
        let path = fs::read_to_string(entry.unwrap().path()).unwrap();
        for protocol in PROTOCOLS {
            tree.go(&path, protocol);
        }
        paths += 1;
    }
    assert!(paths >= 5);
}

#[test]
fn any_path_stays_inside() {
    let tree = PathTree::new();
    let part = "file|folder|jobs|out|up|root|absolute|file_out|new_out|in|loop|around|outside\
                |new|\\.|\\.\\.|\\.\\.\\.|\\PC{1,8}|.{1,4}|a{300}";
    let parts = proptest::collection::vec(part, 0..6);
    let paths = prop_oneof![
        parts.clone().prop_map(|parts| parts.join("/")),
        parts.prop_map(|parts| format!("/{}", parts.join("/"))),
        ".{0,40}",
    ];
    let config = Config {
        cases: 1000,
        failure_persistence: None,
        ..Config::default()
    };
    let result = TestRunner::new(config).run(&paths, |path| {
        for protocol in PROTOCOLS {
            tree.go(&path, protocol);
        }
        Ok(())
    });
    result.unwrap();
}
