//! The processes that touch the directory, which may hang.

#[cfg(unix)]
#[path = "calls/unix.rs"]
mod calls;
#[cfg(windows)]
#[path = "calls/windows.rs"]
mod calls;
#[cfg(target_os = "linux")]
mod notifications;
#[cfg(not(target_os = "linux"))]
#[path = "worker/no_notifications.rs"]
mod notifications;

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use locket::{Engine, Guard, Options};

use self::notifications::Notifications;
use super::keeper;
use super::step::{Answer, Answered, Entry, Mode, Opening, Slot, Step};

/// Try something out for `locket check`: each step on standard input, in a line
#[derive(Args, Debug)]
pub(crate) struct CheckWorker {
    /// Make a scratch directory in DIR, and remove it at the end of the input
    #[arg(long)]
    keep: bool,

    dir: PathBuf,
}

impl CheckWorker {
    pub(crate) fn run(self) -> anyhow::Result<u8> {
        if self.keep {
            return keeper::keep(&self.dir);
        }
        // It may wait for a lock that is never granted.
        let lines = calls::lines_or_end()?;
        let mut actor = Actor {
            dir: self.dir,
            files: Vec::new(),
            notifications: None,
            engine: Engine::new(),
            guard: None,
        };
        say(&Ok(Answer::Done))?;
        for line in lines {
            say(&actor.answer(serde_json::from_str(&line?)?))?;
        }
        Ok(0)
    }
}

fn say(answered: &Answered) -> anyhow::Result<()> {
    let mut output = io::stdout().lock();
    writeln!(output, "{}", serde_json::to_string(answered)?)?;
    Ok(output.flush()?)
}

struct Actor {
    dir: PathBuf,
    files: Vec<Option<File>>,
    notifications: Option<Notifications>,
    engine: Engine,
    guard: Option<Guard>,
}

impl Actor {
    fn answer(&mut self, step: Step) -> Answered {
        self.take(step).or_else(|e| match e.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::AlreadyExists => Ok(Answer::Refused),
            io::ErrorKind::Interrupted => Ok(Answer::Interrupted),
            _ => Err(self.words(&e)),
        })
    }

    /// What went wrong, without the number of the error and without the scratch directory.
    fn words(&self, error: &io::Error) -> String {
        match error.raw_os_error() {
            Some(number) => {
                let words = io::Error::from_raw_os_error(number).to_string();
                let end = words.find(" (os error").unwrap_or(words.len());
                words[..end].to_owned()
            }
            None => {
                let dir = format!("{}/", self.dir.display());
                error.to_string().replace(&dir, "")
            }
        }
    }

    fn take(&mut self, step: Step) -> io::Result<Answer> {
        match step {
            Step::Open(slot, name, opening) => self.open(slot, &name, opening)?,
            Step::Lock(slot, how) => calls::lock(self.file(slot)?, how)?,
            Step::Unlock(slot, family) => calls::unlock(self.file(slot)?, family)?,
            Step::Make(name, entry) => self.make(&name, entry)?,
            Step::Rename(from, to) => fs::rename(self.path(&from), self.path(&to))?,
            Step::RenameNew(from, to) => calls::rename_new(&self.path(&from), &self.path(&to))?,
            Step::Exchange(from, to) => calls::exchange(&self.path(&from), &self.path(&to))?,
            Step::Remove(name) => fs::remove_file(self.path(&name))?,
            Step::Named(name) => return calls::inode_at(&self.path(&name)),
            Step::Opened(slot) => return calls::inode(self.file(slot)?),
            Step::SetAttribute(name, value) => {
                calls::set_attribute(&self.path(&name), value.as_bytes())?;
            }
            Step::Attribute(name) => {
                let mut value = [0; 64];
                let length = calls::attribute(&self.path(&name), &mut value)?;
                return Ok(text(&value[..length]));
            }
            Step::Write(slot, content) => calls::write(self.file(slot)?, content.as_bytes())?,
            Step::Read(slot) => {
                let mut content = [0; 64];
                let length = calls::read(self.file(slot)?, &mut content)?;
                return Ok(text(&content[..length]));
            }
            Step::Watch(name) => self.notifications = Some(Notifications::of(&self.path(&name))?),
            Step::Told(name, change) => {
                let notifications = self.notifications.as_ref();
                let notifications = notifications.ok_or(io::ErrorKind::NotFound)?;
                return notifications.told(&name, change);
            }
            Step::Acquire {
                protocol,
                mode,
                wait,
            } => {
                let options = Options::new().database(self.path("locks.db"));
                let options = options.protocol(protocol.parse().map_err(io::Error::other)?);
                let lock = self.engine.open_with(self.path(&protocol), &options);
                let mode = match mode {
                    Mode::Shared => locket::Mode::Shared,
                    Mode::Exclusive => locket::Mode::Exclusive,
                };
                let timeout = (!wait).then_some(Duration::ZERO);
                self.guard = Some(
                    lock.and_then(|lock| lock.acquire(mode, timeout))
                        .map_err(plain)?,
                );
            }
            Step::Release => {
                let guard = self.guard.take().ok_or(io::ErrorKind::NotFound)?;
                guard.release().map_err(plain)?;
            }
        }
        Ok(Answer::Done)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn file(&self, slot: Slot) -> io::Result<&File> {
        let file = self.files.get(slot).and_then(Option::as_ref);
        file.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn open(&mut self, slot: Slot, name: &str, opening: Opening) -> io::Result<()> {
        let mut options = File::options();
        options.read(true);
        if let Opening::Write = opening {
            options.write(true).create(true);
        }
        let file = options.open(self.path(name))?;
        self.files
            .resize_with(self.files.len().max(slot + 1), || None);
        self.files[slot] = Some(file);
        Ok(())
    }

    fn make(&self, name: &str, entry: Entry) -> io::Result<()> {
        let path = self.path(name);
        match entry {
            Entry::File => File::create_new(path).map(drop),
            Entry::Directory => DirBuilder::new().create(path),
            Entry::Symlink => calls::symlink("nowhere", &path),
            Entry::Link(other) => fs::hard_link(self.path(&other), path),
            Entry::Nameless => calls::make_nameless(&self.dir, &path),
        }
    }
}

fn text(bytes: &[u8]) -> Answer {
    Answer::Text(String::from_utf8_lossy(bytes).into_owned())
}

/// The cause alone, since the path is that of the scratch directory.
fn plain(error: locket::Error) -> io::Error {
    match error.os_error() {
        Some(cause) if !error.is_would_block() => match cause.raw_os_error() {
            Some(number) => io::Error::from_raw_os_error(number),
            None => io::Error::other(cause.to_string()),
        },
        _ => error.into(),
    }
}
