//! Reads a file under a shared lock, together with any number of other readers, or says that a writer
//! is at work.
//!
//! `cargo run -p locket-host --example shared -- counter.lock counter`

use std::path::PathBuf;

use locket::{Engine, Mode};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut paths = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(lock), Some(file)) = (paths.next(), paths.next()) else {
        return Err("usage: shared LOCK FILE".into());
    };
    let lock = Engine::new().open(lock)?;
    match lock.try_acquire(Mode::Shared)? {
        Some(_guard) => print!("{}", std::fs::read_to_string(file)?),
        None => println!("{} is locked exclusively", lock.path().display()),
    }
    Ok(())
}
