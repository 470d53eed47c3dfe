//! What happens between a peer and our tool.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use locket_tests::process::{Process, QUIESCENT, STUCK};
use rustix::process::{Pid, Signal, kill_process_group};

use super::peers::{Driver, Peer, Waits, Way};
use super::table::protocols;

/// What happens to a tool that tries while the other holds the lock.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Met {
    /// It is refused, times out, waits, and gets the lock when the other has released it.
    Lock,
    /// It gets the lock.
    Nothing,
    /// It is refused even after the release, since something is left behind.
    Remains,
    /// It is refused, and after a while takes the lock from its holder.
    Evicts,
    /// It cannot try.
    Fails,
}

/// For a peer and a protocol: what happens to our tool while the peer holds the lock, and the reverse.
#[derive(Clone, Copy, PartialEq)]
pub(crate) struct Pair {
    pub(crate) we: Met,
    pub(crate) they: Met,
}

impl fmt::Display for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.we, &self.they) {
            (Met::Lock, Met::Lock) => f.write_str("excludes"),
            (Met::Nothing, Met::Nothing) => f.write_str("."),
            (we, they) => write!(f, "{we}/{they}"),
        }
    }
}

impl fmt::Display for Met {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lock => "excluded",
            Self::Nothing => ".",
            Self::Remains => "remains",
            Self::Evicts => "evicts",
            Self::Fails => "fails",
        })
    }
}

/// What is known of the peers.
pub(crate) fn expected(peer: &Peer, protocol: &str) -> Pair {
    let pair = |we, they| Pair { we, they };
    let both = |met| pair(met, met);
    match (peer.way, protocol) {
        // It cannot read the name of a holder there, and treats what it cannot read as garbage.
        (Way::Path, "pid-file") if peer.name == "filelock SoftFileLock" => {
            pair(Met::Lock, Met::Evicts)
        }
        (Way::Flock, "native" | "flock")
        | (Way::Fcntl, "native" | "fcntl")
        | (Way::Beside, "link" | "symlink" | "mkdir")
        | (Way::Path, "pid-file" | "soft")
        | (Way::Row, "sqlite") => both(Met::Lock),
        // The file that we create is no valid index, not even if it is empty.
        (Way::Beside, "native" | "flock" | "fcntl" | "pid-file" | "soft") if peer.name == "git" => {
            pair(Met::Nothing, Met::Fails)
        }
        // Nor is it a database, unless it is empty.
        (Way::Fcntl, "pid-file" | "soft") if peer.name == "sqlite3" => {
            pair(Met::Remains, Met::Fails)
        }
        // A file that is locked need not be new, and stays. Ours is locked too, as the proof that its
        // holder lives.
        (Way::Flock, "pid-file" | "soft") => pair(Met::Remains, Met::Lock),
        (Way::Fcntl, "pid-file" | "soft") => pair(Met::Remains, Met::Nothing),
        (Way::Path, "native" | "flock" | "fcntl") => pair(Met::Nothing, Met::Remains),
        _ => both(Met::Nothing),
    }
}

/// Long enough, in seconds, to see that a tool gives up. A soft lock evicts a holder whose name it cannot
/// read after 2 seconds; long enough to see that, too.
pub(crate) fn patience(peer: &Peer, protocol: &str) -> f64 {
    let soft = protocol == "soft" || peer.name == "filelock SoftFileLock";
    let made = ["pid-file", "soft"].contains(&protocol);
    if peer.way == Way::Path && soft && made {
        3.5
    } else {
        0.3
    }
}

pub(crate) fn fails(path: &Path, error: &str) -> Met {
    println!("{}: {}", path.display(), error.trim());
    Met::Fails
}

/// `locket exec` with a protocol.
pub(crate) struct Ours<'a> {
    pub(crate) tool: &'a Path,
    pub(crate) protocol: &'a str,
}

impl Ours<'_> {
    pub(crate) fn command<S: AsRef<OsStr>>(&self, args: &[S], path: &Path, line: &str) -> Command {
        let mut command = Command::new(self.tool);
        command.args(["exec", "--protocol", self.protocol]);
        if self.protocol == "sqlite" {
            let database = path.with_file_name("locks.db");
            command.arg("--database").arg(database);
        }
        command.args(args).arg(path).args(["--", "sh", "-c", line]);
        command
    }

    /// Whether the lock could be acquired.
    pub(crate) fn acquire<S: AsRef<OsStr>>(&self, args: &[S], path: &Path) -> Result<bool, Met> {
        let output = self.command(args, path, "echo got").output().unwrap();
        match output.status.code() {
            Some(0) => Ok(true),
            Some(1) => Ok(false),
            _ => Err(fails(path, &String::from_utf8_lossy(&output.stderr))),
        }
    }

    /// Says `got` when it holds the lock, and holds it until its input ends.
    pub(crate) fn hold<S: AsRef<OsStr>>(&self, args: &[S], path: &Path) -> Process {
        Process::spawn(self.command(args, path, "echo got; cat").process_group(0))
    }
}

