//! Two tenants in one engine. The first does all that its limits allow. The waits of the second still end
//! in time, and it gets a free lock as fast as usual.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use locket::{Engine, Guard, Mode, Protocol};
use locket_tests::harness::Host;

use self::second::{SecondTenant, Worst};
use super::{KEEP, REMOVE, ask, cycle, hold, in_runtime, millis, number, touch};
use crate::attacks::support::attacker::{Attacker, Call, EXCLUSIVE, INDEFINITELY, ONE_TRY};
use crate::stage::{Context, Outcome};

mod machine;
pub(super) mod second;

/// For how long the second tenant is measured before the attacks, and during each.
const USUALLY: Duration = Duration::from_secs(4);
const WHILE: Duration = Duration::from_millis(1_500);

/// The limits of a tenant: waits, handles including pollables, created files.
const WAITS: usize = 16;
const POLLABLES: usize = 128;
const CREATED: u32 = 1024;

/// How many files there are with names of the form of owner records.
const NAMES: u32 = 10_000;

/// How many hard links with such names there are to locks of the protocol `link`, several to each.
const MORE_LINKS: u32 = 96;

/// One less than the number of links on a path that the system follows.
const LINKS: u32 = 39;

/// The protocols of existence locks without `sqlite`, because databases are kept away from guests.
const NAMED: [Protocol; 5] = [
    Protocol::Link,
    Protocol::Symlink,
    Protocol::Mkdir,
    Protocol::PidFile,
    Protocol::Soft,
];

/// The protocols of kernel locks.
const KERNEL: [Protocol; 3] = [Protocol::Native, Protocol::Flock, Protocol::Fcntl];

/// What the first tenant does.
#[derive(Clone, Copy, Debug)]
enum Act {
    /// Opens and closes.
    Opens,
    /// Waits for as many locks as it may, and creates and removes files beside them.
    Waits(Protocol),
    /// Queries a lock that is held, and tries to acquire it.
    Asks(Protocol),
    /// Creates as many pollables as it may, polls them, and drops them.
    Pollables,
    /// Begins to acquire, and abandons that.
    Abandons(Protocol),
    /// Creates as many files as it may, and tries more.
    Creates,
    /// Opens a file behind many links.
    Links,
}

impl Act {
    fn all() -> Vec<Self> {
        let mut all = vec![Self::Opens, Self::Pollables, Self::Creates, Self::Links];
        all.extend(KERNEL.map(Self::Waits));
        all.extend(NAMED.map(Self::Waits));
        all.extend(NAMED.map(Self::Asks));
        all.extend([Protocol::Native, Protocol::Link].map(Self::Abandons));
        all
    }
}

pub(super) fn run(_: &Context) -> Result<Outcome> {
    let first = Host::new();
    let second = SecondTenant::beside(&first);
    let mut outcome = Outcome::default();
    let (usual, ()) = second.watch(|| thread::sleep(USUALLY))?;
    let usual = usual.check(&mut outcome, "normally", None);
    outcome.measured("99th percentile of free locks before", millis(usual.own));
    let held = prepare(&first)?;
    let mut worst = Worst::default();
    for act in Act::all() {
        let (observed, done) = second.watch(|| perform(&first, act))?;
        let during = format!("{act:?}");
        match done {
            Ok(calls) => outcome.did("hostile calls", calls),
            Err(error) => outcome.must(false, || format!("{during}: {error:#}")),
        }
        worst.take(observed.check(&mut outcome, &during, usual.own), &during);
    }
    worst.report(&mut outcome);
    drop(held);
    Ok(outcome)
}

async fn open(guest: &mut Attacker, path: &str, protocol: Protocol) -> Result<u32> {
    guest.name(path).await?;
    let opened = guest
        .call(Call::Open, [1, number(protocol), KEEP, 0])
        .await?;
    opened.map_err(|error| anyhow!("{path} cannot be opened: {error}"))
}

/// Fills the directory of the first tenant: with locks that another engine holds, among many files that
/// could be their owner records; and with links that lead through many directories.
fn prepare(first: &Host) -> Result<Vec<Guard>> {
    let host = fs::read_to_string("/proc/sys/kernel/hostname")?;
    let claim = |number: u32| format!("{}.4194303-{number}", host.trim());
    let crowd = |dir: &Path| -> Result<()> {
        (1..=NAMES).try_for_each(|number| {
            File::create(dir.join(claim(number)))?;
            Ok(())
        })
    };
    crowd(first.dir.path())?;
    let another = Engine::new();
    let mut held = Vec::new();
    for protocol in KERNEL.into_iter().chain(NAMED) {
        for number in 0..WAITS {
            let path = first.path(&format!("{protocol}-{number}"));
            held.push(hold(&another, &path, protocol, Mode::Exclusive)?);
        }
    }
    // A guest with access to the files can fill the directory that is a lock, and link to the file.
    crowd(&first.path("mkdir-0.lock"))?;
    for number in 0..MORE_LINKS {
        let lock = format!("link-{}.lock", number as usize % WAITS);
        let link = claim(NAMES + 1 + number);
        fs::hard_link(first.path(&lock), first.path(&link))?;
    }
    fs::create_dir(first.path("new"))?;
    fs::create_dir_all(first.path("deep/d"))?;
    let mut to = "d".to_owned();
    for number in 0..LINKS {
        let steps = "d/../".repeat(700);
        symlink(
            format!("{steps}{to}"),
            first.path(&format!("deep/{number}")),
        )?;
        to = number.to_string();
    }
    Ok(held)
}

