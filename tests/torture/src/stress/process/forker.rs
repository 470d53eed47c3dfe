//! A thread that forks at random. It has a lock, waits for others, and watches for losses; its children
//! drop all that, or run another program.
#![expect(unsafe_code, reason = "fork has no safe binding")]

use std::ffi::CStr;
use std::fs;
use std::ops::AddAssign;
use std::pin::Pin;
use std::ptr;
use std::sync::atomic::Ordering;
use std::task::{Context, Waker};
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use locket::{Mode, Options, Protocol};
use serde::{Deserialize, Serialize};

use super::Shared;

/// How long a child may take, in seconds. It has nothing to wait for.
const LONGEST_LIFE: u32 = 10;

/// A program that does nothing.
const PROGRAM: &CStr = c"/bin/true";

/// What became of the children.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub struct Forks {
    /// How many dropped everything.
    pub dropped: u64,
    /// How many ran a program.
    pub ran: u64,
    /// How many did not end.
    pub hung: u64,
}

impl AddAssign for Forks {
    fn add_assign(&mut self, other: Self) {
        self.dropped += other.dropped;
        self.ran += other.ran;
        self.hung += other.hung;
    }
}

impl Shared {
    /// Forks until the end of the run, and writes down what became of the children.
    pub(super) fn fork_at_random(&self) -> Result<()> {
        let layout = &self.role.layout;
        let mut chance = fastrand::Rng::with_seed(self.role.seed);
        let mut forks = Forks::default();
        while !self.stopping.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(chance.u64(5..30)));
            let own = layout.locks().join(format!("{}.forker", self.role.name));
            let protocol = match chance.bool() {
                true => Protocol::Native,
                false => Protocol::Mkdir,
            };
            let options = Options::new().protocol(protocol);
            let options = options.max_hold(Some(Duration::from_secs(60)));
            let own = self.engine.open_with(own, &options)?;
            let guard = own.acquire(Mode::Exclusive, None)?;
            let mut lost = Box::pin(guard.lost());
            let mut context = Context::from_waker(Waker::noop());
            let _ = lost.as_mut().poll(&mut context);
            let locks = self.open()?;
            // In line with the workers. What is granted at once is given back at once.
            let mut waits = Vec::new();
            for lock in &locks {
                let mut acquire = lock.acquire_async(Mode::Exclusive, None);
                if Pin::new(&mut acquire).poll(&mut context).is_pending() {
                    waits.push(acquire);
                }
            }
            let inherited = (waits, lost, guard, own, locks, self.engine.clone());
            let ended = match chance.bool() {
                true => fork(|| drop(inherited))?,
                false => fork(|| {
                    let arguments = [PROGRAM.as_ptr(), ptr::null()];
                    // SAFETY: the path is a string, and the arguments are an array that ends with null.
                    unsafe { libc::execv(PROGRAM.as_ptr(), arguments.as_ptr()) };
                })?,
            };
            match ended {
                Ended::Exited(DROPPED) => forks.dropped += 1,
                Ended::Exited(0) => forks.ran += 1,
                Ended::Exited(_) | Ended::Killed => forks.hung += 1,
            }
        }
        let file = layout.forks().join(&self.role.name);
        Ok(fs::write(file, serde_json::to_string(&forks)?)?)
    }
}

/// The exit code of a child that has dropped everything.
const DROPPED: i32 = 3;

enum Ended {
    Exited(i32),
    Killed,
}

/// Has a child call `child`, and waits for its end.
fn fork(child: impl FnOnce()) -> Result<Ended> {
    // SAFETY: the child touches only what it inherited, and leaves by `_exit`.
    let pid = unsafe { libc::fork() };
    ensure!(pid >= 0, std::io::Error::last_os_error());
    if pid == 0 {
        // SAFETY: ends the child if it hangs.
        unsafe { libc::alarm(LONGEST_LIFE) };
        child();
        // SAFETY: ends the process.
        unsafe { libc::_exit(DROPPED) };
    }
    let mut status = 0;
    // SAFETY: `status` is valid for writes.
    let waited = unsafe { libc::waitpid(pid, &raw mut status, 0) };
    ensure!(waited == pid, std::io::Error::last_os_error());
    Ok(match libc::WIFEXITED(status) {
        true => Ended::Exited(libc::WEXITSTATUS(status)),
        false => Ended::Killed,
    })
}
