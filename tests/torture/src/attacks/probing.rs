//! Queries through an open lock whose path leads out of the grant by now.
//!
//! While a guest has the lock `/locks/c/…` open, its directory `c` is replaced by links that lead out: to
//! places with such files, and to places without. No answer may depend on that, and nothing outside may
//! be opened, created or changed.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use locket::sandbox::Rights;
use locket::{Engine, Mode, Options, Protocol};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

use self::outside::Outside;
use super::{EXISTENCE, KEEP, KERNEL, in_runtime, one_of, with_rights};
use crate::attacks::support::attacker::{Answer, Attacker, Call, EXCLUSIVE, ONE_TRY, SHARED};
use crate::attacks::support::stop::Stop;
use crate::stage::{Context, Outcome};

mod outside;

/// For how long the directory is exchanged during queries, for each place.
const TIME: Duration = Duration::from_millis(350);

/// The calls of a guest, each with what follows the lock.
const CALLS: [(Call, [u32; 3]); 10] = [
    (Call::IsLocked, [0, 0, 0]),
    (Call::Holder, [0, 0, 0]),
    (Call::State, [0, 0, 0]),
    (Call::Reason, [0, 0, 0]),
    (Call::Acquire, [EXCLUSIVE, ONE_TRY[0], ONE_TRY[1]]),
    (Call::Acquire, [SHARED, ONE_TRY[0], ONE_TRY[1]]),
    (Call::Release, [0, 0, 0]),
    (Call::Break, [0, 0, 0]),
    (Call::OpenAndClose, [0, 0, 0]),
    (Call::Path, [0, 0, 0]),
];

/// The index of the call that opens another lock.
const OPEN: usize = 8;

/// The holder of the lock when the directory is replaced.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Held {
    Free,
    ByGuest(u32),
    ByAnother(Mode),
}

const HELD: [Held; 5] = [
    Held::Free,
    Held::ByGuest(EXCLUSIVE),
    Held::ByGuest(SHARED),
    Held::ByAnother(Mode::Exclusive),
    Held::ByAnother(Mode::Shared),
];

impl Held {
    /// Those that exist in a protocol: existence locks have no shared mode.
    fn all_in(protocol: u32) -> impl Iterator<Item = Self> {
        let shared = [Self::ByGuest(SHARED), Self::ByAnother(Mode::Shared)];
        let kernel = KERNEL.contains(&protocol);
        HELD.into_iter()
            .filter(move |held| kernel || !shared.contains(held))
    }
}

/// What the guest has open: for a kernel lock an existing file, otherwise a free name.
fn file(protocol: u32) -> &'static str {
    if KERNEL.contains(&protocol) {
        "file"
    } else {
        "name"
    }
}

/// Whether the file itself is the lock. While it exists, its holder has it locked in the kernel, too,
/// as a proof of life, and that cannot be broken.
fn is_the_file(protocol: u32) -> bool {
    let protocol = Protocol::ALL[protocol as usize];
    matches!(protocol, Protocol::PidFile | Protocol::Soft)
}

/// All but `sqlite`, because there is no database.
fn protocols() -> impl Iterator<Item = u32> {
    KERNEL.start..EXISTENCE.end - 1
}

impl Outside {
    /// All answers about a lock in a situation, with the calls in turn, beginning with the given one.
    async fn ask(
        &self,
        guest: &mut Attacker,
        (protocol, held): (u32, Held),
        place: &Path,
        first: usize,
    ) -> Result<Vec<Told>> {
        let host = &self.enclosure.host;
        let path = format!("c/{}", file(protocol));
        guest.name(format!("/locks/{path}")).await?;
        let opened = guest.call(Call::Open, [1, protocol, KEEP, 0]).await?;
        let lock = opened.map_err(|error| anyhow!("{path}, {protocol}: {error}"))?;
        let mut another = None;
        match held {
            Held::Free => {}
            Held::ByGuest(mode) => {
                let terms = [lock, mode, ONE_TRY[0], ONE_TRY[1]];
                let granted = guest.call(Call::Acquire, terms).await?;
                granted.map_err(|error| anyhow!("{path}, {protocol}, {held:?}: {error}"))?;
            }
            Held::ByAnother(mode) => {
                let protocol = Protocol::ALL[protocol as usize];
                let options = Options::new().protocol(protocol);
                let lock = Engine::new().open_with(host.path(&path), &options)?;
                another = Some(lock.acquire(mode, Duration::ZERO)?);
            }
        }
        guest.take_what_it_saw().await?;
        self.lead_to(place)?;
        let mut told = Vec::new();
        for turn in first..first + CALLS.len() {
            let (call, [b, c, d]) = CALLS[turn % CALLS.len()];
            let words = match call {
                Call::OpenAndClose => [1, protocol, KEEP, 0],
                _ => [lock, b, c, d],
            };
            let answer = guest.call(call, words).await?;
            told.push((call, answer, guest.take_what_it_saw().await?));
        }
        self.lead_back()?;
        drop(another);
        let _ = guest.call(Call::Close, [lock, 0, 0, 0]).await?;
        Ok(told)
    }

