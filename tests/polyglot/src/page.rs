//! Pages whose commands are run, as a reader runs them.
//!
//! A paragraph with the words "empty folder" begins a session. It consists of what follows in the page: blocks
//! of the language `console`, with commands after `$ ` and what they print, in which `…` stands for anything;
//! and blocks after a paragraph that ends with the name of a file and a colon, which are saved.

use anyhow::{Context, Result, bail, ensure};
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::root;

/// What a reader of a page does.
///
/// # Errors
///
/// If there is no such page, or it has commands outside of a session.
pub fn sessions(page: &Path) -> Result<Vec<Session>> {
    parse(&text(page)?)
}

/// What a reader of a page does once its text has been changed: each of the first texts has to be there, and
/// the second takes its place.
///
/// # Errors
///
/// If there is no such page, it lacks one of the texts, or it has commands outside of a session.
pub fn changed(page: &Path, changes: &[(&str, &str)]) -> Result<Vec<Session>> {
    let mut text = text(page)?;
    for (old, new) in changes {
        ensure!(text.contains(old), "{} lacks {old:?}", page.display());
        text = text.replace(old, new);
    }
    parse(&text)
}

fn text(page: &Path) -> Result<String> {
    fs::read_to_string(root().join(page)).with_context(|| page.display().to_string())
}

/// What a reader does in an empty folder.
#[derive(Debug, Default)]
pub struct Session {
    steps: Vec<Step>,
}

#[derive(Debug)]
enum Step {
    Save { name: String, content: String },
    Run { command: String, shown: String },
}

/// What a reader of a text does.
///
/// # Errors
///
/// If it has commands outside of a session.
pub fn parse(text: &str) -> Result<Vec<Session>> {
    let mut sessions = Vec::<Session>::new();
    let mut paragraph = String::new();
    let mut is_complete = true;
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let block = line.strip_prefix("```");
        if !is_complete && (line.is_empty() || block.is_some()) {
            is_complete = true;
            if paragraph.contains("empty folder") {
                sessions.push(Session::default());
            }
        }
        let Some(language) = block else {
            if is_complete && !line.is_empty() {
                is_complete = false;
                paragraph.clear();
            }
            paragraph.extend([line, " "]);
            continue;
        };
        let block: Vec<_> = lines.by_ref().take_while(|line| *line != "```").collect();
        let steps = match (language, saved_as(&paragraph)) {
            ("console", _) => commands(&block)?,
            (_, Some(name)) => vec![Step::Save {
                name: name.into(),
                content: block.join("\n"),
            }],
            _ => Vec::new(),
        };
        paragraph.clear();
        if steps.is_empty() {
            continue;
        }
        let session = sessions.last_mut();
        let session = session.with_context(|| format!("not in an empty folder: {}", block[0]))?;
        session.steps.extend(steps);
    }
    Ok(sessions)
}

/// The name of a file at the end of a paragraph.
fn saved_as(paragraph: &str) -> Option<&str> {
    let (_, name) = paragraph.trim_end().strip_suffix("`:")?.rsplit_once('`')?;
    Some(name)
}

fn commands(block: &[&str]) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    let mut is_continued = false;
    for line in block {
        if let Some(command) = line.strip_prefix("$ ") {
            steps.push(Step::Run {
                command: command.into(),
                shown: String::new(),
            });
        } else {
            let Some(Step::Run { command, shown }) = steps.last_mut() else {
                bail!("no command prints {line:?}");
            };
            let text = if is_continued { command } else { shown };
            text.push_str(&format!("\n{line}"));
        }
        is_continued = line.ends_with('\\');
    }
    Ok(steps)
}

impl Session {
    /// Runs the commands in a shell after others that no reader sees, in an empty folder, and compares what
    /// they print.
    ///
    /// # Errors
    ///
    /// If a command fails, or prints something else.
    pub fn run(&self, prelude: &str, environment: &[(&str, OsString)]) -> Result<()> {
        let folder = tempfile::tempdir()?;
        let output = Command::new("bash")
            .args(["-c", &self.script(prelude)])
            .current_dir(&folder)
            .env("LOCKET", root())
            .envs(environment.iter().cloned())
            .stdin(Stdio::null())
            .output()?;
        let printed = String::from_utf8_lossy(&output.stdout);
        let mut printed = printed.split(MARK).skip(1);
        for step in &self.steps {
            let Step::Run { command, shown } = step else {
                continue;
            };
            let found = printed.next().unwrap_or_default();
            println!("$ {command}\n{found}");
            let is_last = printed.clone().next().is_none();
            ensure!(
                output.status.success() || !is_last,
                "`{command}` fails:\n{found}"
            );
            ensure!(
                shown.is_empty() || matches(shown.trim(), found.trim()),
                "`{command}` prints\n{found}\nand not\n{}",
                shown.trim()
            );
        }
        Ok(())
    }

    fn script(&self, prelude: &str) -> String {
        let mut script = format!("exec 2>&1\n{prelude}\n");
        for step in &self.steps {
            script += &match step {
                Step::Save { name, content } => format!(
                    "mkdir -p \"$(dirname '{name}')\"\ncat > '{name}' <<'{MARK}'\n{content}\n{MARK}\n"
                ),
                Step::Run { command, .. } => {
                    format!("echo '{MARK}'\n{command}\n(( $? == 0 )) || exit\n")
                }
            };
        }
        script
    }
}

/// A line that no command prints.
const MARK: &str = "-- the next command of the page --";

/// Whether a text is what a page shows.
fn matches(shown: &str, found: &str) -> bool {
    let mut parts = shown.split('…');
    let Some(mut rest) = found.strip_prefix(parts.next().unwrap_or_default()) else {
        return false;
    };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    true
}
