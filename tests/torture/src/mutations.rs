//! Bugs on purpose: each of the patches beside this crate breaks one promise, and the suite must
//! notice.
//!
//! A patch begins with what it does and which tests notice (`binary::test`, `lib` for those within
//! the crate). The sources are copied once, beneath the target folder, and patched there. First those
//! tests must pass without any; then each patch must apply, compile, and make at least one of its
//! tests fail, or hang for so long that the runner stops it and says which it was.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::ensure;

use self::tree::Tree;

pub use self::tree::Verdict;

mod tree;

/// A bug, and who must notice.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Mutation {
    /// The name of its patch.
    pub name: String,
    /// What is wrong.
    pub bug: String,
    /// The tests that notice, each as `binary::test`.
    pub tests: Vec<String>,
    patch: PathBuf,
}

/// All there are, in the order of their names.
///
/// # Errors
///
/// One that does not say what it is.
pub fn all() -> anyhow::Result<Vec<Mutation>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("mutations");
    let files = fs::read_dir(&folder)?.collect::<io::Result<Vec<_>>>()?;
    let paths = files.into_iter().map(|file| file.path());
    let patches = paths.filter(|path| path.extension().is_some_and(|end| end == "patch"));
    let mut all = patches
        .map(Mutation::read)
        .collect::<anyhow::Result<Vec<_>>>()?;
    all.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(all)
}

/// Tries out all bugs, or those that are named, and says what came of each; whether every one was
/// noticed.
///
/// # Errors
///
/// That it could not be tried, or that the suite fails without any bug on purpose.
pub fn gate(names: &[String], json: bool) -> anyhow::Result<bool> {
    let mut all = all()?;
    for name in names {
        let known = all.iter().any(|mutation| mutation.name == *name);
        ensure!(known, "there is no patch {name}");
    }
    all.retain(|mutation| names.is_empty() || names.contains(&mutation.name));
    let tree = Tree::new()?;
    let passed = tree.passes(&all)?;
    if !json {
        println!(
            "their tests pass without any, in {:.0} s",
            passed.as_secs_f64()
        );
        println!("| name | bug | caught by | time |\n|---|---|---|---|");
    }
    let mut caught = 0;
    for mutation in &all {
        let verdict = tree.verdict(mutation);
        caught += usize::from(verdict.trouble.is_none());
        if json {
            println!("{}", serde_json::to_string(&verdict)?);
            continue;
        }
        let (name, bug, seconds) = (&verdict.name, &verdict.bug, verdict.seconds);
        let by = match &verdict.trouble {
            Some(trouble) => format!("NOBODY: {trouble}"),
            None => verdict.caught_by.join(", "),
        };
        println!("| {name} | {bug} | {by} | {seconds:.0} s |");
    }
    if !json {
        println!("\n{caught} of {} caught", all.len());
    }
    Ok(caught == all.len())
}

impl Mutation {
    fn read(patch: PathBuf) -> anyhow::Result<Self> {
        let text = fs::read_to_string(&patch)?;
        let name = patch.file_stem().unwrap_or_default().to_string_lossy();
        let header = |key: &str| {
            let lines = text.lines().take_while(|line| !line.starts_with("diff "));
            let values = lines.filter_map(|line| line.strip_prefix(key)?.strip_prefix(": "));
            values.map(str::to_owned).collect::<Vec<_>>()
        };
        let tests = header("Test");
        ensure!(!tests.is_empty(), "{name} does not say which test notices");
        Ok(Self {
            bug: header("Bug").join(" "),
            name: name.into_owned(),
            tests,
            patch,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_patch_says_what_it_is() {
        let all = all().expect("patches");
        assert!(all.len() >= 16);
        for mutation in all {
            assert!(!mutation.bug.is_empty(), "{}", mutation.name);
            assert!(mutation.tests.iter().all(|test| test.contains("::")));
        }
    }
}
