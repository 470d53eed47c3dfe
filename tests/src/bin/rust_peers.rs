//! What Rust programs lock files with, in the language of the suite `interop`: `rust_peers std|fs4|fd-lock`.
//! None of them has a timeout: they try once, or wait indefinitely.

use std::any::Any;
use std::fs::{File, TryLockError};
use std::io;

use anyhow::{Result, bail};

/// What gives the lock back when dropped; none if others have it.
type Held = Option<Box<dyn Any>>;

fn main() -> Result<()> {
    let library = std::env::args().nth(1).unwrap_or_default();
    let (version, acquire): (_, fn(File, bool) -> Result<Held>) = match library.as_str() {
        "std" => (env!("CARGO_PKG_RUST_VERSION"), std_lock),
        "fs4" => ("1", fs4_lock),
        "fd-lock" => ("4", fd_lock),
        _ => bail!("there are: std, fs4, fd-lock"),
    };
    println!("{version}");
    let mut held = None;
    for line in io::stdin().lines() {
        let line = line?;
        let (command, words) = line.split_once(' ').unwrap_or((&line, ""));
        if command == "release" {
            held = None;
            println!("released");
            continue;
        }
        let path = words.rsplit(' ').next().unwrap_or(words);
        let file = File::options().create(true).append(true).open(path)?;
        held = acquire(file, command == "wait")?;
        println!("{}", if held.is_some() { "got" } else { "busy" });
    }
    drop(held);
    Ok(())
}

fn std_lock(file: File, wait: bool) -> Result<Held> {
    if wait {
        file.lock()?;
    } else {
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(e)) => return Err(e.into()),
        }
    }
    Ok(Some(Box::new(file)))
}

fn fs4_lock(file: File, wait: bool) -> Result<Held> {
    if wait {
        fs4::FileExt::lock(&file)?;
    } else {
        match fs4::FileExt::try_lock(&file) {
            Ok(()) => {}
            Err(fs4::TryLockError::WouldBlock) => return Ok(None),
            Err(fs4::TryLockError::Error(e)) => return Err(e.into()),
        }
    }
    Ok(Some(Box::new(file)))
}

fn fd_lock(file: File, wait: bool) -> Result<Held> {
    // The guard borrows the lock, for as long as the program runs.
    let lock = Box::leak(Box::new(fd_lock::RwLock::new(file)));
    let tried = if wait { lock.write() } else { lock.try_write() };
    match tried {
        Ok(guard) => Ok(Some(Box::new(guard))),
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(e) => Err(e.into()),
    }
}
