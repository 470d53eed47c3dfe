//! Who plays a script, and how.
//!
//! A line begins with a process and the number of its connection. What follows is one of the commands
//! in `guests/sqlite/steps.c`, or SQL:
//!
//! ```text
//! A0 open mode=ro         opens the database `db`; options are those of a URI
//! B1 select n from t
//! ! rename db other       what the test itself does in the folder
//! ! unprivileged          from here on, processes start as a user with no rights
//! ```

use locket_tests::process::Process;
use polyglot::sqlite::program::{Program, Side};
use std::cell::Cell;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;

use crate::Result;

/// The sides of `A` and `B`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cast(pub(crate) [Side; 2]);

/// Someone else than root, to whom permissions do not apply.
const UNPRIVILEGED: u32 = 65534;

struct Actor<'a> {
    program: &'a Program,
    side: Side,
    data: &'a Path,
    is_privileged: &'a Cell<bool>,
    process: Option<Process>,
}

impl Actor<'_> {
    /// Starts at its first line, so that the script has set the stage.
    fn process(&mut self) -> &mut Process {
        self.process.get_or_insert_with(|| {
            let mut command = self.side.command(self.program, self.data);
            command.arg(self.side.vfs());
            if !self.is_privileged.get() && rustix::process::geteuid().is_root() {
                let cache = polyglot::folder().join("unprivileged");
                fs::create_dir_all(&cache).expect("the folder can be written");
                permit(&cache, 0o777).expect("it is ours");
                command.uid(UNPRIVILEGED).env("XDG_CACHE_HOME", cache);
            }
            Process::spawn(&mut command)
        })
    }

    fn answer(&mut self, connection: &str, line: &str) -> String {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let folder = self.side.folder(self.data);
        let line = match word {
            "open" => format!("open {connection} file:{folder}/db?{rest}"),
            "close" | "moved" | "sleep" | "wait" => format!("{word} {connection} {rest}"),
            _ => format!("sql {connection} {}", line.replace("FOLDER", &folder)),
        };
        self.process().ask(&line)
    }
}

/// Each line of the script with its answer.
pub(crate) fn play(program: &Program, cast: Cast, script: &str) -> Result<Vec<String>> {
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("data");
    fs::create_dir(&data)?;
    permit(folder.path(), 0o755)?;
    let is_privileged = Cell::new(true);
    let mut actors = cast.0.map(|side| Actor {
        program,
        side,
        data: &data,
        is_privileged: &is_privileged,
        process: None,
    });
    let mut answers = Vec::new();
    for line in script
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
    {
        let (who, what) = line.split_once(' ').expect("a line has words");
        let actor = match &who[..1] {
            "A" => Some(&mut actors[0]),
            "B" => Some(&mut actors[1]),
            _ => None,
        };
        let answer = match (actor, what) {
            (Some(actor), "dies") => {
                actor.process = None;
                String::new()
            }
            (Some(actor), what) => actor.answer(&who[1..], what),
            (None, "unprivileged") => {
                is_privileged.set(false);
                String::new()
            }
            (None, what) => set(&data, what)?,
        };
        answers.push(format!("{line} -> {answer}"));
    }
    Ok(answers)
}

/// Does something in the folder.
fn set(data: &Path, what: &str) -> Result<String> {
    let words: Vec<_> = what.split(' ').collect();
    let path = |name: &str| data.join(name);
    match words[..] {
        ["list"] => {
            let names = fs::read_dir(data)?.map(|file| Ok(file?.file_name()));
            let mut names = names.collect::<Result<Vec<_>>>()?;
            names.sort();
            return Ok(format!("{names:?}"));
        }
        ["rename", from, to] => fs::rename(path(from), path(to))?,
        ["copy", from, to] => drop(fs::copy(path(from), path(to))?),
        ["remove", name] => fs::remove_file(path(name))?,
        ["permit", mode, name] => {
            permit(&path(name), u32::from_str_radix(mode, 8)?)?;
        }
        _ => return Err(format!("no such step: {what}").into()),
    }
    Ok(String::new())
}

fn permit(path: &Path, mode: u32) -> std::io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}
