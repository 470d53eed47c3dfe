//! What `locket exec` does if a lock is lost while the command runs: a server has not heard from it
//! for too long, or an administrator broke the lock.

use std::io::{self, PipeReader, PipeWriter, Write as _};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use locket::Guard;
#[cfg(unix)]
use nix::sys::signal::{SigSet, SigmaskHow};

use crate::output::{eprint_line, shown_path};

/// How often a lock that looks lost is looked at again.
const LOOK: Duration = Duration::from_millis(50);

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
    /// Has something to read once the command is to end.
    end: Option<PipeReader>,
}

impl Losses {
    /// Follows the locks of a server. Locks of files are not lost while their holder lives.
    pub(super) fn of(guards: &[Guard], on_loss: OnLoss) -> io::Result<Self> {
        let mut losses = Self::default();
        let end = match on_loss {
            OnLoss::Term => {
                let (reader, writer) = io::pipe()?;
                losses.end = Some(reader);
                Some(Arc::new(writer))
            }
            OnLoss::Warn => None,
        };
        // They are for the thread that waits for the command, which may end before these begin.
        #[cfg(unix)]
        let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
        let mut guards = guards.iter();
        let followed = guards.try_for_each(|guard| losses.follow(guard, end.clone()));
        #[cfg(unix)]
        before.thread_set_mask()?;
        followed.map(|()| losses)
    }

    fn follow(&mut self, guard: &Guard, end: Option<Arc<PipeWriter>>) -> io::Result<()> {
        let (lost, flag) = (guard.lost(), Arc::clone(&self.lost));
        let (over, starts) = (Arc::clone(&self.over), thread::current());
        let path = shown_path(guard.path()).to_string();
        let thread = thread::Builder::new().spawn(move || {
            let Some(reason) = wait(lost, &over) else {
                return;
            };
            flag.store(true, Ordering::SeqCst);
            starts.unpark();
            // Before the message, for which a reader may keep it waiting. If there is no reader
            // of this one, the command has ended.
            if let Some(mut end) = end.as_deref() {
                let _ = end.write(&[0]);
            }
            eprint_line(format_args!("the lock of `{path}` was lost: {reason}"));
            // The job ends with this process.
            #[cfg(windows)]
            #[expect(
                clippy::disallowed_methods,
                reason = "the lock is lost, and no thread may go on"
            )]
            if end.is_some() {
                std::process::exit(crate::exit::LOST.into());
            }
        })?;
        self.threads.push(thread);
        Ok(())
    }

    /// What can be read once the command is to end, if a loss ends it. No signal would do: one that
    /// this process sends itself kills it as long as it does not catch that, and gets lost if its
    /// caller ignores it.
    pub(super) fn end(&self) -> Option<&PipeReader> {
        self.end.as_ref()
    }

    /// Whether a lock is lost before the command starts: if this process was stopped until the time
    /// of a lock was over, it can be ahead of the thread that follows it. Then waits until that has
    /// told of the loss, or the server has confirmed the lock after all.
    pub(super) fn is_told(&self, guards: &[Guard]) -> bool {
        // A lock that is not held for certain has some time left.
        let over = |expires| expires <= Instant::now();
        let is_lost = |guard: &Guard| !guard.is_held() && guard.expires_at().is_none_or(over);
        while self.end.is_some() && guards.iter().any(is_lost) {
            if self.lost.load(Ordering::SeqCst) {
                return true;
            }
            // The thread that tells wakes this one.
            thread::park_timeout(LOOK);
        }
        false
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
