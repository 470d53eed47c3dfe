//! Any string for the path of a guest: it leads to a file in what is granted, or to an error of a kind
//! that a path can cause, and never anywhere else.
#![cfg(all(target_os = "linux", feature = "sandbox"))]

mod maze;

use std::fs;
use std::path::Path;

use locket::Protocol;
use maze::{Came, Maze};
use proptest::prelude::{Strategy, prop_oneof};
use proptest::test_runner::{Config, TestRunner};

const PROTOCOLS: [Protocol; 3] = [Protocol::Native, Protocol::Soft, Protocol::Link];

#[test]
fn ways_that_lead_nowhere_else() {
    let maze = Maze::new();
    for (path, came) in [
        ("file", Came::Locked),
        ("/jobs/file", Came::Locked),
        ("/jobs/new", Came::Locked),
        ("folder/../file", Came::Locked),
        ("out/file", Came::Refused),
        ("up/outside/file", Came::Refused),
        ("file_out", Came::Refused),
        ("new_out", Came::Refused),
        ("around", Came::Refused),
        ("../outside/file", Came::Refused),
        ("jobs/absolute/file", Came::Refused),
        ("root/etc/passwd", Came::Refused),
        ("loop", Came::Refused),
        ("", Came::Refused),
    ] {
        assert_eq!(maze.go(path, Protocol::Native), came, "{path}");
    }
}

#[test]
fn the_corpus_stays_inside() {
    let maze = Maze::new();
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/guest_paths");
    let mut paths = 0;
    for entry in fs::read_dir(corpus).unwrap() {
        let path = fs::read_to_string(entry.unwrap().path()).unwrap();
        for protocol in PROTOCOLS {
            maze.go(&path, protocol);
        }
        paths += 1;
    }
    assert!(paths >= 5);
}

#[test]
fn any_path_stays_inside() {
    let maze = Maze::new();
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
            maze.go(&path, protocol);
        }
        Ok(())
    });
    result.unwrap();
}
