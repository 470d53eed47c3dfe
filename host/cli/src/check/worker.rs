//! The processes that touch the directory, which may hang.

use std::fs::{self, DirBuilder, File};
use std::io::{self, BufRead, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use locket::{Engine, Guard, Options};
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::fs::{
    AtFlags, CWD, FlockOperation, Mode as Permissions, OFlags, RenameFlags, XattrFlags, flock,
    getxattr, linkat, openat, renameat_with, setxattr,
};
use rustix::process::{Signal, set_parent_process_death_signal};

use super::actor::PATIENCE;
use super::keeper;
use super::step::{Answer, Answered, Change, Entry, Family, Lock, Mode, Opening, Slot, Step, Wait};
use crate::sys::Alarm;

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
        set_parent_process_death_signal(Some(Signal::KILL))?;
        let mut actor = Actor {
            dir: self.dir,
            files: Vec::new(),
            notifications: None,
            engine: Engine::new(),
            guard: None,
        };
        say(&Ok(Answer::Done))?;
        for line in io::stdin().lock().lines() {
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
    notifications: Option<OwnedFd>,
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
            Step::Lock(slot, how) => lock(self.file(slot)?, how)?,
            Step::Unlock(slot, Family::Flock) => flock(self.file(slot)?, FlockOperation::Unlock)?,
            Step::Unlock(slot, Family::Record { from, length }) => {
                let range = record(libc::F_UNLCK, from, length);
                control(self.file(slot)?, FcntlArg::F_OFD_SETLK(&range))?;
            }
            Step::Make(name, entry) => self.make(&name, entry)?,
            Step::Rename(from, to) => fs::rename(self.path(&from), self.path(&to))?,
            Step::RenameNew(from, to) => self.rename(&from, &to, RenameFlags::NOREPLACE)?,
            Step::Exchange(from, to) => self.rename(&from, &to, RenameFlags::EXCHANGE)?,
            Step::Remove(name) => fs::remove_file(self.path(&name))?,
            Step::Named(name) => return Ok(inode(&fs::symlink_metadata(self.path(&name))?)),
            Step::Opened(slot) => return Ok(inode(&self.file(slot)?.metadata()?)),
            Step::SetAttribute(name, value) => {
                let path = self.path(&name);
                setxattr(path, ATTRIBUTE, value.as_bytes(), XattrFlags::empty())?;
            }
            Step::Attribute(name) => {
                let mut value = [0; 64];
                let length = getxattr(self.path(&name), ATTRIBUTE, &mut value)?;
                return Ok(text(&value[..length]));
            }
            Step::Write(slot, content) => self.file(slot)?.write_all_at(content.as_bytes(), 0)?,
            Step::Read(slot) => {
                let mut content = [0; 64];
                let length = self.file(slot)?.read_at(&mut content, 0)?;
                return Ok(text(&content[..length]));
            }
            Step::Watch(name) => {
                let notifications = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
                let changes = WatchFlags::CREATE | WatchFlags::DELETE;
                inotify::add_watch(&notifications, self.path(&name), changes)?;
                self.notifications = Some(notifications);
            }
            Step::Told(name, change) => return self.told(&name, change),
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
            Entry::Symlink => symlink("nowhere", path),
            Entry::Link(other) => fs::hard_link(self.path(&other), path),
            Entry::Nameless => {
                let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
                let file = openat(CWD, &self.dir, flags, Permissions::from_raw_mode(0o600))?;
                let open = format!("/proc/self/fd/{}", file.as_raw_fd());
                Ok(linkat(CWD, open, CWD, path, AtFlags::SYMLINK_FOLLOW)?)
            }
        }
    }

    fn rename(&self, from: &str, to: &str, flags: RenameFlags) -> io::Result<()> {
        Ok(renameat_with(
            CWD,
            self.path(from),
            CWD,
            self.path(to),
            flags,
        )?)
    }

    /// Refuses if nothing is told in time.
    fn told(&self, name: &str, change: Change) -> io::Result<Answer> {
        let notifications = self.notifications.as_ref();
        let notifications = notifications.ok_or(io::ErrorKind::NotFound)?;
        let wanted = match change {
            Change::Creation => ReadFlags::CREATE,
            Change::Removal => ReadFlags::DELETE,
        };
        let until = Instant::now() + PATIENCE / 4;
        let mut room = [MaybeUninit::uninit(); 4096];
        let mut reader = Reader::new(notifications, &mut room);
        loop {
            match reader.next() {
                Ok(event) => {
                    let named = event.file_name().map(|name| name.to_bytes());
                    if named == Some(name.as_bytes()) && event.events().contains(wanted) {
                        return Ok(Answer::Done);
                    }
                }
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    let left = until.saturating_duration_since(Instant::now());
                    let left = left.try_into().map_err(io::Error::other)?;
                    let mut fds = [PollFd::new(notifications, PollFlags::IN)];
                    if poll(&mut fds, Some(&left))? == 0 {
                        return Ok(Answer::Refused);
                    }
                }
                Err(e) => return Err(e.into()),
            }
        }
    }
}

const ATTRIBUTE: &str = "user.locket.check";

fn lock(file: &File, how: Lock) -> io::Result<()> {
    /// By then it waits, or has the lock.
    const SOON: Duration = Duration::from_millis(50);
    let _alarm = (how.wait == Wait::Interrupted).then(|| Alarm::at(Instant::now() + SOON));
    let waits = how.wait != Wait::No;
    match how.family {
        Family::Flock => flock(
            file,
            match (how.mode, waits) {
                (Mode::Exclusive, true) => FlockOperation::LockExclusive,
                (Mode::Exclusive, false) => FlockOperation::NonBlockingLockExclusive,
                (Mode::Shared, true) => FlockOperation::LockShared,
                (Mode::Shared, false) => FlockOperation::NonBlockingLockShared,
            },
        )?,
        Family::Record { from, length } => {
            let kind = match how.mode {
                Mode::Exclusive => libc::F_WRLCK,
                Mode::Shared => libc::F_RDLCK,
            };
            let range = record(kind, from, length);
            let command = match waits {
                true => FcntlArg::F_OFD_SETLKW(&range),
                false => FcntlArg::F_OFD_SETLK(&range),
            };
            match control(file, command) {
                // As some systems refuse it.
                Err(e) if e.raw_os_error() == Some(libc::EACCES) => {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                locked => locked?,
            }
        }
    }
    Ok(())
}

fn control(file: &File, command: FcntlArg<'_>) -> io::Result<()> {
    Ok(fcntl(file.as_fd(), command).map(drop)?)
}

fn record(kind: libc::c_int, from: i64, length: i64) -> libc::flock {
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: from,
        l_len: length,
        // As the kernel demands of locks of a description.
        l_pid: 0,
    }
}

fn inode(metadata: &fs::Metadata) -> Answer {
    Answer::Inode {
        device: metadata.dev(),
        number: metadata.ino(),
        links: metadata.nlink(),
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
