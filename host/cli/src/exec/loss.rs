//! What `locket exec` does if a lock is lost while the command runs: a server has not heard from it
//! for too long, or an administrator broke the lock.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, JoinHandle, Thread};

use clap::ValueEnum;
use locket::Guard;

use crate::output::{eprint_line, shown_path};

/// What happens if a lock is lost.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub(crate) enum OnLoss {
    /// End COMMAND, by SIGTERM, and exit with 76
    #[default]
    Term,
    /// Report it
    Warn,
}

/// Knows whether a lock was lost.
#[derive(Debug, Default)]
pub(super) struct Losses {
    lost: Arc<AtomicBool>,
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Losses {
    /// Follows the locks of a server. Locks of files are not lost while their holder lives.
    pub(super) fn of(guards: &[Guard], on_loss: OnLoss) -> std::io::Result<Self> {
        let mut losses = Self::default();
        for guard in guards {
            let (lost, flag) = (guard.lost(), Arc::clone(&losses.lost));
            let over = Arc::clone(&losses.over);
            let path = shown_path(guard.path()).to_string();
            let thread = thread::Builder::new().spawn(move || {
                // They are for the thread that waits for the command.
                #[cfg(unix)]
                let _ = nix::sys::signal::SigSet::all().thread_block();
                let Some(reason) = wait(lost, &over) else {
                    return;
                };
                flag.store(true, Ordering::SeqCst);
                eprint_line(format_args!("the lock of `{path}` was lost: {reason}"));
                if on_loss == OnLoss::Term {
                    end_command();
                }
            })?;
            losses.threads.push(thread);
        }
        Ok(losses)
    }

    /// Follows them no longer. Returns whether one was lost.
    pub(super) fn finish(self) -> bool {
        self.over.store(true, Ordering::SeqCst);
        for thread in self.threads {
            thread.thread().unpark();
            // A panic was reported, and says nothing of the locks.
            let _ = thread.join();
        }
        self.lost.load(Ordering::SeqCst)
    }
}

/// Ends the command: what this process is sent is passed on.
#[cfg(unix)]
fn end_command() {
    use nix::sys::signal::{Signal, kill};
    let _ = kill(nix::unistd::getpid(), Signal::SIGTERM);
}

/// Ends the command: the job ends with this process.
#[cfg(windows)]
fn end_command() {
    std::process::exit(crate::exit::LOST.into());
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits on this thread, which does nothing else, until that is `over`.
fn wait<F: Future>(future: F, over: &AtomicBool) -> Option<F::Output> {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return Some(output),
            Poll::Pending if over.load(Ordering::SeqCst) => return None,
            Poll::Pending => thread::park(),
        }
    }
}
