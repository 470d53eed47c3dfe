//! Holds a lock exclusively while it changes the file that the lock protects.
//!
//! `cargo run -p locket-host --example exclusive -- counter.lock counter`

use std::path::PathBuf;
use std::time::Duration;

use locket::{Engine, Mode};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut paths = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(lock), Some(counter)) = (paths.next(), paths.next()) else {
        return Err("usage: exclusive LOCK COUNTER".into());
    };
    let lock = Engine::new().open(lock)?;
    let guard = lock.acquire(Mode::Exclusive, Duration::from_secs(30))?;
    let count = match std::fs::read_to_string(&counter) {
        Ok(text) => text.trim().parse::<u64>()?,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => 0,
        Err(e) => return Err(e.into()),
    };
    std::fs::write(&counter, format!("{}\n", count + 1))?;
    // Dropping the guard releases the lock as well, and ignores errors.
    guard.release()?;
    println!("{}", count + 1);
    Ok(())
}