pub(crate) const WAIT: [&str; 2] = ["-w", "10"];

pub(crate) fn we_meet(
    peer: &Peer,
    they: &mut Driver,
    ours: &Ours<'_>,
    path: &Path,
) -> Result<Met, Met> {
    let patience = patience(peer, ours.protocol).to_string();
    assert!(they.acquire(format_args!("try"), path)?, "the lock is free");
    let tried = ours.acquire(&["-n"], path);
    let waited = match tried {
        Ok(false) => ours.acquire(&["-w", &patience], path),
        _ => Ok(false),
    };
    they.release();
    if tried? {
        return Ok(Met::Nothing);
    }
    if waited? {
        return Ok(Met::Evicts);
    }
    if !ours.acquire(&["-n"], path)? {
        return Ok(Met::Remains);
    }
    assert!(
        they.acquire(format_args!("try"), path)?,
        "our tool has released it"
    );
    let mut waiter = ours.hold(&WAIT, path);
    let early = waiter.answer_within(QUIESCENT);
    assert_eq!(early, None, "did not wait for {}", peer.name);
    they.release();
    assert_eq!(waiter.answer(), "got", "waiting for {}", peer.name);
    assert!(waiter.finish());
    Ok(Met::Lock)
}

pub(crate) fn they_meet(
    peer: &Peer,
    they: &mut Driver,
    ours: &Ours<'_>,
    path: &Path,
) -> Result<Met, Met> {
    let patience = patience(peer, ours.protocol);
    let mut holder = ours.hold::<&str>(&[], path);
    assert_eq!(holder.answer(), "got", "the lock is free");
    if they.acquire(format_args!("try"), path)? {
        they.release();
        return Ok(Met::Nothing);
    }
    if peer.waits == Waits::Limited && they.acquire(format_args!("wait {patience}"), path)? {
        they.release();
        return Ok(Met::Evicts);
    }
    assert!(holder.finish());
    if !they.acquire(format_args!("try"), path)? {
        return Ok(Met::Remains);
    }
    they.release();
    if peer.way == Way::Flock && ["pid-file", "soft"].contains(&ours.protocol) {
        // It leaves its file behind, which we cannot tell from a lock.
        std::fs::remove_file(path).unwrap();
    }
    if peer.waits != Waits::Never {
        let mut holder = ours.hold::<&str>(&[], path);
        assert_eq!(holder.answer(), "got", "{} released", peer.name);
        they.0.send(&format!("wait 10 {}", path.display()));
        let early = they.0.answer_within(QUIESCENT);
        assert_eq!(early, None, "{} did not wait for us", peer.name);
        assert!(holder.finish());
        assert_eq!(they.0.answer(), "got", "{} waiting for us", peer.name);
        they.release();
    }
    Ok(Met::Lock)
}

/// The results with each of our protocols.
pub(crate) type Row = Vec<(&'static str, Pair)>;

/// Everything that happens between a peer and our tool; none if there is no such peer.
pub(crate) fn meet(peer: &Peer, tool: &Path, dir: &Path) -> Option<Row> {
    let start = Instant::now();
    let dir = dir.join(peer.name.replace(' ', "-"));
    let fresh = |protocol: &str, holder: &str| {
        // Any path would do, except for git.
        let path = dir.join(protocol).join(holder).join(".git/index");
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    };
    std::fs::create_dir_all(&dir).unwrap();
    let (mut they, version) = Driver::start(peer, &dir)?;
    let pairs = protocols().map(|protocol| {
        let ours = Ours { tool, protocol };
        let we = we_meet(peer, &mut they, &ours, &fresh(protocol, "we"));
        let they = they_meet(peer, &mut they, &ours, &fresh(protocol, "they"));
        let [we, they] = [we, they].map(|met| met.unwrap_or_else(|failure| failure));
        (protocol, Pair { we, they })
    });
    let pairs = pairs.collect();
    println!("{} {version}: {:.1?}", peer.name, start.elapsed());
    Some(pairs)
}

/// Kills `locket exec` and its command.
pub(crate) fn kill(holder: &mut Process) {
    let group = Pid::from_raw(holder.id().cast_signed()).unwrap();
    kill_process_group(group, Signal::KILL).unwrap();
    holder.kill();
    // The end of what is printed is that of the command.
    assert_eq!(holder.answer_within(STUCK), None);
}
