//! The table in `tests/README.md` lists every promise and every test of one.

use crate::{root, source};

const README: &str = "tests/README.md";
const PROMISES: &str = "tests/support/src/promises";
/// The suites that make the tests of the promises, and what only some subjects can show.
const SUITES: [&str; 2] = ["host/tests/promises", "tests/tests/promises"];

/// The names of the Rust files of a folder, without their extension.
fn modules(folder: &str) -> Vec<String> {
    let entries = root().join(folder).read_dir();
    let entries = entries.unwrap_or_else(|e| panic!("{folder}: {e}"));
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let names = names.filter_map(|name| Some(name.strip_suffix(".rs")?.to_owned()));
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

/// The words in backquotes.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn every_promise_is_in_the_table() {
    let readme = source(README);
    let rows = readme.lines().filter_map(|line| {
        let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
        let number: usize = cells.first()?.parse().ok()?;
        Some((
            number,
            cells[1].trim_matches('`').to_owned(),
            cells[4].to_owned(),
        ))
    });
    let rows: Vec<_> = rows.collect();
    let listed: Vec<_> = rows.iter().map(|(_, promise, _)| promise.clone()).collect();
    let mut files = modules(PROMISES);
    files.retain(|file| file != "foreign_programs");
    assert_eq!(listed, files);
    let list = source("tests/support/src/promises.rs");
    let [engine, whole] = SUITES.map(|suite| source(&format!("{suite}/main.rs")));
    for (number, promise, stands) in rows {
        assert!(promise.starts_with(&format!("p{number:02}_")), "{promise}");
        let said = source(&format!("{PROMISES}/{promise}.rs"));
        assert!(
            said.starts_with(&format!("//! Promise {number}: ")),
            "{promise}"
        );
        // Once as a module, and once in the list of the macro.
        let mut words = list.split(|c: char| c != '_' && !c.is_alphanumeric());
        let times = words.by_ref().filter(|word| *word == promise).count();
        assert!(times >= 2, "the macro does not make tests of {promise}");
        assert!(stands.starts_with("all"), "{promise}: {stands}");
        let both = whole.contains(&promise);
        assert_eq!(both, stands == "all", "{promise} with guests and native");
    }
    for (suite, stands) in [
        (engine, ["Engines", "Threads"]),
        (whole, ["Peers", "Guests"]),
    ] {
        for stand in stands {
            let tests = format!("promises!({stand}[");
            assert!(suite.contains(&tests), "no test of {stand}");
        }
    }
}

#[test]
fn every_test_beside_the_promises_is_in_the_table_and_exists() {
    let readme = source(README);
    let mut listed: Vec<_> = quoted(&readme)
        .filter(|name| name.matches("::").count() == 1)
        .filter(|name| !name.ends_with("p03_waits"))
        .collect();
    listed.sort_unstable();
    let mut tests = Vec::new();
    for suite in SUITES {
        for module in modules(suite) {
            let text = source(&format!("{suite}/{module}.rs"));
            let mut lines = text.lines().map(str::trim);
            while lines.by_ref().any(|line| line == "#[test]") {
                let mut after = lines.by_ref().filter_map(|line| line.strip_prefix("fn "));
                let name = after.next().and_then(|line| line.split('(').next());
                tests.push(format!("{module}::{}", name.expect("a test has a name")));
            }
        }
    }
    tests.sort();
    assert_eq!(listed, tests);
}
