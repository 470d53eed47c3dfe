//! A wall clock that a test sets, for some programs alone.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::missing;

/// The wall clock of the programs that are started by it. Only those notice it that ask the C library
/// for the time: PostgreSQL does, and etcd does not.
#[derive(Debug)]
pub struct Clock {
    library: PathBuf,
    folder: tempfile::TempDir,
}

impl Clock {
    /// A clock that is right. `None`, and said aloud, if libfaketime is not installed.
    ///
    /// # Panics
    ///
    /// If its file cannot be written. In CI also if it is not installed.
    pub fn start() -> Option<Self> {
        let Some(library) = library() else {
            missing("libfaketime", "install Debian's `libfaketime`");
            return None;
        };
        let folder = tempfile::tempdir().expect("a directory can be created");
        // The server runs as another user.
        let readable = fs::Permissions::from_mode(0o755);
        fs::set_permissions(folder.path(), readable).expect("its owner may change it");
        let clock = Self { library, folder };
        clock.set(0);
        Some(clock)
    }

    /// Sets it, to so many seconds past the right time.
    ///
    /// # Panics
    ///
    /// If its file cannot be written.
    pub fn set(&self, seconds: i64) {
        let new = self.folder.path().join("new");
        fs::write(&new, format!("{seconds:+}\n")).expect("the clock can be written");
        // At once, so that no program reads half of it.
        fs::rename(new, self.file()).expect("the clock can be replaced");
    }

    /// Makes it the clock of a command. Once the command was killed, call [`tidy_up_after`](Self::tidy_up_after).
    pub fn rule(&self, command: &mut Command) {
        self.tell(command);
        command.env("LD_PRELOAD", &self.library);
    }

    /// Removes what a process that was killed could not: libfaketime keeps files in memory.
    pub fn tidy_up_after(&self, process: u32) {
        for name in ["faketime_shm_", "sem.faketime_sem_"] {
            let _ = fs::remove_file(format!("/dev/shm/{name}{process}"));
        }
    }

    /// Names it to the script that starts a server.
    pub(super) fn tell(&self, command: &mut Command) {
        command
            .env("LOCKET_CLOCK", &self.library)
            .env("FAKETIME_TIMESTAMP_FILE", self.file())
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("clock")
    }
}

fn library() -> Option<PathBuf> {
    let folders = fs::read_dir("/usr/lib").ok()?;
    let folders = folders.flatten().map(|folder| folder.path());
    folders
        .chain([PathBuf::from("/usr/lib")])
        .map(|folder| folder.join(Path::new("faketime/libfaketimeMT.so.1")))
        .find(|library| library.is_file())
}
