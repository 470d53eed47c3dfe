//! The owner record of a lock, as these tests write it.
//!
//! The format is written down here a second time, so that a change of it does not go unnoticed.

use std::os::unix::fs::symlink;
use std::sync::OnceLock;

use super::*;

/// The holder of a lock, as it is written.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) host: String,
    pub(crate) pid: u32,
    pub(crate) boot: u128,
    pub(crate) namespace: u64,
    pub(crate) ticks: u64,
}

pub(crate) const INITIAL_NAMESPACE: u64 = 0xefff_fffc;

impl Record {
    /// The record of this process.
    pub(crate) fn mine() -> Self {
        static MINE: OnceLock<Record> = OnceLock::new();
        MINE.get_or_init(Self::of_this_process).clone()
    }

    fn of_this_process() -> Self {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
        let boot = boot.trim().replace('-', "");
        let host = rustix::system::uname();
        Self {
            host: host.nodename().to_str().unwrap().to_owned(),
            pid: std::process::id(),
            boot: u128::from_str_radix(&boot, 16).unwrap(),
            namespace: fs::metadata("/proc/self/ns/pid").unwrap().ino(),
            ticks: start(std::process::id()).unwrap(),
        }
    }

    /// A copy with a change.
    pub(crate) fn but(&self, change: impl FnOnce(&mut Self)) -> Self {
        let mut changed = self.clone();
        change(&mut changed);
        changed
    }

    /// The unique name, for the protocols that have one.
    pub(crate) fn name(&self) -> String {
        let Self {
            host,
            pid,
            boot,
            namespace,
            ticks,
        } = self;
        format!("{host}.{pid}-0{boot:039}{namespace:010}{:010}{ticks}", 7)
    }

    /// The content of a file of the protocol `soft`.
    pub(crate) fn text(&self) -> String {
        let namespace = match self.namespace {
            INITIAL_NAMESPACE => String::new(),
            namespace => format!("?pidns-{namespace:x}"),
        };
        let start = match self.ticks {
            0 => String::new(),
            ticks => format!("{}\n", decimal(self.boot, ticks)),
        };
        format!("{}\n{}{namespace}\n{start}", self.pid, self.host)
    }

    /// Makes a lock with this record.
    pub(crate) fn plant(&self, dir: &Dir, protocol: Protocol) {
        match protocol {
            Protocol::PidFile => plant(dir, protocol, format!("{}\n", self.pid).as_bytes()),
            Protocol::Soft => plant(dir, protocol, self.text().as_bytes()),
            _ => plant(dir, protocol, self.name().as_bytes()),
        }
    }
}

/// Makes a lock with `text` as the name of its holder or as its record.
pub(crate) fn plant(dir: &Dir, protocol: Protocol, text: &[u8]) {
    let place = place(dir, protocol);
    let name = std::ffi::OsStr::from_bytes(text);
    match protocol {
        Protocol::Link => {
            fs::write(dir.0.path().join(name), "").unwrap();
            fs::hard_link(dir.0.path().join(name), place).unwrap();
        }
        Protocol::Symlink => symlink(name, place).unwrap(),
        Protocol::Mkdir => {
            fs::create_dir(&place).unwrap();
            fs::write(place.join(name), "").unwrap();
        }
        #[cfg(feature = "sqlite")]
        Protocol::Sqlite => {
            let holder = dir.path(std::str::from_utf8(text).unwrap());
            databases::insert(dir, holder.to_str().unwrap());
        }
        _ => fs::write(place, text).unwrap(),
    }
}

/// The start of a process as a number of 192 bits, in decimal digits.
pub(crate) fn decimal(boot: u128, ticks: u64) -> String {
    let high = (0..128).rev().map(|bit| boot >> bit & 1);
    let low = (0..64).rev().map(|bit| u128::from(ticks) >> bit & 1);
    let mut digits = vec![0];
    for bit in high.chain(low) {
        let mut carry = bit as u8;
        for digit in &mut digits {
            let double = *digit * 2 + carry;
            (*digit, carry) = (double % 10, double / 10);
        }
        if carry > 0 {
            digits.push(carry);
        }
    }
    digits.iter().rev().map(|d| char::from(b'0' + d)).collect()
}

/// The start time of a process; none if there is no such process.
pub(crate) fn start(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(19)?.parse().ok()
}

/// A number that no process has, since no system counts that far.
pub(crate) const GONE: u32 = i32::MAX as u32 - 1;

/// The protocols whose records say more than a process number.
pub(crate) fn with_full_records() -> impl Iterator<Item = Protocol> {
    let all = Protocol::ALL.iter().copied();
    all.filter(|p| p.is_existence_lock() && *p != Protocol::PidFile)
        .filter(|p| cfg!(feature = "sqlite") || *p != Protocol::Sqlite)
}

/// The files in the directory while the lock is free.
pub(crate) fn rest(protocol: Protocol) -> &'static [&'static str] {
    match protocol {
        Protocol::Sqlite => &["locks.db"],
        _ => &[],
    }
}

/// Whether this process sees all others. Only then a number alone proves that a holder is dead.
pub(crate) fn sees_all_processes() -> bool {
    let all = Record::mine().namespace == INITIAL_NAMESPACE;
    if !all {
        not_tested(format_args!("in a container not every process can be seen"));
    }
    all
}
