//! The methods of locking a file that are compared, each as a function that takes a turn: lock,
//! do something, unlock. The raw system calls are the limit; `fs4`, `fd-lock` and the standard
//! library are what a Rust program would use otherwise.

use std::fs::File;
use std::hint::black_box;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use fs4::FileExt;
use locket::{Engine, LockFile, Mode, Options, Protocol};
use rustix::fs::{FlockOperation, flock};
use tokio::runtime::{Builder, Runtime};
use tokio::task::LocalSet;

pub(crate) const EX: Mode = Mode::Exclusive;

/// Long enough that it never passes.
pub(crate) const LONG: Duration = Duration::from_secs(600);

/// Locks, calls what it is given, unlocks.
pub(crate) type Turn<'a> = Box<dyn FnMut(&mut dyn FnMut()) + 'a>;

/// What is called to acquire.
#[derive(Clone, Copy)]
pub(crate) enum Api {
    Blocking,
    Timeout,
    /// With an executor of a few lines, which parks the thread.
    Async,
    /// In a task of tokio.
    Tokio,
}

#[derive(Clone, Copy)]
pub(crate) enum Method {
    /// System calls. Where `checked`, with those that compare the descriptor with the path.
    Raw {
        protocol: Protocol,
        checked: bool,
    },
    Fs4,
    FdLock,
    Std,
    Locket {
        api: Api,
        protocol: Protocol,
        pinned: bool,
    },
}

impl Method {
    pub(crate) const FLOCK: Self = Self::Raw {
        protocol: Protocol::Flock,
        checked: false,
    };

    /// Ours with `flock(2)` and all checks.
    pub(crate) const fn locket(api: Api) -> Self {
        Self::Locket {
            api,
            protocol: Protocol::Flock,
            pinned: false,
        }
    }

    /// Turns on a file that is opened here, once.
    pub(crate) fn on_a_handle(self, path: &Path) -> Turn<'_> {
        match self {
            Self::Raw { protocol, checked } => {
                let file = open(path);
                Box::new(move |held| {
                    raw_lock(&file, protocol);
                    if checked {
                        compare(&file, path);
                    }
                    held();
                    raw_unlock(&file, protocol);
                })
            }
            Self::Fs4 => {
                let file = open(path);
                Box::new(move |held| {
                    FileExt::lock(&file).unwrap();
                    held();
                    FileExt::unlock(&file).unwrap();
                })
            }
            Self::FdLock => {
                let mut lock = fd_lock::RwLock::new(open(path));
                Box::new(move |held| {
                    let _guard = lock.write().unwrap();
                    held();
                })
            }
            Self::Std => {
                let file = open(path);
                Box::new(move |held| {
                    file.lock().unwrap();
                    held();
                    file.unlock().unwrap();
                })
            }
            Self::Locket { api, .. } => {
                let lock = Engine::new().open_with(path, &self.options()).unwrap();
                let mut acquire = acquire(api);
                Box::new(move |held| acquire(&lock, held))
            }
        }
    }

    /// Turns that open the file and close it.
    pub(crate) fn by_path(self, path: &Path) -> Turn<'_> {
        match self {
            Self::Raw { protocol, checked } => Box::new(move |held| {
                let file = open(path);
                raw_lock(&file, protocol);
                if checked {
                    compare(&file, path);
                }
                held();
            }),
            Self::Fs4 => Box::new(move |held| {
                let file = open(path);
                FileExt::lock(&file).unwrap();
                held();
            }),
            Self::FdLock => Box::new(move |held| {
                let mut lock = fd_lock::RwLock::new(open(path));
                let _guard = lock.write().unwrap();
                held();
            }),
            Self::Std => Box::new(move |held| {
                let file = open(path);
                file.lock().unwrap();
                held();
            }),
            Self::Locket { api, .. } => {
                let engine = Engine::new();
                let options = self.options();
                let mut acquire = acquire(api);
                Box::new(move |held| {
                    let lock = engine.open_with(path, &options).unwrap();
                    acquire(&lock, held);
                })
            }
        }
    }

    fn options(self) -> Options {
        match self {
            Self::Locket {
                protocol, pinned, ..
            } => Options::new()
                .protocol(protocol)
                .skip_identity_check(pinned),
            _ => Options::new(),
        }
    }
}

pub(crate) fn open(path: &Path) -> File {
    File::options().read(true).write(true).open(path).unwrap()
}

fn raw_lock(file: &File, protocol: Protocol) {
    if protocol != Protocol::Fcntl {
        flock(file, FlockOperation::LockExclusive).unwrap();
    }
    if protocol != Protocol::Flock {
        record_lock(file, libc::F_WRLCK);
    }
}

fn raw_unlock(file: &File, protocol: Protocol) {
    if protocol != Protocol::Flock {
        record_lock(file, libc::F_UNLCK);
    }
    if protocol != Protocol::Fcntl {
        flock(file, FlockOperation::Unlock).unwrap();
    }
}

/// The record lock, which is the second of the native protocol.
#[expect(unsafe_code, reason = "the baseline is the raw system call")]
fn record_lock(file: &File, kind: i32) {
    // SAFETY: `lock` is plain data, valid during the call; the descriptor is open.
    unsafe {
        let mut lock: libc::flock = std::mem::zeroed();
        lock.l_type = kind as libc::c_short;
        assert_eq!(libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLKW, &lock), 0);
    }
}

/// The system calls that tell whether the path still leads to the file.
fn compare(file: &File, path: &Path) {
    black_box((
        rustix::fs::fstat(file).unwrap(),
        rustix::fs::stat(path).unwrap(),
    ));
}

/// Acquires, calls what it is given, releases.
type Acquire = Box<dyn FnMut(&LockFile, &mut dyn FnMut())>;

fn acquire(api: Api) -> Acquire {
    match api {
        Api::Blocking => Box::new(|lock, held| {
            let _guard = lock.acquire(EX, None).unwrap();
            held();
        }),
        Api::Timeout => Box::new(|lock, held| {
            let _guard = lock.acquire(EX, LONG).unwrap();
            held();
        }),
        Api::Async => {
            let waker = Waker::from(Arc::new(Unpark(thread::current())));
            Box::new(move |lock, held| {
                let _guard = block_on(lock.acquire_async(EX, None), &waker).unwrap();
                held();
            })
        }
        Api::Tokio => {
            let runtime = runtime();
            Box::new(move |lock, held| {
                let _guard = runtime.block_on(lock.acquire_async(EX, None)).unwrap();
                held();
            })
        }
    }
}

pub(crate) fn runtime() -> Runtime {
    Builder::new_current_thread().build().unwrap()
}

/// Returns when every task has been polled and so has asked for its lock: they are in the order
/// in which they were made, and one that is made now is the last.
pub(crate) fn asked(runtime: &Runtime, tasks: &LocalSet) {
    let last = tasks.spawn_local(async {});
    runtime.block_on(tasks.run_until(last)).unwrap();
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs a future on the thread to which `waker` belongs.
fn block_on<F: Future>(future: F, waker: &Waker) -> F::Output {
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(waker)) {
            return output;
        }
        thread::park();
    }
}
