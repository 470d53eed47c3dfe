//! A store that refuses a stale token, so that a holder that lost its lock without noticing spoils
//! nothing.
//!
//! ```console
//! $ cargo run --example fencing
//! ```

use std::error::Error;
use std::time::Duration;

use locket::{Engine, Mode, Options};

/// What the lock protects. It may be on another machine: it need not know the lock, only tokens.
#[derive(Default)]
struct Store {
    value: String,
    newest: u64,
}

impl Store {
    fn write(&mut self, value: &str, token: u64) -> Result<(), String> {
        if token < self.newest {
            return Err(format!("token {token} is older than {}", self.newest));
        }
        self.newest = token;
        self.value = value.to_owned();
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let mut store = Store::default();
    let options = Options::new()
        .fencing(true)
        .max_hold(Some(Duration::from_millis(50)));
    let open = || Engine::new().open_with(dir.path().join("store.lock"), &options);

    // One holder acquires the lock, and is then held up for longer than it may hold it: by a debugger,
    // a full disk, a machine that sleeps.
    let slow = open()?.acquire(Mode::Exclusive, None)?;
    let token = slow.token().ok_or("the file system keeps no tokens")?;

    // Meanwhile the lock passes to another, which writes.
    let next = open()?.acquire(Mode::Exclusive, Duration::from_secs(10))?;
    store.write("from the next holder", next.token().ok_or("no token")?)?;

    // The slow one continues as if nothing had happened.
    let refused = store.write("from the slow one", token);
    println!("refused: {}", refused.expect_err("the token is stale"));
    assert_eq!(store.value, "from the next holder");
    Ok(())
}
