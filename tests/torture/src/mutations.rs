//! Mutation tests: each patch in `mutations` breaks one promise, and the suite must notice.
//!
//! A patch begins with its bug and the tests that notice it (`binary::test`, or `lib::test` for unit
//! tests of the engine). The sources are copied once, beneath the target folder, and patched there.
//! First those tests must pass without any patch. Then each patch must apply, compile, and make at
//! least one of its tests fail, or hang until the runner stops it by name. A bug that is a race may
//! spare a test now and then, so the tests run up to three times before it counts as not caught; the
//! verdict says if it took more than one.
//!
//! The header `Needs: servers` is for bugs in the locks of etcd and PostgreSQL: they are built with the
//! clients of those, and their tests start the servers.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{bail, ensure};
use locket_test_support::servers;

use self::tree::Tree;
use crate::cargo::{complete, workspace};

pub use self::tree::Verdict;

mod tree;

/// A bug, and the tests that must notice it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Mutation {
    /// The name of its patch.
    pub name: String,
    /// What is wrong.
    pub bug: String,
    /// The tests that notice, each as `binary::test`.
    pub tests: Vec<String>,
    /// What its tests take.
    pub needs: Needs,
    patch: PathBuf,
}

/// What the tests of a mutation take, beyond the engine.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Needs {
    /// Nothing.
    Nothing,
    /// Lock servers, and `protoc` to build the client of one of them.
    Servers,
}

impl Needs {
    fn features(self) -> &'static str {
        match self {
            Self::Nothing => "sandbox,sqlite",
            Self::Servers => "etcd,postgres",
        }
    }

    /// What is not installed.
    fn missing(self) -> Vec<&'static str> {
        let servers = [
            ("etcd", servers::etcd::is_installed()),
            ("PostgreSQL", servers::postgres::is_installed()),
            (
                "protoc",
                Command::new("protoc").arg("--version").output().is_ok(),
            ),
        ];
        let missing = servers.into_iter().filter(|(_, is_there)| !is_there);
        match self {
            Self::Nothing => Vec::new(),
            Self::Servers => missing.map(|(name, _)| name).collect(),
        }
    }
}

/// All mutations, sorted by name.
///
/// # Errors
///
/// A patch without its bug or tests; those of files.
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

/// Tries all mutations, or those that are named, or one in so many, and prints the verdict on each;
/// returns whether each was noticed.
///
/// # Errors
///
/// A name without a patch; a failure of the suite without any patch.
pub fn gate(names: &[String], one_in: u64, json: bool) -> anyhow::Result<bool> {
    let mut all = all()?;
    for name in names {
        let known = all.iter().any(|mutation| mutation.name == *name);
        ensure!(known, "there is no patch {name}");
    }
    all.retain(|mutation| names.is_empty() || names.contains(&mutation.name));
    if one_in > 1 {
        let (first, planted) = (commits()?, all.len());
        let mut number = first;
        all.retain(|_| {
            number += 1;
            number % one_in == 0
        });
        if !json {
            let chosen = all.len();
            println!(
                "NOT TESTED: {} of {planted}, which other commits test",
                planted - chosen
            );
        }
    }
    let missing = Needs::Servers.missing();
    if !missing.is_empty() && all.iter().any(|m| m.needs == Needs::Servers) {
        let missing = missing.join(", ");
        ensure!(
            std::env::var_os("CI").is_none() && names.is_empty(),
            "not installed: {missing}"
        );
        all.retain(|mutation| mutation.needs == Needs::Nothing);
        if !json {
            println!("NOT TESTED: the locks of servers; not installed: {missing}");
        }
    }
    let tree = Tree::new()?;
    let passed = tree.passes(&all)?;
    if !json {
        println!(
            "the tests pass without any patch, in {:.0} s",
            passed.as_secs_f64()
        );
        println!("| name | bug | caught by | time |\n|---|---|---|---|");
    }
    let mut missed = Vec::new();
    for mutation in &all {
        let verdict = tree.verdict(mutation);
        match json {
            true => println!("{}", serde_json::to_string(&verdict)?),
            false => println!("{}", row(&verdict)),
        }
        if verdict.trouble.is_some() {
            missed.push(verdict);
        }
    }
    if !json {
        println!("\n{} of {} caught", all.len() - missed.len(), all.len());
        for Verdict { name, trouble, .. } in &missed {
            println!("\n{name}: {}", trouble.as_deref().unwrap_or_default());
        }
    }
    Ok(missed.is_empty())
}

/// How many commits there are.
fn commits() -> anyhow::Result<u64> {
    let mut count = Command::new("git");
    count.args(["rev-list", "--count", "HEAD"]);
    let count = complete(count.current_dir(workspace()))?;
    ensure!(count.success(), "git rev-list: {}", count.output);
    Ok(count.output.trim().parse()?)
}

/// A row of the table. What went wrong has many lines, which follow at the end.
fn row(verdict: &Verdict) -> String {
    let by = match (&verdict.trouble, verdict.runs) {
        (Some(_), _) => "NOT CAUGHT, see below".to_owned(),
        (None, 1) => verdict.caught_by.join(", "),
        (None, runs) => format!("{}, on run {runs}", verdict.caught_by.join(", ")),
    };
    let (name, bug, seconds) = (&verdict.name, &verdict.bug, verdict.seconds);
    format!("| {name} | {bug} | {by} | {seconds:.0} s |")
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
        ensure!(
            !tests.is_empty(),
            "{name} does not say which test must fail"
        );
        let needs = match &header("Needs")[..] {
            [] => Needs::Nothing,
            [needs] if needs == "servers" => Needs::Servers,
            other => bail!("{name} needs what is not known: {other:?}"),
        };
        Ok(Self {
            bug: header("Bug").join(" "),
            name: name.into_owned(),
            tests,
            needs,
            patch,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_patch_has_a_bug_and_tests() {
        let all = all().expect("all patches can be read");
        assert!(all.len() >= 16);
        for mutation in all {
            assert!(!mutation.bug.is_empty(), "{}", mutation.name);
            assert!(mutation.tests.iter().all(|test| test.contains("::")));
            let remote =
                |test: &String| test.starts_with("remote::") || test.contains("::remote::");
            let remote = mutation.tests.iter().any(remote);
            assert!(
                !remote || mutation.needs == Needs::Servers,
                "{}",
                mutation.name
            );
        }
    }
}
