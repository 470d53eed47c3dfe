//! Files that are not regular: they are refused at once, although opening some would block.

use std::fs;
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use anyhow::Result;
use locket_tests::harness::{Host, descriptors};
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};

use super::{in_runtime, millis};
use crate::attacks::support::attacker::{Attacker, Call};
use crate::stage::{Context, Outcome, percentile};

/// How often each is tried in each protocol.
const ROUNDS: usize = 200;

/// An open that takes longer than this has blocked.
const BLOCKED: Duration = Duration::from_secs(1);

pub(super) fn run(_: &Context) -> Result<Outcome> {
    in_runtime(1, special())
}

async fn special() -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let host = Host::new();
    let _socket = UnixListener::bind(host.path("socket"))?;
    fs::create_dir(host.path("directory"))?;
    let mode = Mode::RUSR | Mode::WUSR;
    mknodat(CWD, host.path("pipe"), FileType::Fifo, mode, 0)?;
    let mut names = vec!["socket", "directory", "pipe"];
    // Opening the terminal device could make it the terminal of the process.
    for (name, device) in [("null", makedev(1, 3)), ("terminal", makedev(5, 0))] {
        match mknodat(
            CWD,
            host.path(name),
            FileType::CharacterDevice,
            mode,
            device,
        ) {
            Ok(()) => names.push(name),
            Err(error) => outcome.omitted.push(format!("no device {name}: {error}")),
        }
    }
    let mut guest = Attacker::new(&host).await?;
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        for name in &names {
            guest.name(format!("/locks/{name}")).await?;
            // `native`, `flock`, `fcntl`
            for protocol in 0..3 {
                let start = Instant::now();
                let answer = guest.call(Call::OpenAndClose, [1, protocol, 0, 0]).await?;
                times.push(start.elapsed());
                outcome.must(answer == Err("invalid-path"), || {
                    format!("{name}: {answer:?}")
                });
                outcome.did("opens", 1);
            }
        }
    }
    guest.keep_what_it_saw().await?;
    outcome.measured(
        "99th percentile of an open",
        millis(percentile(&mut times, 99)),
    );
    let longest = times.last().copied().unwrap_or_default();
    outcome.must(longest < BLOCKED, || format!("one took {longest:?}"));
    let open = descriptors(host.dir.path());
    // The socket of this process does not count, because it has no path there.
    outcome.must(open == 0, || format!("{open} descriptors are left"));
    Ok(outcome)
}
