//! What the tests of the engine share.
#![allow(dead_code, reason = "each test binary uses its share")]

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use locket::{Engine, LockFile, Mode, Options, Protocol};

/// Long enough that something which has not happened is stuck.
pub(crate) const STUCK: Duration = Duration::from_secs(10);

/// Long enough to see that a waiter really waits.
pub(crate) const QUIESCENT: Duration = Duration::from_millis(30);

pub(crate) const EX: Mode = Mode::Exclusive;
pub(crate) const SH: Mode = Mode::Shared;

/// The protocols that are locks of the kernel.
pub(crate) const KERNEL: [Protocol; 3] = [Protocol::Native, Protocol::Flock, Protocol::Fcntl];

/// The protocols whose lock is a name in a directory.
pub(crate) const NAMES: [Protocol; 5] = [
    Protocol::Link,
    Protocol::Symlink,
    Protocol::Mkdir,
    Protocol::PidFile,
    Protocol::Soft,
];

/// Runs a test for every protocol that there is here.
pub(crate) fn each_protocol(test: impl Fn(&Options)) {
    let database = Dir::new();
    for &protocol in Protocol::ALL {
        if protocol == Protocol::Sqlite && !cfg!(feature = "sqlite")
            || protocol.is_existence_lock() && cfg!(windows)
        {
            continue;
        }
        println!("protocol {protocol}");
        let options = Options::new().protocol(protocol);
        test(&options.database(database.path("locks.db")));
    }
}

/// Runs a test for every protocol that is a lock of the kernel.
pub(crate) fn each_kernel_protocol(test: impl Fn(&Options)) {
    for protocol in KERNEL {
        println!("protocol {protocol}");
        test(&Options::new().protocol(protocol));
    }
}

pub(crate) struct Dir(pub(crate) tempfile::TempDir);

impl Dir {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn lock(&self, engine: &Engine) -> LockFile {
        engine.open(self.path("lock")).unwrap()
    }
}

/// Waits until `condition` holds; panics if it does not in [`STUCK`].
#[track_caller]
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < STUCK, "not in {STUCK:?}: {what}");
        thread::yield_now();
    }
}

/// A waker that counts.
#[derive(Default)]
pub(crate) struct Count(pub(crate) AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Begins to acquire, and is in the queue when it returns.
pub(crate) fn pending(lock: &LockFile, mode: Mode) -> locket::Acquire {
    let mut acquire = lock.acquire_async(mode, None);
    assert!(poll(&mut acquire).is_pending());
    acquire
}

/// Polls a future once.
pub(crate) fn poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// Runs a future on this thread.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = std::pin::pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        thread::park();
    }
}

/// The number of threads of this process that the engine started.
#[cfg(target_os = "linux")]
pub(crate) fn engine_threads() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    tasks
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok())
        .filter(|name| name.starts_with("locket-"))
        .count()
}

/// The number of open descriptors of this process.
#[cfg(target_os = "linux")]
pub(crate) fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// How many wait in the kernel for a lock of a file.
#[cfg(target_os = "linux")]
pub(crate) fn kernel_waiters(path: &Path) -> usize {
    use std::os::unix::fs::MetadataExt;
    let inode = format!(":{} ", std::fs::metadata(path).unwrap().ino());
    let count = || {
        let locks = std::fs::read_to_string("/proc/locks").unwrap();
        let mine = |line: &&str| line.contains("->") && line.contains(&inode);
        locks.lines().filter(mine).count()
    };
    // The list comes in pieces; if it changes in between, something can be in it twice.
    let mut before = count();
    loop {
        let now = count();
        if now == std::mem::replace(&mut before, now) {
            return now;
        }
    }
}

/// Says what the system is not able to show, past the test runner, which keeps to itself what
/// passing tests print.
pub(crate) fn not_tested(what: std::fmt::Arguments<'_>) {
    use std::io::Write;
    let test = thread::current();
    let test = test.name().unwrap_or("a thread");
    let _ = writeln!(std::io::stderr(), "NOT TESTED in {test}: {what}");
}

/// Makes a symbolic link to a file; answers `false` where that takes a permission that this
/// process does not have, or has no effect.
pub(crate) fn symlink(target: impl AsRef<Path>, link: impl AsRef<Path>) -> bool {
    #[cfg(unix)]
    let linked = std::os::unix::fs::symlink(target, &link);
    #[cfg(windows)]
    let linked = std::os::windows::fs::symlink_file(target, &link);
    let linked = linked.and_then(|()| std::fs::symlink_metadata(link));
    match linked {
        Err(e) if cfg!(windows) => {
            not_tested(format_args!("no symbolic links here: {e}"));
            false
        }
        linked => linked.unwrap().is_symlink(),
    }
}

/// Whether the name of a file that is still open is gone as soon as it is removed.
pub(crate) fn removes_open_files(dir: &Dir) -> bool {
    let path = dir.path("probe");
    let open = std::fs::File::create(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let gone = !path.exists();
    drop(open);
    if !gone {
        not_tested(format_args!("removed files stay until they are closed"));
    }
    gone
}

/// Runs `test` while nobody may make or remove anything in the directory, in a thread without the
/// privileges of root, whom permissions do not concern.
#[cfg(target_os = "linux")]
pub(crate) fn without_privileges<R: Send>(dir: &Dir, test: impl FnOnce() -> R + Send) -> R {
    use std::os::unix::fs::PermissionsExt;
    let nobody = rustix::process::Uid::from_raw(65534);
    let permit = |mode| {
        let permissions = PermissionsExt::from_mode(mode);
        std::fs::set_permissions(dir.0.path(), permissions).unwrap();
    };
    permit(0o555);
    let outcome = thread::scope(|scope| {
        let test = || {
            if rustix::process::geteuid().is_root() {
                // Of this thread alone: the system call is below the C library, which would tell all.
                rustix::thread::set_thread_uid(nobody).unwrap();
            }
            test()
        };
        scope.spawn(test).join()
    });
    permit(0o755);
    outcome.unwrap()
}
