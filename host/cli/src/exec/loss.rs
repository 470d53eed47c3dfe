//! What `locket exec` does if a lock is lost while the command runs: a server has not heard from it
//! for too long, or an administrator broke the lock.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

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
pub(super) struct Losses(Arc<AtomicBool>);

impl Losses {
    /// Follows the locks of a server. Locks of files are not lost while their holder lives.
    pub(super) fn of(guards: &[Guard], on_loss: OnLoss) -> std::io::Result<Self> {
        let losses = Self::default();
        for guard in guards {
            let (lost, flag) = (guard.lost(), Arc::clone(&losses.0));
            let path = shown_path(guard.path()).to_string();
            thread::Builder::new().spawn(move || {
                // They are for the thread that waits for the command.
                #[cfg(unix)]
                let _ = nix::sys::signal::SigSet::all().thread_block();
                let reason = wait(lost);
                flag.store(true, Ordering::SeqCst);
                eprint_line(format_args!("the lock of `{path}` was lost: {reason}"));
                if on_loss == OnLoss::Term {
                    end_command();
                }
            })?;
        }
        Ok(losses)
    }

    pub(super) fn any(&self) -> bool {
        self.0.load(Ordering::SeqCst)
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

/// Waits on this thread, which does nothing else.
fn wait<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}
