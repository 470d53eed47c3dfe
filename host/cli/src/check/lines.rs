//! The input of a process that ends with it, whatever it waits for.

use std::io::{self, BufRead};
use std::process;
use std::sync::mpsc::channel;
use std::thread;

/// The lines of the input, which a thread of its own reads.
#[expect(
    clippy::disallowed_methods,
    reason = "`main` may wait for a lock that is never granted"
)]
pub(super) fn of_input() -> io::Result<impl Iterator<Item = io::Result<String>>> {
    let (sender, receiver) = channel();
    let read = move || {
        for line in io::stdin().lock().lines() {
            let _ = sender.send(line);
        }
        process::exit(0)
    };
    thread::Builder::new().spawn(read)?;
    Ok(receiver.into_iter())
}
