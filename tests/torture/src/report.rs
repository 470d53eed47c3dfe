//! What came of a run: in the terminal, in `results.json`, and in the tables of the README.
//!
//! `results.json` has the last report of each stage, as `run --json` prints it. The tables are rendered
//! from it, from the list of the stages, and from the patches of the mutation tests; a test compares
//! them with the README.

pub mod markdown;
pub mod results;
pub mod terminal;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use self::results::Results;
use crate::mutations;

/// The README of this package.
pub fn readme() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")
}

/// A README with its tables rendered anew.
///
/// # Errors
///
/// Those of files; a table that has no place in the text; that this was built without Wasmtime, and so
/// does not know every stage.
pub fn render(readme: &str) -> Result<String> {
    ensure!(
        cfg!(feature = "components"),
        "the README is about all stages; this was built without the feature `components`"
    );
    let results = Results::load()?;
    let tables = [
        ("stages", markdown::stages(&results)),
        ("attacks", markdown::attacks(&results)),
        ("mutations", markdown::mutations(&mutations::all()?)),
    ];
    tables
        .iter()
        .try_fold(readme.to_owned(), |text, (name, table)| {
            replace(&text, name, table)
        })
}

/// Renders the tables of the README in place.
///
/// # Errors
///
/// As [`render`].
pub fn update_readme() -> Result<()> {
    let text = fs::read_to_string(readme())?;
    let rendered = render(&text)?;
    if rendered != text {
        fs::write(readme(), rendered)?;
    }
    Ok(())
}

/// Puts a table between its markers.
fn replace(text: &str, name: &str, table: &str) -> Result<String> {
    let (start, end) = (
        format!("<!-- generated: {name} -->\n"),
        "<!-- end of generated text -->",
    );
    let missing = || format!("the README has no place for the table `{name}`");
    let (before, rest) = text.split_once(&start).with_context(missing)?;
    let (_, after) = rest.split_once(end).with_context(missing)?;
    Ok(format!("{before}{start}\n{table}\n{end}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_put_between_its_markers_and_nowhere_else() {
        let text = "a\n<!-- generated: one -->\nold\n<!-- end of generated text -->\nb\n";
        let replaced = replace(text, "one", "new\n").expect("the markers are there");
        assert_eq!(
            replaced,
            "a\n<!-- generated: one -->\n\nnew\n\n<!-- end of generated text -->\nb\n"
        );
        assert_eq!(
            replace(&replaced, "one", "new\n").expect("the markers are there"),
            replaced
        );
        assert!(replace(text, "other", "new\n").is_err());
    }

    #[test]
    #[cfg(all(feature = "components", feature = "servers"))]
    fn the_tables_of_the_readme_are_up_to_date() {
        let text = fs::read_to_string(readme()).expect("the README can be read");
        let rendered = render(&text).expect("the tables can be rendered");
        assert!(
            rendered == text,
            "run `cargo torture report` to render the tables of the README"
        );
    }
}
