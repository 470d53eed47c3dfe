//! Where a trace writes: files, or a standard stream.

use std::ffi::OsString;
use std::fmt::Display;
use std::fs::{self, File};
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;

use super::until::Until;
use crate::exit::{self, ExitError};
use crate::output::shown_path;

pub(super) struct Output {
    /// What errors call it.
    name: String,
    to: File,
    /// What is still to be written.
    rest: Vec<u8>,
}

impl Output {
    pub(super) fn stdout() -> io::Result<Self> {
        Ok(Self::new(
            "standard output".to_owned(),
            stream(io::stdout())?,
        ))
    }

    pub(super) fn stderr() -> io::Result<Self> {
        Ok(Self::new(
            "standard error".to_owned(),
            stream(io::stderr())?,
        ))
    }

    fn new(name: String, to: File) -> Self {
        let rest = Vec::new();
        Self { name, to, rest }
    }

    /// Creates a file, or empties it. Refuses the files of `locks`.
    pub(super) fn create(path: &Path, locks: &[PathBuf]) -> Result<Self, ExitError> {
        let name = format!("`{}`", shown_path(path));
        if identity(path).is_some_and(|file| locks.iter().any(|lock| is_at(lock, &file))) {
            let message = format_args!(
                "{name} is watched as a lock, or is the other output; choose another file"
            );
            return Err(ExitError::new(exit::USAGE, message));
        }
        let file = File::create(path).map_err(|e| {
            let message = format_args!("cannot create {name}: {e}");
            ExitError::new(exit::NO_INPUT, message)
        })?;
        Ok(Self::new(name, file))
    }

    /// Writes all of it, however long that takes.
    pub(super) fn print(&mut self, text: impl Display) -> anyhow::Result<()> {
        self.add(text);
        while !self.is_written() {
            // The write tells what is wrong, even if this fails.
            let _ = poll(&mut [PollFd::new(&self.to, PollFlags::OUT)], None);
            self.write_piece()?;
        }
        Ok(())
    }

    /// Adds what [`write_some`](Self::write_some) is to write.
    pub(super) fn add(&mut self, text: impl Display) {
        self.rest.extend(text.to_string().into_bytes());
    }

    pub(super) fn is_written(&self) -> bool {
        self.rest.is_empty()
    }

    /// Writes some of what was added, once the reader has room for it, unless there is something to
    /// read from `end` before that, or its time comes.
    pub(super) fn write_some(&mut self, end: &Until) -> anyhow::Result<()> {
        let left = end
            .time()
            .map(|at| at.saturating_duration_since(Instant::now()));
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        let mut ready = [
            PollFd::new(&self.to, PollFlags::OUT),
            PollFd::new(end, PollFlags::IN),
        ];
        let polled = poll(&mut ready, left.as_ref());
        if polled.is_err() || ready[0].revents().is_empty() {
            return Ok(());
        }
        self.write_piece()
    }

    /// Writes as much as there is room for at once. After a failure, the rest is lost.
    fn write_piece(&mut self) -> anyhow::Result<()> {
        /// As much as a pipe that has room takes without blocking.
        const PIECE: usize = 4096;
        let piece = &self.rest[..self.rest.len().min(PIECE)];
        let written = match self.to.write(piece) {
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(0),
            written => written,
        };
        self.rest
            .drain(..*written.as_ref().unwrap_or(&self.rest.len()));
        written
            .map(drop)
            .with_context(|| format!("cannot write to {}", self.name))
    }
}

/// A standard stream, opened anew if it is a terminal: that takes a part of what is written and waits
/// for room for the rest, unless it may not. Other programs use the stream as they have it.
fn stream(stream: impl AsFd + IsTerminal) -> io::Result<File> {
    let this = stream.as_fd().try_clone_to_owned()?;
    if stream.is_terminal() {
        let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
        let path = format!("/proc/self/fd/{}", this.as_raw_fd());
        let anew = File::options().write(true).custom_flags(flags).open(path);
        // One of another user cannot be opened.
        return Ok(anew.unwrap_or_else(|_| this.into()));
    }
    Ok(this.into())
}

/// What a path leads to: the device and inode of a file, or of the directory in which a file of that
/// name is missing.
type Identity = (u64, u64, Option<OsString>);

fn identity(path: &Path) -> Option<Identity> {
    let number = |path: &Path| fs::metadata(path).map(|file| (file.dev(), file.ino()));
    if let Ok((device, inode)) = number(path) {
        return Some((device, inode, None));
    }
    let mut path = std::path::absolute(path).ok()?;
    // A file is created where links lead. The kernel follows no more of them.
    for _ in 0..40 {
        let Ok(target) = fs::read_link(&path) else {
            break;
        };
        path = path.parent()?.join(target);
    }
    let (device, inode) = number(path.parent()?).ok()?;
    Some((device, inode, Some(path.file_name()?.to_owned())))
}

fn is_at(path: &Path, file: &Identity) -> bool {
    identity(path).as_ref() == Some(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_not_emptied_under_any_of_its_names() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let locks = [path("lock"), path("missing")];
        fs::write(&locks[0], "content").unwrap();
        fs::hard_link(&locks[0], path("hard")).unwrap();
        std::os::unix::fs::symlink("lock", path("soft")).unwrap();
        std::os::unix::fs::symlink("missing", path("dangling")).unwrap();
        std::os::unix::fs::symlink("dangling", path("twice")).unwrap();
        for name in ["lock", "hard", "soft", "./missing", "dangling", "twice"] {
            assert!(Output::create(&path(name), &locks).is_err(), "{name}");
        }
        assert_eq!(fs::read_to_string(&locks[0]).unwrap(), "content");
        assert!(!locks[1].exists());
        assert!(Output::create(&path("other"), &locks).is_ok());
    }

    #[test]
    fn an_error_names_the_file() {
        let mut full = Output::create(Path::new("/dev/full"), &[]).unwrap();
        let error = format!("{:#}", full.print("text").unwrap_err());
        assert!(
            error.starts_with("cannot write to `/dev/full`: No space left"),
            "{error}"
        );
    }
}
