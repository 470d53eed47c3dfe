//! Acquires the locks of `locket exec`: all or none.

use std::time::{Duration, Instant};

use locket::{Engine, Guard, Protocol};

use super::Exec;
use super::ancestor::Ancestor;
use super::open::Opened;
use crate::exit::{self, ExitError};
use crate::output::{HumanDuration, eprint_line, shown_error, shown_path};

/// How long a wait lasts before this reports that it may never end.
const PATIENCE: Duration = Duration::from_secs(1);

impl Exec {
    /// Acquires the locks. Returns `None` if others hold one of them for too long.
    pub(super) fn acquire(&self) -> anyhow::Result<Option<Vec<Guard>>> {
        #[cfg(unix)]
        crate::sys::end_first_process();
        let start = Instant::now();
        let engine = Engine::new();
        let mut opened = self.open_all(&engine)?;
        let mut result = self.acquire_by(&engine, &opened, start)?;
        // A file that may be read, and not written to.
        while let Err(e) = &result
            && e.is_denied()
            && self.protocol().is_none()
            && !self.remove
            && let Some(denied) = opened.iter_mut().find(|opened| {
                opened.protocol == Protocol::Native && opened.lock.path() == e.path()
            })
        {
            *denied = self.open_by(&engine, denied.named.clone(), Protocol::Flock)?;
            result = self.acquire_by(&engine, &opened, start)?;
        }
        match result {
            Ok(guards) => {
                if self.verbose {
                    let (locks, time) = (self.list(&opened), HumanDuration(start.elapsed()));
                    eprint_line(format_args!("acquired {locks} after {time}"));
                }
                Ok(Some(guards))
            }
            // As with flock(1), only the exit code reports it, to keep scripts quiet.
            #[cfg(feature = "remote")]
            Err(e) if self.remote.is_set() && (e.is_would_block() || e.is_timeout()) => {
                let (error, path) = (shown_error(&e), shown_path(e.path()));
                self.verbose(format_args!(
                    "{error}; `locket status --remote URL {path}` shows who holds it"
                ));
                Ok(None)
            }
            Err(e) if e.is_would_block() || e.is_timeout() => {
                let (error, path) = (shown_error(&e), shown_path(e.path()));
                self.verbose(format_args!(
                    "{error}; `locket status {path}` shows who holds it"
                ));
                Ok(None)
            }
            #[cfg(feature = "remote")]
            Err(e) if self.remote.is_set() => Err(crate::remote::error(&e).into()),
            Err(e) => Err(ExitError::from_lock(&e, exit::UNAVAILABLE).into()),
        }
    }

    /// Tries, then waits. The first result is an error of this tool, the second one of a lock.
    fn acquire_by(
        &self,
        engine: &Engine,
        opened: &[Opened],
        start: Instant,
    ) -> Result<locket::Result<Vec<Guard>>, ExitError> {
        let acquire = |timeout: Option<Duration>| {
            let locks = opened
                .iter()
                .map(|opened| (&opened.lock, opened.named.mode));
            engine.acquire_all(locks, timeout)
        };
        let result = acquire(Some(Duration::ZERO));
        let Err(e) = &result else {
            return Ok(result);
        };
        if !e.is_would_block() || self.timeout() == Some(Duration::ZERO) {
            return Ok(result);
        }
        let is_locked = |opened: &&Opened| opened.lock.path() == e.path();
        if let Some(Opened { named, .. }) = opened.iter().find(is_locked) {
            let (mode, path) = (named.mode, shown_path(&named.path));
            self.verbose(format_args!("waiting for the {mode} lock of {path}"));
        }
        // Not less than it takes to wait at all.
        let left = || {
            let timeout = self.timeout()?;
            let left = timeout.saturating_sub(start.elapsed());
            Some(left.max(Duration::from_nanos(1)))
        };
        let Some(ancestor) = Ancestor::of_any(opened) else {
            return Ok(acquire(left()));
        };
        if ancestor.waits_for_us() && self.timeout().is_none() {
            let message = format_args!("{ancestor}, so waiting for the lock would never end");
            return Err(ExitError::new(exit::UNAVAILABLE, message));
        }
        let first = left().map_or(PATIENCE, |left| left.min(PATIENCE));
        let result = acquire(Some(first));
        let is_over = self.timeout().is_some_and(|all| all <= start.elapsed());
        if is_over || !result.as_ref().is_err_and(locket::Error::is_timeout) {
            return Ok(result);
        }
        eprint_line(format_args!(
            "{ancestor}; unless it releases the lock first, this waits in vain"
        ));
        Ok(acquire(left()))
    }

    /// The locks, as a part of a sentence.
    fn list(&self, opened: &[Opened]) -> String {
        let lock = |opened: &Opened| {
            let only = match self.protocol() {
                None if opened.protocol == Protocol::Flock => " (flock)",
                _ => "",
            };
            let (mode, path) = (opened.named.mode, shown_path(&opened.named.path));
            format!("the {mode} lock{only} of {path}")
        };
        let locks: Vec<_> = opened.iter().map(lock).collect();
        locks.join(" and ")
    }
}
