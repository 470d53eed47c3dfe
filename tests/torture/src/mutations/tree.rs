//! A copy of the sources in which a patch is applied and tested.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde::Serialize;

use super::{Mutation, Needs};
use crate::cargo::{Ran, cargo, complete, target_dir, workspace};

/// What came of a mutation.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    /// Which.
    pub name: String,
    /// What is wrong.
    pub bug: String,
    /// The tests that failed.
    pub caught_by: Vec<String>,
    /// How often the tests ran: until one failed.
    pub runs: u32,
    /// Why it does not count as caught, if it does not.
    pub trouble: Option<String>,
    /// How long building and running took, in seconds.
    pub seconds: f64,
}

/// How often the tests run before a bug counts as not caught.
const RUNS: u32 = 3;

/// A copy of the sources.
#[derive(Debug)]
pub(super) struct Tree {
    folder: PathBuf,
    sources: Vec<PathBuf>,
}

impl Tree {
    /// Makes a copy, or updates the one of the last run.
    ///
    /// # Errors
    ///
    /// Those of files, and of `git`.
    pub(super) fn new() -> anyhow::Result<Self> {
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
        let tree = Self {
            folder: target_dir().join("mutations/tree"),
            sources: sources.map(PathBuf::from).collect(),
        };
        tree.remove_others(Path::new(""))?;
        tree.restore()?;
        Ok(tree)
    }

    /// Removes what is not a source any more: cargo would find tests among it.
    fn remove_others(&self, folder: &Path) -> anyhow::Result<()> {
        let Ok(entries) = fs::read_dir(self.folder.join(folder)) else {
            return Ok(());
        };
        for entry in entries {
            let entry = entry?;
            let path = folder.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                self.remove_others(&path)?;
            } else if !self.sources.contains(&path) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// Undoes a patch. Unchanged files keep their times, so that they are not built again.
    fn restore(&self) -> anyhow::Result<()> {
        for source in &self.sources {
            let (from, to) = (workspace().join(source), self.folder.join(source));
            let Ok(content) = fs::read(&from) else {
                // It was removed, but not yet from the index.
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
        // The copy is not part of a repository, although it may lie in one.
        apply.env("GIT_CEILING_DIRECTORIES", target_dir().join("mutations"));
        let applied = complete(&mut apply)?;
        if !applied.success() {
            let patch = patch.display();
            bail!(
                "does not apply any more; make {patch} again: {}",
                applied.output
            );
        }
        Ok(())
    }

    /// Runs some tests on the sources as they are now.
    fn test(&self, tests: &[String], needs: Needs) -> anyhow::Result<Ran> {
        let mut command = cargo(["nextest", "run", "-p", "locket-host"]);
        command.args(["--features", needs.features(), "--profile", "mutations"]);
        if needs == Needs::Servers {
            // A test without its server would pass, and so be taken for one that notices nothing.
            command.env("CI", "true");
        }
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
        // It is enough to know that a history fails; shrinking it takes time.
        command.env("PROPTEST_MAX_SHRINK_ITERS", "0");
        complete(&mut command)
    }

    /// Checks that the tests of all these mutations pass without any patch; returns how long that took.
    ///
    /// # Errors
    ///
    /// A test that fails, or cannot be run.
    pub(super) fn passes(&self, mutations: &[Mutation]) -> anyhow::Result<Duration> {
        let start = Instant::now();
        for needs in [Needs::Nothing, Needs::Servers] {
            let own = mutations.iter().filter(|mutation| mutation.needs == needs);
            let mut tests: Vec<_> = own.flat_map(|m| m.tests.clone()).collect();
            if tests.is_empty() {
                continue;
            }
            tests.sort();
            tests.dedup();
            let ran = self.test(&tests, needs)?;
            ensure!(ran.success(), "without any patch: {}", ran.output);
            let passed: u64 = ran.numbers("passed").iter().sum();
            ensure!(
                passed == tests.len() as u64,
                "{passed} of {} tests ran: {}",
                tests.len(),
                ran.output
            );
        }
        Ok(start.elapsed())
    }

    /// Whether the suite notices a mutation.
    pub(super) fn verdict(&self, mutation: &Mutation) -> Verdict {
        let start = Instant::now();
        let mut runs = 0;
        let caught = self.try_out(mutation, &mut runs);
        let restored = self.restore();
        let (caught_by, trouble) = match (caught, restored) {
            (Ok(caught_by), Ok(())) => (caught_by, None),
            (Err(e), _) | (_, Err(e)) => (Vec::new(), Some(format!("{e:#}"))),
        };
        Verdict {
            name: mutation.name.clone(),
            bug: mutation.bug.clone(),
            caught_by,
            runs,
            trouble,
            seconds: start.elapsed().as_secs_f64(),
        }
    }

    /// Counts the runs in `runs`.
    fn try_out(&self, mutation: &Mutation, runs: &mut u32) -> anyhow::Result<Vec<String>> {
        self.apply(&mutation.patch)?;
        loop {
            *runs += 1;
            let ran = self.test(&mutation.tests, mutation.needs)?;
            if !ran.success() {
                return failed_tests(&ran);
            }
            ensure!(
                *runs < RUNS,
                "every test passed, {RUNS} times: {}",
                ran.end()
            );
        }
    }
}

/// The tests that failed; an error if the runner ended for another reason.
fn failed_tests(ran: &Ran) -> anyhow::Result<Vec<String>> {
    /// As nextest documents it.
    const TESTS_FAILED: i32 = 100;
    ensure!(
        ran.code == Some(TESTS_FAILED),
        "the build or the runner failed, not a test: {}",
        ran.end()
    );
    let mut failed: Vec<_> = ran.output.lines().filter_map(failed_test).collect();
    failed.sort();
    failed.dedup();
    ensure!(
        !failed.is_empty(),
        "the output does not name the test that failed: {}",
        ran.end()
    );
    Ok(failed)
}

/// The test named in a line about a failure, and whether it had to be stopped.
fn failed_test(line: &str) -> Option<String> {
    let (status, rest) = line.trim_start().split_once(" [")?;
    let test = rest.split_once(']')?.1;
    let mut words = test.split_whitespace().rev();
    let (name, binary) = (words.next()?, words.next()?);
    let binary = binary.split_once("::").map_or("lib", |(_, binary)| binary);
    // A test that fails may also leave a process behind, which is noted after it.
    match status.split(" + ").next()? {
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
            PASS [   0.010s] (1/3) locket-host::engine a_pass
     FAIL + LEAK [   0.012s] (2/3) locket-host::engine a_failure
         TIMEOUT [  30.012s] (3/3) locket-host a::module::hangs
            FAIL [   0.012s] (2/3) locket-host::engine a_failure
        ";
        let caught = failed_tests(&ran(100, output)).expect("the bug is caught");
        assert_eq!(
            caught,
            ["engine::a_failure", "lib::a::module::hangs (hung)"]
        );
        assert!(failed_tests(&ran(101, "error[E0308]: mismatched types")).is_err());
        assert!(failed_tests(&ran(4, "error: no tests to run")).is_err());
        assert!(failed_tests(&ran(100, "")).is_err());
    }
}
