//! A native process with one lock, driven line by line: each command on standard input gets one
//! line of answer. `peer PATH [--protocol P] [--database PATH] [--remove] [--pinned] [--threaded]`
//!
//! A lock that cannot be opened is told as `err KIND MESSAGE` at once.
//!
//! `acquire MODE none|MS`, `acquire-async MODE none|MS`, `with`, `release`, `let-go` (drops the guards),
//! `state`, `is-locked`, `holder` (its process, or `unknown`, and whether it is this one; or `none`),
//! `break`, and `by-path`, which opens the lock anew, acquires it and lets go of everything

use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Parser;
use locket::{Engine, Guard, LockFile, Mode, OnRelease, Options, Protocol};

/// Holds and releases one lock as it is told.
#[derive(Parser)]
struct Args {
    path: PathBuf,
    #[arg(long, default_value = "native")]
    protocol: Protocol,
    #[arg(long)]
    remove: bool,
    #[arg(long)]
    pinned: bool,
    #[arg(long)]
    threaded: bool,
    #[arg(long)]
    database: Option<PathBuf>,
}

struct Peer {
    engine: Engine,
    options: Options,
    lock: LockFile,
    runtime: tokio::runtime::Runtime,
    held: Vec<Guard>,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let on_release = if args.remove {
        OnRelease::Remove
    } else {
        OnRelease::Keep
    };
    let mut options = Options::new()
        .protocol(args.protocol)
        .on_release(on_release)
        .pinned(args.pinned)
        .threaded(args.threaded);
    if let Some(database) = args.database {
        options = options.database(database);
    }
    let engine = Engine::new();
    let lock = match engine.open_with(&args.path, &options) {
        Ok(lock) => lock,
        Err(e) => {
            println!("err {} {e}", name(&e));
            return Ok(());
        }
    };
    let mut peer = Peer {
        engine,
        options,
        lock,
        runtime: tokio::runtime::Builder::new_current_thread().build()?,
        held: Vec::new(),
    };
    for command in std::io::stdin().lock().lines() {
        let answer = match peer.obey(&command?) {
            Ok(answer) => answer,
            Err(e) => match e.downcast_ref::<locket::Error>() {
                Some(e) => format!("err {}", name(e)),
                None => return Err(e),
            },
        };
        println!("{answer}");
        std::io::stdout().flush()?;
    }
    Ok(())
}

impl Peer {
    fn obey(&mut self, command: &str) -> Result<String> {
        let lock = &self.lock;
        let words: Vec<_> = command.split(' ').collect();
        Ok(match words[..] {
            ["acquire", mode, timeout] => {
                let guard = lock.acquire(parse_mode(mode)?, parse_timeout(timeout)?)?;
                self.held.push(guard);
                "ok".into()
            }
            ["acquire-async", mode, timeout] => {
                let acquire = lock.acquire_async(parse_mode(mode)?, parse_timeout(timeout)?);
                self.held.push(self.runtime.block_on(acquire)?);
                "ok".into()
            }
            ["with"] => format!("ok {}", lock.with_lock(None, || 4 + 3)?),
            ["by-path"] => {
                let lock = self.engine.open_with(lock.path(), &self.options)?;
                drop(lock.acquire(Mode::Exclusive, None)?);
                "ok".into()
            }
            ["release"] => {
                lock.release()?;
                self.held.clear();
                "ok".into()
            }
            ["let-go"] => {
                self.held.clear();
                "ok".into()
            }
            ["state"] => format!("ok {:?}", lock.state()),
            ["is-locked"] => format!("ok {}", lock.is_locked()?),
            ["holder"] => match lock.holder()? {
                None => "ok none".into(),
                Some(holder) => {
                    let pid = holder.pid.map(|pid| pid.to_string());
                    let pid = pid.as_deref().unwrap_or("unknown");
                    format!("ok {pid} {}", holder.is_self)
                }
            },
            ["break"] => {
                lock.break_lock()?;
                "ok".into()
            }
            _ => bail!("unknown command: {command}"),
        })
    }
}

fn parse_mode(mode: &str) -> Result<Mode> {
    match mode {
        "exclusive" => Ok(Mode::Exclusive),
        "shared" => Ok(Mode::Shared),
        _ => bail!("unknown mode: {mode}"),
    }
}

fn parse_timeout(timeout: &str) -> Result<Option<Duration>> {
    if timeout == "none" {
        return Ok(None);
    }
    Ok(Some(Duration::from_millis(
        timeout.parse().context("the timeout")?,
    )))
}

fn name(error: &locket::Error) -> &'static str {
    let names = [
        (error.is_would_block(), "would-block"),
        (error.is_timeout(), "timeout"),
        (error.is_not_locked(), "not-locked"),
        (error.is_not_owner(), "not-owner"),
        (error.is_lost(), "lost"),
        (error.is_denied(), "denied"),
        (error.is_not_found(), "not-found"),
        (error.is_invalid_path(), "invalid-path"),
        (error.is_unsupported(), "unsupported"),
        (error.is_canceled(), "canceled"),
        (error.is_io(), "io"),
    ];
    names
        .into_iter()
        .find_map(|(is, name)| is.then_some(name))
        .unwrap_or("other")
}
