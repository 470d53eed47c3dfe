//! The protocols that exist on this system, in this build.

use locket::{Engine, Mode, Options, Protocol};

use crate::files::Dir;

/// An exclusive hold.
pub const EX: Mode = Mode::Exclusive;

/// A shared hold.
pub const SH: Mode = Mode::Shared;

/// The protocols whose lock the kernel keeps.
pub const KERNEL: [Protocol; 3] = [Protocol::Native, Protocol::Flock, Protocol::Fcntl];

/// The protocols whose lock is an entry of a directory.
pub const NAMES: [Protocol; 5] = [
    Protocol::Link,
    Protocol::Symlink,
    Protocol::Mkdir,
    Protocol::PidFile,
    Protocol::Soft,
];

/// Whether the system and the features of the engine have the protocol, and this process may use it.
pub fn is_available(protocol: Protocol) -> bool {
    let dir = Dir::new();
    let options = Options::new().protocol(protocol);
    let options = options.database(dir.path("locks.db"));
    let lock = Engine::new().open_with(dir.path("lock"), &options);
    let tried = lock.and_then(|lock| lock.try_acquire(EX).map(drop));
    tried.map_or_else(|e| !e.is_unsupported(), |()| true)
}

/// Runs a test for every protocol that is available.
pub fn each_protocol(test: impl Fn(&Options)) {
    let database = Dir::new();
    for &protocol in Protocol::ALL {
        if !is_available(protocol) {
            continue;
        }
        println!("protocol {protocol}");
        let options = Options::new().protocol(protocol);
        test(&options.database(database.path("locks.db")));
    }
}

/// Runs a test for every protocol whose lock the kernel keeps.
pub fn each_kernel_protocol(test: impl Fn(&Options)) {
    for protocol in KERNEL {
        println!("protocol {protocol}");
        test(&Options::new().protocol(protocol));
    }
}
