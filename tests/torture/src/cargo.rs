//! Runs cargo and other commands, and reads what they print.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context as _;

/// The folder of the workspace.
pub fn workspace() -> &'static Path {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    tests
        .and_then(Path::parent)
        .expect("the workspace is two levels above this package")
}

/// The target folder.
pub fn target_dir() -> PathBuf {
    let dir = std::env::var_os("CARGO_TARGET_DIR");
    workspace().join(dir.map_or_else(|| "target".into(), PathBuf::from))
}

/// How a command ended.
#[derive(Debug)]
pub struct Ran {
    /// Its exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// Everything that it printed.
    pub output: String,
}

impl Ran {
    /// Whether it succeeded.
    pub fn success(&self) -> bool {
        self.code == Some(0)
    }

    /// The numbers that stand before a word, in all lines.
    pub fn numbers(&self, word: &str) -> Vec<u64> {
        let words: Vec<_> = self.output.split_whitespace().collect();
        let before = words
            .windows(2)
            .filter(|pair| pair[1].trim_end_matches(',') == word);
        before.filter_map(|pair| pair[0].parse().ok()).collect()
    }

    /// The start of what it printed after the first panic, and the end.
    pub fn failure(&self) -> String {
        const MOST: usize = 2000;
        let end = |text: &str| text.floor_char_boundary(text.len().min(MOST));
        let start = self.output.find("panicked at").unwrap_or_default();
        let first = &self.output[start..];
        let (first, rest) = first.split_at(end(first));
        let last = rest.ceil_char_boundary(rest.len().saturating_sub(MOST));
        format!("{first}\n…\n{}", &rest[last..])
    }

    /// The last lines that it printed.
    pub fn end(&self) -> String {
        const LINES: usize = 20;
        let lines: Vec<_> = self.output.lines().collect();
        lines[lines.len().saturating_sub(LINES)..].join("\n")
    }
}

/// Cargo, in the workspace.
pub fn cargo(args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(args).current_dir(workspace());
    // The message says more than the backtrace.
    cargo.env("RUST_BACKTRACE", "0");
    cargo
}

/// Runs a command to its end.
///
/// # Errors
///
/// That it could not be run.
pub fn complete(command: &mut Command) -> anyhow::Result<Ran> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("cannot run {command:?}"))?;
    let printed = [output.stdout, output.stderr].concat();
    Ok(Ran {
        code: output.status.code(),
        output: String::from_utf8_lossy(&printed).into_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_panics_are_found_in_the_output() {
        let printed = "2 histories, 30 calls\nthread panicked at here: why\n5 histories, 1 calls";
        let ran = complete(Command::new("echo").arg(printed)).expect("the command can be run");
        assert!(ran.success());
        assert_eq!(ran.numbers("histories"), [2, 5]);
        assert_eq!(ran.numbers("calls"), [30, 1]);
        assert!(ran.failure().starts_with("panicked at here"));
        assert!(
            !complete(&mut Command::new("false"))
                .expect("the command can be run")
                .success()
        );
    }
}
