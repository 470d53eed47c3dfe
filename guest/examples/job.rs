//! A command component that works while it holds a lock. Build it for `wasm32-wasip2`, and run it with
//! `locket run --dir jobs::/jobs job.wasm`.

use std::time::Duration;

use locket_guest::{LockFile, Mode};

fn main() -> Result<(), locket_guest::Error> {
    let lock = LockFile::open("/jobs/nightly.lock")?;
    let _guard = match lock.acquire(Mode::Exclusive, Duration::from_secs(30)) {
        Ok(guard) => guard,
        Err(e) if e.is_timeout() => {
            println!("another instance is still working");
            return Ok(());
        }
        Err(e) => return Err(e),
    };
    println!("working alone");
    // The guard releases the lock on every way out.
    Ok(())
}