    /// Compares the answers for all these places with those for the first one.
    async fn compare(&self, places: &[PathBuf], outcome: &mut Outcome) -> Result<()> {
        let mut guest = with_rights(&self.enclosure.host, Rights::ALL).await?;
        for protocol in protocols() {
            for held in Held::all_in(protocol) {
                for first in 0..CALLS.len() {
                    let mut expected = None;
                    for place in places {
                        let situation = (protocol, held);
                        let told = self.ask(&mut guest, situation, place, first).await?;
                        outcome.did("answers compared", told.len() as u64);
                        let Some(expected) = &expected else {
                            expected = Some(told);
                            continue;
                        };
                        let differs = difference(&told, expected);
                        outcome.must(differs.is_none(), || {
                            let place = place.display();
                            format!("{protocol}, {held:?}, led to {place}: {differs:?}")
                        });
                    }
                }
            }
        }
        Ok(())
    }

    /// Exchanges the directory for a link to the place, again and again, during queries. No answer may
    /// depend on what is there.
    fn exchange(
        &self,
        place: &Path,
        chance: &mut fastrand::Rng,
        outcome: &mut Outcome,
    ) -> Result<()> {
        let host = &self.enclosure.host;
        let (dir, link) = (host.path("c"), host.path("link"));
        symlink(place, &link)?;
        let stop = Stop::default();
        let mut exchanges = 0;
        let asked = thread::scope(|scope| {
            let swapper = scope.spawn(|| -> Result<u64> {
                let mut exchanges = 0;
                // Twice, so that the directory is back at the end.
                while !stop.is_due() {
                    renameat_with(CWD, &dir, CWD, &link, RenameFlags::EXCHANGE)?;
                    thread::yield_now();
                    renameat_with(CWD, &dir, CWD, &link, RenameFlags::EXCHANGE)?;
                    exchanges += 2;
                }
                Ok(exchanges)
            });
            let end = stop.when_dropped();
            let asked = in_runtime(1, self.ask_at_random(chance, outcome));
            drop(end);
            exchanges = swapper.join().expect("the thread does not panic")?;
            asked
        });
        fs::remove_file(&link)?;
        outcome.did("exchanges", exchanges);
        for (protocol, call, answer) in asked? {
            outcome.must(says_nothing(call, answer), || {
                let place = place.display();
                format!("protocol {protocol}, {call:?}, led to {place}: {answer:?}")
            });
        }
        Ok(())
    }

    /// All different answers to each call.
    async fn ask_at_random(
        &self,
        chance: &mut fastrand::Rng,
        outcome: &mut Outcome,
    ) -> Result<Vec<(u32, Call, Answer)>> {
        let mut guest = with_rights(&self.enclosure.host, Rights::ALL).await?;
        let protocols: Vec<_> = protocols().collect();
        let mut all = BTreeSet::new();
        let start = Instant::now();
        while start.elapsed() < TIME {
            let protocol = one_of(chance, &protocols);
            guest.name(format!("/locks/c/{}", file(protocol))).await?;
            let opening = [1, protocol, KEEP, 0];
            let opened = guest.call(Call::Open, opening).await?;
            let Ok(lock) = opened else {
                all.insert((protocol, OPEN, opened));
                continue;
            };
            for _ in 0..20 {
                let index = chance.usize(..CALLS.len());
                let (call, [b, c, d]) = CALLS[index];
                let words = match call {
                    Call::OpenAndClose => opening,
                    _ => [lock, b, c, d],
                };
                if call == Call::Acquire || call == Call::Break && is_the_file(protocol) {
                    // The guest must not be in its own way.
                    let _ = guest.call(Call::Release, [lock, 0, 0, 0]).await?;
                }
                all.insert((protocol, index, guest.call(call, words).await?));
                outcome.did("answers during exchanges", 1);
            }
            let _ = guest.call(Call::Close, [lock, 0, 0, 0]).await?;
        }
        guest.keep_what_it_saw().await?;
        let all = all.into_iter();
        Ok(all
            .map(|(protocol, index, answer)| (protocol, CALLS[index].0, answer))
            .collect())
    }
}

