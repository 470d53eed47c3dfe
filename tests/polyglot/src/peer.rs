//! Another holder, which the host plays for the guest `python-contract`.

use locket::{Guard, Mode, Options, Protocol};
use locket_tests::harness::Host;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;
use wasmtime::Result;
use wasmtime::component::Linker;
use wasmtime::error::Context as _;

/// A holder of one lock at a time.
pub(crate) struct Peer {
    locks: locket::Engine,
    directory: PathBuf,
    hold: Option<Guard>,
}

impl Peer {
    pub(crate) fn new(host: &Host) -> Self {
        Self {
            locks: host.locks.clone(),
            directory: host.dir.path().into(),
            hold: None,
        }
    }

    fn hold(&mut self, path: &str, as_what: &str) -> Result<()> {
        let name = path.strip_prefix("/locks/").context("not in /locks")?;
        let protocol = match as_what {
            "LinkLockFile" => Protocol::Link,
            "MkdirLockFile" => Protocol::Mkdir,
            "SymlinkLockFile" => Protocol::Symlink,
            "flock" => Protocol::Flock,
            "lockf" => Protocol::Fcntl,
            _ => Protocol::Native,
        };
        let options = Options::new().protocol(protocol);
        let lock = self.locks.open_with(self.directory.join(name), &options)?;
        self.hold = Some(lock.acquire(Mode::Exclusive, None)?);
        Ok(())
    }

    fn release(&mut self, after: u32) {
        let hold = self.hold.take();
        if after > 0 {
            thread::spawn(move || {
                thread::sleep(Duration::from_millis(after.into()));
                drop(hold);
            });
        }
    }
}

pub(crate) fn add_to_linker<T: 'static>(
    linker: &mut Linker<T>,
    peer: fn(&mut T) -> &mut Peer,
) -> Result<()> {
    let mut interface = linker.instance("locket:contract/peer@0.1.0")?;
    interface.func_wrap(
        "hold",
        move |mut store, (path, as_what): (String, String)| {
            peer(store.data_mut()).hold(&path, &as_what)
        },
    )?;
    interface.func_wrap("release", move |mut store, (after,)| {
        peer(store.data_mut()).release(after);
        Ok(())
    })
}