/// Lets the first tenant act for a while; returns the number of calls.
fn perform(host: &Host, act: Act) -> Result<u64> {
    in_runtime(1, async {
        let mut tenant = Tenant {
            guest: Attacker::new(host).await?,
            end: Instant::now() + WHILE,
            calls: 0,
        };
        match act {
            Act::Opens => tenant.opens("/locks/a").await?,
            Act::Links => {
                let last = LINKS - 1;
                tenant.opens(&format!("/locks/deep/{last}/a")).await?;
            }
            Act::Waits(protocol) => tenant.waits(protocol).await?,
            Act::Asks(protocol) => tenant.asks(protocol).await?,
            Act::Pollables => tenant.pollables().await?,
            Act::Abandons(protocol) => tenant.abandons(protocol).await?,
            Act::Creates => tenant.creates().await?,
        }
        tenant.guest.keep_what_it_saw().await?;
        Ok(tenant.calls)
    })
}

struct Tenant {
    guest: Attacker,
    end: Instant,
    calls: u64,
}

impl Tenant {
    fn continues(&mut self) -> bool {
        self.calls += 1;
        Instant::now() < self.end
    }

    async fn locks(&mut self, protocol: Protocol) -> Result<Vec<u32>> {
        let mut locks = Vec::new();
        for number in 0..WAITS {
            let path = format!("/locks/{protocol}-{number}");
            locks.push(open(&mut self.guest, &path, protocol).await?);
        }
        Ok(locks)
    }

    /// Makes a call that returns a handle within the limits.
    async fn get(&mut self, call: Call, words: [u32; 4]) -> Result<u32> {
        let answer = self.guest.call(call, words).await?;
        answer.map_err(|error| anyhow!("{call:?} within the limits: {error}"))
    }

    async fn opens(&mut self, path: &str) -> Result<()> {
        while self.continues() {
            let error = touch(&mut self.guest, path).await?;
            ensure!(error.is_none(), "{path} was opened with {error:?}");
        }
        Ok(())
    }

    async fn waits(&mut self, protocol: Protocol) -> Result<()> {
        let mut pendings = Vec::new();
        for lock in self.locks(protocol).await? {
            let terms = [lock, EXCLUSIVE, INDEFINITELY[0], INDEFINITELY[1]];
            pendings.push(self.get(Call::Start, terms).await?);
        }
        tokio::time::sleep(WHILE / 2).await;
        while self.continues() {
            let native = number(Protocol::Native);
            let cycled = cycle(&mut self.guest, "/locks/b", native, REMOVE, EXCLUSIVE).await?;
            ensure!(cycled.is_ok(), "a lock beside waits: {cycled:?}");
            self.guest.keep_what_it_saw().await?;
        }
        for pending in pendings {
            let answer = self.get(Call::Finish, [pending, 0, 0, 0]).await?;
            ensure!(answer == 0, "a lock that another engine holds was granted");
        }
        Ok(())
    }

    async fn asks(&mut self, protocol: Protocol) -> Result<()> {
        let locks = self.locks(protocol).await?;
        for lock in locks.into_iter().cycle() {
            if !self.continues() {
                break;
            }
            ask(&mut self.guest, lock).await?;
            let answer = self.guest.acquire(lock, ONE_TRY).await?;
            ensure!(
                answer == Err("would-block"),
                "a lock that is held: {answer:?}"
            );
        }
        Ok(())
    }

    async fn pollables(&mut self) -> Result<()> {
        let lock = open(&mut self.guest, "/locks/a", Protocol::Native).await?;
        while self.continues() {
            let mut pollables = Vec::new();
            while pollables.len() < POLLABLES - 1 {
                pollables.push(self.get(Call::Lost, [lock, 0, 0, 0]).await?);
            }
            for call in [Call::Ready, Call::PollableDrop] {
                for pollable in &pollables {
                    self.get(call, [*pollable, 0, 0, 0]).await?;
                }
            }
        }
        Ok(())
    }

    async fn abandons(&mut self, protocol: Protocol) -> Result<()> {
        let locks = self.locks(protocol).await?;
        for lock in locks.into_iter().cycle() {
            if !self.continues() {
                break;
            }
            let terms = [lock, EXCLUSIVE, INDEFINITELY[0], INDEFINITELY[1]];
            self.get(Call::StartAndAbandon, terms).await?;
        }
        Ok(())
    }

    async fn creates(&mut self) -> Result<()> {
        let mut refused = 0;
        for number in 0.. {
            if !self.continues() {
                break;
            }
            let error = touch(&mut self.guest, format!("/locks/new/{number}")).await?;
            let expected = error.is_some() == (number >= CREATED);
            ensure!(expected, "file {number} was created with {error:?}");
            refused += u32::from(error.is_some());
        }
        ensure!(refused > 0, "the limit was not reached");
        Ok(())
    }
}
