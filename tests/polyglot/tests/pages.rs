//! The pages of the languages, word for word: what they tell a reader to save and to run, in empty folders
//! outside of the repository.

use polyglot::machine::Machine;
use polyglot::{Language, page, root};
use std::fs;
use std::path::Path;

type Result<T = (), E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// The pages whose commands are run, and how many sessions each has.
const PAGES: [(&str, usize); 7] = [
    ("guest/README.md", 1),
    ("guest/assemblyscript/README.md", 1),
    ("guest/c/README.md", 1),
    ("guest/go/README.md", 1),
    ("guest/js/README.md", 2),
    ("guest/python/README.md", 1),
    ("guest/zig/README.md", 1),
];

/// Those that are not, and why.
const OTHERS: [(&str, &str); 2] = [
    (
        "guest/provider/README.md",
        "its tools `wac` and `wasmtime` take long to build; the tests of the provider do the same with libraries",
    ),
    (
        "guest/sqlite/README.md",
        "the reader has a program of their own; the tests of SQLite build it alike",
    ),
];

/// Follows one session of a page.
fn follow(machine: Machine, page: &str, session: usize) -> Result {
    Ok(machine.follow(&page::sessions(Path::new(page))?[session])?)
}

fn is_ready(language: &str) -> bool {
    Language::named(language).expect("a language").is_ready()
}

#[test]
fn every_page_is_followed_or_it_is_said_why_not() -> Result {
    let mut pages: Vec<_> = PAGES.map(|(page, _)| page).into();
    for (page, why) in OTHERS {
        println!("NOT RUN: the commands of {page}: {why}");
        pages.push(page);
    }
    let mut found = vec!["guest/README.md".to_owned()];
    for entry in fs::read_dir(root().join("guest"))? {
        let entry = entry?;
        let page = entry.path().join("README.md");
        // The interface is there by a link, and has no commands.
        if page.exists() && entry.file_type()?.is_dir() {
            found.push(page.strip_prefix(root())?.display().to_string());
        }
    }
    found.sort();
    pages.sort_unstable();
    assert_eq!(found, pages);
    for (page, count) in PAGES {
        assert_eq!(page::sessions(Path::new(page))?.len(), count, "{page}");
    }
    Ok(())
}

#[test]
fn assemblyscript() -> Result {
    if !is_ready("assemblyscript") {
        return Ok(());
    }
    follow(Machine::node(), "guest/assemblyscript/README.md", 0)
}

#[test]
fn c_and_cpp() -> Result {
    if !is_ready("c") {
        return Ok(());
    }
    follow(Machine::zig()?, "guest/c/README.md", 0)
}

#[test]
fn go() -> Result {
    if !is_ready("go") {
        return Ok(());
    }
    // All is in the folder that the page has copied.
    follow(Machine::go()?, "guest/go/README.md", 0)
}

#[test]
fn javascript() -> Result {
    if !is_ready("javascript") {
        return Ok(());
    }
    follow(Machine::node(), "guest/js/README.md", 0)
}

#[test]
fn typescript_and_starlingmonkey() -> Result {
    if !is_ready("typescript") {
        return Ok(());
    }
    follow(Machine::node(), "guest/js/README.md", 1)
}

#[test]
fn python() -> Result {
    if !is_ready("python") {
        return Ok(());
    }
    follow(Machine::plain(), "guest/python/README.md", 0)
}

#[test]
fn rust() -> Result {
    if !is_ready("rust") {
        return Ok(());
    }
    follow(Machine::rust()?, "guest/README.md", 0)
}

#[test]
fn zig_itself() -> Result {
    if !is_ready("zig") {
        return Ok(());
    }
    follow(Machine::zig()?, "guest/zig/README.md", 0)
}
