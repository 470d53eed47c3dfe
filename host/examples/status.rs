//! Shows the holders of the locks of some files, as far as the system reports them.
//!
//! `cargo run -p locket-host --example status -- a.lock b.lock`

use locket::{Engine, Options};

fn main() -> Result<(), locket::Error> {
    let engine = Engine::new();
    for path in std::env::args_os().skip(1) {
        // Asking creates no file.
        let lock = match engine.open_with(&path, &Options::new().create(false)) {
            Ok(lock) => lock,
            Err(e) if e.is_not_found() => {
                println!("{}: free, no such file", path.display());
                continue;
            }
            Err(e) => return Err(e),
        };
        match lock.holder()? {
            None => println!("{}: free", path.display()),
            Some(holder) => match holder.pid {
                Some(pid) => println!("{}: {} by process {pid}", path.display(), holder.mode),
                None => println!("{}: {} by an unknown process", path.display(), holder.mode),
            },
        }
    }
    Ok(())
}