/// A call, its answer, and all the bytes that came with it.
type Told = (Call, Answer, Vec<u8>);

fn difference<'a>(told: &'a [Told], expected: &'a [Told]) -> Option<(&'a Told, &'a Told)> {
    told.iter().zip(expected).find(|(one, other)| one != other)
}

/// Whether this answer is possible inside, where only the guest has locks. Outside, locks are held, and
/// some places are not accessible.
fn says_nothing(call: Call, answer: Answer) -> bool {
    const GONE: [&str; 2] = ["no-entry", "invalid-path"];
    match answer {
        Ok(_) => true,
        Err(error) if GONE.contains(&error) => true,
        Err(error) => match call {
            // `not-supported` is for the shared mode of existence locks.
            Call::Acquire => ["not-supported", "lost"].contains(&error),
            Call::Release => ["not-locked", "lost"].contains(&error),
            Call::Break => error == "not-locked",
            _ => false,
        },
    }
}

pub(super) fn run(context: &Context) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let outside = Outside::new()?;
    // On a new thread, because capabilities belong to a thread and the threads that it starts.
    let probed = thread::scope(|scope| {
        let probe = scope.spawn(|| {
            heed_permissions(&outside, &mut outcome)?;
            in_runtime(1, outside.compare(&outside.places, &mut outcome))?;
            let mut chance = context.chance(3);
            let mut places = outside.places.iter();
            places.try_for_each(|place| outside.exchange(place, &mut chance, &mut outcome))
        });
        probe.join().expect("the thread does not panic")
    });
    probed?;
    outside.conclude(&mut outcome)?;
    outcome.measured("places outside", outside.places.len());
    Ok(outcome)
}

/// Drops the capabilities of this thread that let root search any directory.
fn heed_permissions(outside: &Outside, outcome: &mut Outcome) -> Result<()> {
    let mut sets = capabilities(None)?;
    sets.effective -= CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH;
    set_capabilities(None, sets)?;
    let closed = fs::metadata(outside.enclosure.outside("closed/file"));
    if !closed.is_err_and(|e| e.kind() == io::ErrorKind::PermissionDenied) {
        let omitted = "a directory that may not be searched: this process may search all";
        outcome.omitted.push(omitted.to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::outside::count;
    use super::*;

    #[test]
    fn an_answer_that_depends_on_where_a_link_leads_is_noticed() {
        let outside = Outside::new().unwrap();
        for dir in ["with", "without"] {
            fs::create_dir(outside.enclosure.host.path(dir)).unwrap();
        }
        fs::write(outside.enclosure.host.path("with/file"), "").unwrap();
        // Within the grant, answers may and do depend on what is there.
        for (places, violates) in [(["missing", "missing"], false), (["missing", "with"], true)] {
            let mut outcome = Outcome::default();
            let places = places.map(PathBuf::from);
            in_runtime(1, outside.compare(&places, &mut outcome)).unwrap();
            assert_eq!(!outcome.violations.is_empty(), violates, "{outcome:?}");
        }
    }

    #[test]
    fn an_answer_about_a_lock_outside_is_noticed() {
        assert!(says_nothing(Call::Acquire, Err("no-entry")));
        assert!(!says_nothing(Call::Acquire, Err("would-block")));
        assert!(!says_nothing(Call::IsLocked, Err("access-denied")));
    }

    #[test]
    fn a_file_opened_or_created_outside_is_noticed() {
        let outside = Outside::new().unwrap();
        let violations = || {
            let mut outcome = Outcome::default();
            outside.conclude(&mut outcome).unwrap();
            // The check for changes has opened everything.
            count(&outside.opened).unwrap();
            outcome.violations.len()
        };
        assert_eq!(violations(), 0);
        fs::File::open(outside.enclosure.outside("with/file")).unwrap();
        assert_eq!(violations(), 1);
        fs::create_dir(outside.enclosure.outside("without/new")).unwrap();
        assert_ne!(violations(), 0);
    }
}
