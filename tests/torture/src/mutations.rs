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
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde::Serialize;

use crate::cargo::{Ran, cargo, complete, target_dir, workspace};

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

/// What became of one.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    /// Which.
    pub name: String,
    /// What is wrong.
    pub bug: String,
    /// The tests that failed.
    pub caught_by: Vec<String>,
    /// Why it does not count as caught, if it does not.
    pub trouble: Option<String>,
    /// How long it took to build and to run, in seconds.
    pub seconds: f64,
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
    let copy = Copy::new()?;
    let passed = copy.passes(&all)?;
    if !json {
        println!(
            "their tests pass without any, in {:.0} s",
            passed.as_secs_f64()
        );
        println!("| name | bug | caught by | time |\n|---|---|---|---|");
    }
    let mut caught = 0;
    for mutation in &all {
        let verdict = copy.verdict(mutation);
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

/// A copy of the sources that may be broken.
#[derive(Debug)]
pub struct Copy {
    folder: PathBuf,
    sources: Vec<PathBuf>,
}

impl Copy {
    /// Makes one, or brings the one of the last time up to date.
    ///
    /// # Errors
    ///
    /// Those of files, and of `git`.
    pub fn new() -> anyhow::Result<Self> {
        let mut list = Command::new("git");
        list.args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ]);
        let list = complete(list.current_dir(workspace()))?;
        ensure!(list.success(), "git ls-files: {}", list.output);
        let sources = list.output.split('\0').filter(|name| !name.is_empty());
        let copy = Self {
            folder: target_dir().join("mutations/tree"),
            sources: sources.map(PathBuf::from).collect(),
        };
        copy.restore()?;
        Ok(copy)
    }

    /// Undoes what a patch did. Files that are as they should be keep their time, so that they are
    /// not built anew.
    fn restore(&self) -> anyhow::Result<()> {
        for source in &self.sources {
            let (from, to) = (workspace().join(source), self.folder.join(source));
            let Ok(content) = fs::read(&from) else {
                // Removed, and not yet from the index.
                continue;
            };
            if fs::read(&to).is_ok_and(|there| there == content) {
                continue;
            }
            fs::create_dir_all(to.parent().context("a folder")?)?;
            fs::write(&to, content).with_context(|| to.display().to_string())?;
        }
        Ok(())
    }

    fn apply(&self, patch: &Path) -> anyhow::Result<()> {
        let mut apply = Command::new("git");
        apply.arg("apply").arg(patch).current_dir(&self.folder);
        // It is no part of any repository, though it may lie in the folder of one.
        apply.env("GIT_CEILING_DIRECTORIES", target_dir().join("mutations"));
        let applied = complete(&mut apply)?;
        if !applied.success() {
            let patch = patch.display();
            bail!(
                "does not apply any more; make {patch} anew: {}",
                applied.output
            );
        }
        Ok(())
    }

    /// Runs some tests on what is there now.
    fn test(&self, tests: &[String]) -> anyhow::Result<Ran> {
        let mut command = cargo(["nextest", "run", "-p", "locket-host"]);
        command.args(["--features", "sandbox", "--profile", "mutations"]);
        command.args(["--no-fail-fast", "--color", "never"]);
        let mut filter = Vec::new();
        let mut binaries = Vec::new();
        for test in tests {
            let (binary, name) = test.split_once("::").context("a test without a binary")?;
            filter.push(match binary {
                "lib" => format!("(kind(lib) & test(={name}))"),
                _ => format!("(binary(={binary}) & test(={name}))"),
            });
            if !binaries.contains(&binary) {
                binaries.push(binary);
            }
        }
        for binary in binaries {
            match binary {
                "lib" => command.arg("--lib"),
                _ => command.args(["--test", binary]),
            };
        }
        command.arg("-E").arg(filter.join(" | "));
        command.current_dir(&self.folder);
        command.env("CARGO_TARGET_DIR", target_dir().join("mutations/target"));
        command.env("CARGO_PROFILE_DEV_DEBUG", "false");
        // It is enough to know that a history fails.
        command.env("PROPTEST_MAX_SHRINK_ITERS", "0");
        complete(&mut command)
    }

    /// Whether the tests of all these pass on sources without any bug on purpose.
    ///
    /// # Errors
    ///
    /// That they do not, or could not be run.
    pub fn passes(&self, mutations: &[Mutation]) -> anyhow::Result<Duration> {
        let start = Instant::now();
        let mut tests: Vec<_> = mutations.iter().flat_map(|m| m.tests.clone()).collect();
        tests.sort();
        tests.dedup();
        let ran = self.test(&tests)?;
        ensure!(ran.success(), "without any patch: {}", ran.output);
        let passed: u64 = ran.numbers("passed").iter().sum();
        ensure!(
            passed == tests.len() as u64,
            "there are {passed} of {} tests: {}",
            tests.len(),
            ran.output
        );
        Ok(start.elapsed())
    }

    /// Whether the suite notices a bug.
    pub fn verdict(&self, mutation: &Mutation) -> Verdict {
        let start = Instant::now();
        let caught = self.try_out(mutation);
        let restored = self.restore();
        let (caught_by, trouble) = match (caught, restored) {
            (Ok(caught_by), Ok(())) => (caught_by, None),
            (Err(e), _) | (_, Err(e)) => (Vec::new(), Some(format!("{e:#}"))),
        };
        Verdict {
            name: mutation.name.clone(),
            bug: mutation.bug.clone(),
            caught_by,
            trouble,
            seconds: start.elapsed().as_secs_f64(),
        }
    }

    fn try_out(&self, mutation: &Mutation) -> anyhow::Result<Vec<String>> {
        self.apply(&mutation.patch)?;
        judge(&self.test(&mutation.tests)?)
    }
}

