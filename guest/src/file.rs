use crate::{Error, ErrorKind, IoKind, LockFile, Mode, OnRelease, Options, Protocol};
use alloc::string::String;
use core::cell::RefCell;
use core::fmt;
use core::ops::{Deref, DerefMut};
use std::fs;
use std::io;
use std::path::Path;

/// A file with the locks of [`std::fs::File`], which the standard library does not
/// support on WASI. In code that was written for it, change one `use`:
///
/// ```no_run
/// use locket_guest::File;
/// use std::io::Write;
///
/// # fn main() -> std::io::Result<()> {
/// let mut log = File::options().append(true).create(true).open("/jobs/log")?;
/// log.lock()?;
/// writeln!(log, "no other program that locks the file writes meanwhile")?;
/// log.unlock()
/// # }
/// ```
///
/// The lock is that of `flock`, as the standard library's is on Unix: it excludes
/// native programs that use `flock`, such as those that call Rust's `File::lock`. Two
/// `File`s of one component exclude each other, too; to wait for the other is
/// [`io::ErrorKind::Deadlock`]. Dropping the file releases its lock.
///
/// Rust's WASI has no way from an open file to its descriptor, so the file is locked
/// by the path with which it was opened: once another file has that path, the lock
/// is that of the other file.
#[derive(Debug)]
pub struct File {
    file: fs::File,
    path: String,
    lock: RefCell<Lock>,
}

#[derive(Debug, Default)]
struct Lock {
    /// Opened by the first lock.
    file: Option<LockFile>,
    /// Whether it is held through this handle. The host would release what another
    /// handle of this component holds, too.
    held: bool,
}

impl Lock {
    fn open(&mut self, path: &str) -> crate::Result<&mut LockFile> {
        let file = match self.file.take() {
            Some(file) => file,
            None => {
                let options = Options {
                    protocol: Some(Protocol::Flock),
                    on_release: OnRelease::Keep,
                };
                LockFile::open_with(path, &options)?
            }
        };
        Ok(self.file.insert(file))
    }

    fn release(&mut self) -> crate::Result<()> {
        match &mut self.file {
            Some(file) if std::mem::take(&mut self.held) => file.release(),
            _ => Ok(()),
        }
    }
}

/// How to open a [`File`], as [`std::fs::OpenOptions`] says.
#[derive(Clone, Debug)]
pub struct OpenOptions(fs::OpenOptions);

/// Why a lock was not acquired at once; see [`std::fs::TryLockError`].
#[derive(Debug)]
pub enum TryLockError {
    /// Another owner holds it.
    WouldBlock,
    /// It could not be tried.
    Error(io::Error),
}

