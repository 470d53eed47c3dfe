//! Rules for files: how long they are, and what is in one place.

use std::fs;
use std::path::{Path, PathBuf};

use crate::root;

/// Folders of what is built, installed or downloaded, and of patches, which are other files' lines.
const NOT_SOURCES: &[&str] = &[
    "target",
    "node_modules",
    "__pycache__",
    "built",
    "mutations",
    ".git",
    "deps",
];

/// Generated, or one thing that a reader wants to see whole.
const MAY_BE_LONG: &[&str] = &[
    "guest/c/locket_wit.c",
    "guest/c/locket_wit.h",
    "guest/go/internal/imports/locket_lock_api/wit_bindings.go",
    "guest/go/internal/imports/locket_lock_ranges/wit_bindings.go",
    // The interface, most of which is its documentation.
    "wit/lock.wit",
];

const LONGEST: usize = 400;

/// The files below a folder, relative to the root of the repository; links are not followed.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let entries = fs::read_dir(root().join(folder)).unwrap();
    for entry in entries.map(Result::unwrap) {
        let path = folder.join(entry.file_name());
        let kind = entry.file_type().unwrap();
        if kind.is_dir() && !NOT_SOURCES.iter().any(|name| path.ends_with(name)) {
            found.extend(files(&path));
        } else if kind.is_file() {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The Rust files below a folder.
pub(crate) fn rust_files(folder: &str) -> Vec<PathBuf> {
    let mut found = files(Path::new(folder));
    found.retain(|path| path.extension().is_some_and(|extension| extension == "rs"));
    found
}

/// What is written in a file of the repository.
pub(crate) fn source(path: &Path) -> String {
    let read = fs::read_to_string(root().join(path));
    read.unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Everything of ours that is text.
fn texts() -> impl Iterator<Item = (PathBuf, String)> {
    let all = ["guest", "host", "tests", "wit"];
    let all = all.into_iter().flat_map(|folder| files(Path::new(folder)));
    all.filter(|path| path.extension().is_none_or(|extension| extension != "lock"))
        .filter_map(|path| Some((path.clone(), fs::read_to_string(root().join(path)).ok()?)))
}

#[test]
fn no_file_is_too_long_to_read() {
    let long: Vec<_> = texts()
        .filter(|(path, _)| !MAY_BE_LONG.iter().any(|name| path.ends_with(name)))
        .map(|(path, text)| (text.lines().count(), path))
        .filter(|(lines, _)| *lines > LONGEST)
        .collect();
    assert!(long.is_empty(), "more than {LONGEST} lines: {long:#?}");
}

/// Whether a line begins the item `start`, whatever its visibility.
fn is_item(line: &str, start: &str) -> bool {
    let line = line.trim_start();
    line.starts_with(start)
        || line.starts_with("pub")
            && line
                .split_once(' ')
                .is_some_and(|(_, item)| item.starts_with(start))
}

#[test]
fn the_times_that_tests_wait_are_defined_once() {
    for name in ["STUCK", "QUIESCENT", "AT_ONCE"] {
        let definition = format!("const {name}:");
        let found: Vec<_> = rust_files("host")
            .into_iter()
            .chain(rust_files("tests"))
            .chain(rust_files("guest"))
            .filter(|path| source(path).lines().any(|line| is_item(line, &definition)))
            .collect();
        assert!(found.len() == 1, "{name} is defined in {found:?}");
    }
}

#[test]
fn examples_in_pages_are_compiled() {
    let rust: Vec<_> = rust_files("host")
        .into_iter()
        .chain(rust_files("tests"))
        .chain(rust_files("guest"))
        .collect();
    let mut pages: Vec<_> = texts().map(|(path, _)| path).collect();
    pages.push("README.md".into());
    pages.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    for page in pages {
        let has_examples = source(&page)
            .lines()
            .any(|line| line.starts_with("```rust"));
        let real = root().join(&page).canonicalize().unwrap();
        let includes = |path: &PathBuf| {
            let text = source(path);
            let mut names = text.split("include_str!(\"").skip(1);
            names.any(|rest| {
                let name = rest.split('"').next().unwrap();
                let named = root().join(path).parent().unwrap().join(name);
                named.canonicalize().is_ok_and(|named| named == real)
            })
        };
        let compiled = !has_examples || rust.iter().any(includes);
        assert!(
            compiled,
            "no documentation test includes {}",
            page.display()
        );
    }
}