/// The tests that failed, if that is what the runner ended with.
fn judge(ran: &Ran) -> anyhow::Result<Vec<String>> {
    /// As nextest documents it.
    const TESTS_FAILED: i32 = 100;
    match ran.code {
        Some(0) => bail!("not caught"),
        Some(TESTS_FAILED) => {}
        _ => bail!(
            "no test failed, but the build, or the runner: {}",
            ran.output
        ),
    }
    let mut failed: Vec<_> = ran.output.lines().filter_map(failed_test).collect();
    failed.sort();
    failed.dedup();
    ensure!(
        !failed.is_empty(),
        "nobody knows which test failed: {}",
        ran.output
    );
    Ok(failed)
}

/// The test of a line that says that one failed, and whether it had to be stopped.
fn failed_test(line: &str) -> Option<String> {
    let (status, rest) = line.trim_start().split_once(" [")?;
    let test = rest.split_once(']')?.1;
    let mut words = test.split_whitespace().rev();
    let (name, binary) = (words.next()?, words.next()?);
    let binary = binary.strip_prefix("locket::").unwrap_or("lib");
    match status {
        "TIMEOUT" => Some(format!("{binary}::{name} (hung)")),
        "FAIL" | "ABORT" => Some(format!("{binary}::{name}")),
        _ => status
            .starts_with("SIG")
            .then(|| format!("{binary}::{name}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ran(code: i32, output: &str) -> Ran {
        Ran {
            code: Some(code),
            output: output.into(),
        }
    }

    #[test]
    fn only_a_test_that_fails_catches_a_bug() {
        let output = "
            PASS [   0.010s] (1/3) locket::engine a_pass
            FAIL [   0.012s] (2/3) locket::engine a_failure
         TIMEOUT [  30.012s] (3/3) locket a::module::hangs
            FAIL [   0.012s] (2/3) locket::engine a_failure
        ";
        let caught = judge(&ran(100, output)).expect("a catch");
        assert_eq!(
            caught,
            ["engine::a_failure", "lib::a::module::hangs (hung)"]
        );
        assert!(judge(&ran(0, "PASS [ 0.1s] locket::engine a_pass")).is_err());
        assert!(judge(&ran(101, "error[E0308]: mismatched types")).is_err());
        assert!(judge(&ran(4, "error: no tests to run")).is_err());
        assert!(judge(&ran(100, "")).is_err());
    }

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