impl fmt::Display for TryLockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WouldBlock => "the lock is held".fmt(f),
            Self::Error(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for TryLockError {}

impl From<TryLockError> for io::Error {
    fn from(error: TryLockError) -> Self {
        match error {
            TryLockError::WouldBlock => io::ErrorKind::WouldBlock.into(),
            TryLockError::Error(error) => error,
        }
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match error.kind() {
            ErrorKind::WouldBlock => io::ErrorKind::WouldBlock,
            ErrorKind::Timeout => io::ErrorKind::TimedOut,
            ErrorKind::NotOwner | ErrorKind::AccessDenied => io::ErrorKind::PermissionDenied,
            ErrorKind::Deadlock => io::ErrorKind::Deadlock,
            ErrorKind::NoEntry => io::ErrorKind::NotFound,
            ErrorKind::InvalidPath => io::ErrorKind::InvalidInput,
            ErrorKind::LimitExceeded => io::ErrorKind::QuotaExceeded,
            ErrorKind::NotSupported => io::ErrorKind::Unsupported,
            ErrorKind::Io(IoKind::NoSpace) => io::ErrorKind::StorageFull,
            ErrorKind::Io(IoKind::Quota) => io::ErrorKind::QuotaExceeded,
            ErrorKind::Io(IoKind::Stale) => io::ErrorKind::StaleNetworkFileHandle,
            ErrorKind::Io(IoKind::ReadOnly) => io::ErrorKind::ReadOnlyFilesystem,
            _ => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}

impl OpenOptions {
    /// Sets an option; see [`std::fs::OpenOptions`].
    pub fn read(&mut self, read: bool) -> &mut Self {
        self.0.read(read);
        self
    }

    /// Sets an option; see [`std::fs::OpenOptions`].
    pub fn write(&mut self, write: bool) -> &mut Self {
        self.0.write(write);
        self
    }

    /// Sets an option; see [`std::fs::OpenOptions`].
    pub fn append(&mut self, append: bool) -> &mut Self {
        self.0.append(append);
        self
    }

    /// Sets an option; see [`std::fs::OpenOptions`].
    pub fn truncate(&mut self, truncate: bool) -> &mut Self {
        self.0.truncate(truncate);
        self
    }

    /// Sets an option; see [`std::fs::OpenOptions`].
    pub fn create(&mut self, create: bool) -> &mut Self {
        self.0.create(create);
        self
    }

    /// Sets an option; see [`std::fs::OpenOptions`].
    pub fn create_new(&mut self, create_new: bool) -> &mut Self {
        self.0.create_new(create_new);
        self
    }

    /// Opens a file.
    ///
    /// # Errors
    ///
    /// Those of [`std::fs::OpenOptions::open`].
    pub fn open(&self, path: impl AsRef<Path>) -> io::Result<File> {
        let path = path.as_ref();
        Ok(File {
            file: self.0.open(path)?,
            path: path.to_string_lossy().into_owned(),
            lock: RefCell::default(),
        })
    }
}

impl File {
    /// How to open a file.
    pub fn options() -> OpenOptions {
        OpenOptions(fs::OpenOptions::new())
    }

    /// Opens a file for reading.
    ///
    /// # Errors
    ///
    /// Those of [`OpenOptions::open`].
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::options().read(true).open(path)
    }

    /// Opens a file for writing; creates it, or makes it empty.
    ///
    /// # Errors
    ///
    /// Those of [`OpenOptions::open`].
    pub fn create(path: impl AsRef<Path>) -> io::Result<Self> {
        let mut options = Self::options();
        options.write(true).create(true).truncate(true).open(path)
    }

    /// Locks the file exclusively, and waits for that. A lock that the file has is
    /// released first.
    ///
    /// # Errors
    ///
    /// Those of [`LockFile::open`] and [`LockFile::acquire`].
    pub fn lock(&self) -> io::Result<()> {
        self.acquire(Mode::Exclusive, None).map_err(Into::into)
    }

    /// Locks the file in shared mode; as [`lock`](Self::lock) otherwise.
    ///
    /// # Errors
    ///
    /// Those of [`lock`](Self::lock).
    pub fn lock_shared(&self) -> io::Result<()> {
        self.acquire(Mode::Shared, None).map_err(Into::into)
    }

    /// Locks the file exclusively if that needs no wait.
    ///
    /// # Errors
    ///
    /// [`TryLockError::WouldBlock`] if another owner holds it.
    pub fn try_lock(&self) -> Result<(), TryLockError> {
        self.try_acquire(Mode::Exclusive)
    }

    /// Locks the file in shared mode if that needs no wait.
    ///
    /// # Errors
    ///
    /// [`TryLockError::WouldBlock`] if another owner holds it exclusively.
    pub fn try_lock_shared(&self) -> Result<(), TryLockError> {
        self.try_acquire(Mode::Shared)
    }

    /// Releases the lock. It is no error if the file has none.
    ///
    /// # Errors
    ///
    /// [`Lost`](ErrorKind::Lost) as [`io::ErrorKind::Other`] if it had been lost.
    pub fn unlock(&self) -> io::Result<()> {
        Ok(self.lock.borrow_mut().release()?)
    }

    fn try_acquire(&self, mode: Mode) -> Result<(), TryLockError> {
        match self.acquire(mode, Some(core::time::Duration::ZERO)) {
            Err(error) if error.is_would_block() => Err(TryLockError::WouldBlock),
            Err(error) => Err(TryLockError::Error(error.into())),
            Ok(()) => Ok(()),
        }
    }

    fn acquire(&self, mode: Mode, timeout: Option<core::time::Duration>) -> crate::Result<()> {
        let mut lock = self.lock.borrow_mut();
        lock.release()?;
        lock.open(&self.path)?.lock(mode, timeout)?;
        lock.held = true;
        Ok(())
    }
}

impl Deref for File {
    type Target = fs::File;

    fn deref(&self) -> &fs::File {
        &self.file
    }
}

impl DerefMut for File {
    fn deref_mut(&mut self) -> &mut fs::File {
        &mut self.file
    }
}

impl io::Read for File {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        self.file.read(to)
    }
}

impl io::Write for File {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        self.file.write(from)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl io::Seek for File {
    fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}
