//! Directories that are removed again, and what a file system can do.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use locket::{Engine, LockFile};

use crate::not_tested;

/// An empty directory of its own, removed when dropped.
#[derive(Debug)]
pub struct Dir(pub tempfile::TempDir);

impl Default for Dir {
    fn default() -> Self {
        Self::new()
    }
}

impl Dir {
    /// Creates one.
    ///
    /// # Panics
    ///
    /// If the system cannot.
    pub fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory can be created"))
    }

    /// The path of a file in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The lock of its file `lock`.
    ///
    /// # Panics
    ///
    /// If it cannot be opened.
    pub fn lock(&self, engine: &Engine) -> LockFile {
        let lock = engine.open(self.path("lock"));
        lock.expect("the lock can be opened")
    }

    /// The names of its entries.
    ///
    /// # Panics
    ///
    /// If it cannot be read.
    pub fn names(&self) -> BTreeSet<String> {
        names(self.0.path())
    }
}

/// The names of the entries of a directory.
///
/// # Panics
///
/// If it cannot be read.
pub fn names(dir: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(dir).expect("the directory can be read");
    let name = |entry: fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
    entries
        .map(|entry| name(entry.expect("the entry can be read")))
        .collect()
}

/// Creates a symbolic link to a file. Returns `false` if this process may not, or if the link has
/// no effect.
///
/// # Panics
///
/// If the system cannot for another reason.
pub fn symlink(target: impl AsRef<Path>, link: impl AsRef<Path>) -> bool {
    #[cfg(unix)]
    let linked = std::os::unix::fs::symlink(target, &link);
    #[cfg(windows)]
    let linked = std::os::windows::fs::symlink_file(target, &link);
    let linked = linked.and_then(|()| fs::symlink_metadata(link));
    match linked {
        Err(e) if cfg!(windows) => {
            not_tested(format_args!("no symbolic links here: {e}"));
            false
        }
        linked => linked.expect("a link can be created").is_symlink(),
    }
}

/// Whether the name of a file that is still open disappears as soon as it is removed.
///
/// # Panics
///
/// If the directory cannot be written.
pub fn removes_open_files(dir: &Dir) -> bool {
    let path = dir.path("probe");
    let open = fs::File::create(&path).expect("the probe can be created");
    fs::remove_file(&path).expect("the probe can be removed");
    let gone = !path.exists();
    drop(open);
    if !gone {
        not_tested(format_args!("removed files stay until they are closed"));
    }
    gone
}

/// Runs `test` while no entry of the directory can be created or removed, in a thread without the
/// privileges of root, to which permissions do not apply.
///
/// # Panics
///
/// If the test does.
#[cfg(target_os = "linux")]
pub fn without_privileges<R: Send>(dir: &Dir, test: impl FnOnce() -> R + Send) -> R {
    use std::os::unix::fs::PermissionsExt;
    use std::thread;
    let unprivileged = rustix::process::Uid::from_raw(65534);
    let permit = |mode| {
        let permissions = PermissionsExt::from_mode(mode);
        fs::set_permissions(dir.0.path(), permissions).expect("the directory is ours");
    };
    permit(0o555);
    let outcome = thread::scope(|scope| {
        let test = || {
            if rustix::process::geteuid().is_root() {
                // Of this thread alone: the system call bypasses the C library, which would
                // change every thread.
                rustix::thread::set_thread_uid(unprivileged).expect("root may change its user");
            }
            test()
        };
        scope.spawn(test).join()
    });
    permit(0o755);
    outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
