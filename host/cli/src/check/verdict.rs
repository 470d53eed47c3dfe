//! What follows from the facts and the file system: a verdict on each protocol, and a recommendation.

use locket::Protocol;
use serde::{Serialize, Serializer};

use super::actor::PATIENCE;
use super::facts::{Facts, Outcome, ProtocolFacts};
use super::meaning::{Meaning, Scope};

const SECONDS: u64 = PATIENCE.as_secs();

/// What a protocol is worth in a directory.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Worth {
    /// It excludes every process that it should.
    Works,
    ThisHostOnly,
    DoesNotExclude,
    NotSupported,
    Hangs,
}

impl Worth {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Works => "works",
            Self::ThisHostOnly => "this host only",
            Self::DoesNotExclude => "does not exclude",
            Self::NotSupported => "not supported",
            Self::Hangs => "hangs",
        }
    }
}

/// The verdict on a protocol. Part of the documented JSON.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Verdict {
    #[serde(serialize_with = "name")]
    pub(super) protocol: Protocol,
    pub(super) verdict: Worth,
    /// Why it is no better, or what is not as on a local file system.
    pub(super) why: Option<String>,
    pub(super) tries: ProtocolFacts,
}

fn name<S: Serializer>(protocol: &Protocol, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(protocol.name())
}

impl Verdict {
    /// That of a directory that does not answer.
    pub(super) fn hangs(protocol: Protocol) -> Self {
        Self {
            protocol,
            verdict: Worth::Hangs,
            why: Some(format!("the directory has not answered for {SECONDS} s")),
            tries: ProtocolFacts::default(),
        }
    }

    pub(super) fn of(
        protocol: Protocol,
        tries: ProtocolFacts,
        facts: &Facts,
        meaning: &Meaning,
    ) -> Self {
        let judged = fault(protocol, &tries, facts).or_else(|| limit(protocol, meaning));
        let (verdict, why) = match judged {
            Some((worth, why)) => (worth, Some(why)),
            None => (Worth::Works, remark(protocol, &tries, meaning)),
        };
        Self {
            protocol,
            verdict,
            why,
            tries,
        }
    }
}

/// What goes wrong between two processes of this host.
fn fault(protocol: Protocol, tries: &ProtocolFacts, facts: &Facts) -> Option<(Worth, String)> {
    let needed = [&tries.acquired, &tries.exclusive, &tries.shared];
    let shared = [&tries.excludes_flock, &tries.excludes_record];
    for outcome in needed.into_iter().chain(shared) {
        match outcome {
            Outcome::NoAnswer => {
                let why = format!("a try has not returned for {SECONDS} s");
                return Some((Worth::Hangs, why));
            }
            Outcome::Failed(why) => return Some((Worth::NotSupported, why.clone())),
            _ => {}
        }
    }
    let lies = [
        (&tries.acquired, "a free lock is refused"),
        (&tries.exclusive, "two processes have the lock at once"),
        (
            &tries.shared,
            "shared and exclusive locks do not exclude each other as they should",
        ),
        (
            &tries.excludes_flock,
            "programs that use `flock` are not excluded",
        ),
        (
            &tries.excludes_record,
            "programs that use record locks are not excluded",
        ),
        (&tries.granted, "a waiter is granted a lock that is held"),
    ];
    if let Some((_, why)) = lies
        .into_iter()
        .find(|(outcome, _)| **outcome == Outcome::No)
    {
        return Some((Worth::DoesNotExclude, why.into()));
    }
    if protocol == Protocol::Sqlite
        && let Some(fault) = fault_of_sqlite(&facts.record.exclusive)
    {
        return Some(fault);
    }
    let no_answer = |when| {
        let why = format!("a waiter was not granted the lock within {SECONDS} s of {when}");
        Some((Worth::Hangs, why))
    };
    let failed = |why| Some((Worth::NotSupported, format!("waiting: {why}")));
    match (&tries.granted, &tries.granted_after_kill) {
        (Outcome::NoAnswer, _) => no_answer("its release"),
        (Outcome::Failed(why), _) => failed(why),
        // The others need proof that the holder is dead.
        (_, Outcome::NoAnswer) if !protocol.is_existence_lock() => no_answer("its holder's end"),
        (_, Outcome::Failed(why)) if !protocol.is_existence_lock() => failed(why),
        _ => None,
    }
}

/// SQLite itself relies on record locks.
fn fault_of_sqlite(record: &Outcome) -> Option<(Worth, String)> {
    match record {
        Outcome::Yes => None,
        Outcome::Failed(why) => {
            let why = format!("SQLite itself relies on record locks: {why}");
            Some((Worth::NotSupported, why))
        }
        Outcome::NoAnswer => {
            let why = "SQLite itself relies on record locks, which hang here";
            Some((Worth::Hangs, why.into()))
        }
        Outcome::No | Outcome::NotTried => {
            let why = "SQLite itself relies on record locks, which do not work here";
            Some((Worth::DoesNotExclude, why.into()))
        }
    }
}

/// What is known of other hosts.
fn limit(protocol: Protocol, meaning: &Meaning) -> Option<(Worth, String)> {
    match meaning.scope(protocol) {
        Scope::All => None,
        Scope::Host(why) => Some((Worth::ThisHostOnly, (*why).into())),
        Scope::Nothing(why) => Some((Worth::DoesNotExclude, (*why).into())),
    }
}

/// What to know of a protocol that works.
fn remark(protocol: Protocol, tries: &ProtocolFacts, meaning: &Meaning) -> Option<String> {
    let killed = &tries.granted_after_kill;
    if protocol.is_existence_lock() && !killed.is_yes() {
        return Some("the lock of a dead holder stays until `locket break`".into());
    } else if protocol.is_existence_lock() && meaning.has_other_hosts {
        return Some(
            "the lock of a holder that died on another host stays until `locket break`".into(),
        );
    }
    match &meaning.flock {
        Scope::Host(why) if protocol == Protocol::Native => Some(format!(
            "users of `flock` are excluded only on this host: {why}"
        )),
        _ => None,
    }
}

/// The best protocol that there is, in the order of what one would rather use.
pub(super) fn recommended(verdicts: &[Verdict]) -> Option<&Verdict> {
    const ORDER: [Protocol; 9] = [
        Protocol::Native,
        Protocol::Fcntl,
        Protocol::Flock,
        Protocol::Link,
        Protocol::Mkdir,
        Protocol::Symlink,
        Protocol::PidFile,
        Protocol::Soft,
        Protocol::Sqlite,
    ];
    let best = |worth| {
        let mut order = ORDER.iter();
        let is_it = |protocol: &Protocol, verdict: &&Verdict| {
            verdict.protocol == *protocol && verdict.verdict == worth
        };
        order.find_map(|protocol| verdicts.iter().find(|verdict| is_it(protocol, verdict)))
    };
    best(Worth::Works).or_else(|| best(Worth::ThisHostOnly))
}

#[cfg(test)]
mod tests {
    use super::super::facts::LockFacts;
    use super::super::mount::Mount;
    use super::*;

    const YES: Outcome = Outcome::Yes;

    /// All tries of a local file system.
    fn sound() -> (Facts, ProtocolFacts) {
        let record = LockFacts {
            exclusive: YES,
            ..LockFacts::default()
        };
        let facts = Facts {
            record,
            ..Facts::default()
        };
        let tries = ProtocolFacts {
            acquired: YES,
            exclusive: YES,
            granted: YES,
            granted_after_kill: YES,
            ..ProtocolFacts::default()
        };
        (facts, tries)
    }

    fn on(kind: &str, options: &str, tries: impl Fn(Protocol) -> ProtocolFacts) -> Vec<Verdict> {
        let meaning = Meaning::of(&Mount {
            kind: kind.into(),
            options: options.split(',').map(str::to_owned).collect(),
            ..Mount::default()
        });
        let (facts, _) = sound();
        let all = Protocol::ALL.iter();
        all.map(|one| Verdict::of(*one, tries(*one), &facts, &meaning))
            .collect()
    }

    fn words(verdicts: &[Verdict]) -> String {
        let letters = verdicts.iter().map(|one| match one.verdict {
            Worth::Works => 'w',
            Worth::ThisHostOnly => 'h',
            Worth::DoesNotExclude => 'd',
            Worth::NotSupported => 'n',
            Worth::Hangs => 'x',
        });
        let best = recommended(verdicts).map_or("none", |best| best.protocol.name());
        format!("{} {best}", letters.collect::<String>())
    }

    /// Two processes of one host find nothing wrong with any of them.
    #[test]
    fn what_processes_of_one_host_cannot_see_is_in_the_verdict() {
        // One letter each for native, flock, fcntl, link, symlink, mkdir, pid-file, soft, sqlite.
        let cases = [
            ("tmpfs", "rw", "wwwwwwwww native"),
            ("overlay", "rw", "wwwwwwwww native"),
            ("nfs4", "vers=4.2,local_lock=none", "wwwwwwwwh native"),
            ("nfs", "vers=3,nolock,local_lock=all", "hhhwwwwwh link"),
            ("nfs", "vers=3,local_lock=flock", "hhwwwwwwh fcntl"),
            ("nfs", "vers=3,local_lock=posix", "wwhwwwwwh native"),
            ("cifs", "vers=3.1.1,nobrl", "hhhwwwwwh link"),
            ("lustre", "localflock", "hhhwwwwwh link"),
            ("gpfs", "rw", "whwwwwwwh native"),
            ("9p", "trans=virtio", "hhhwwwwwh link"),
            ("virtiofs", "rw", "hhhwwwwwh link"),
            ("fuse.sshfs", "rw", "hhhwwwwwh link"),
            ("fuse.gcsfuse", "rw", "hhhhhhhhh native"),
            ("fuse", "rw", "hhhhhhhhh native"),
            ("fakeowner", "rw", "dddhhhhhd link"),
        ];
        for (kind, options, expected) in cases {
            let verdicts = on(kind, options, |_| sound().1);
            assert_eq!(words(&verdicts), expected, "{kind} {options}");
        }
    }

    #[test]
    fn what_goes_wrong_on_one_host_comes_first() {
        let broken = |change: fn(&mut ProtocolFacts)| {
            let verdicts = on("nfs", "vers=3,nolock", |protocol| {
                let (_, mut tries) = sound();
                if !protocol.is_existence_lock() {
                    change(&mut tries);
                }
                tries
            });
            words(&verdicts)
        };
        assert_eq!(
            broken(|tries| tries.exclusive = Outcome::No),
            "dddwwwwwh link"
        );
        assert_eq!(
            broken(|tries| tries.excludes_flock = Outcome::No),
            "dddwwwwwh link"
        );
        assert_eq!(
            broken(|tries| tries.shared = Outcome::NoAnswer),
            "xxxwwwwwh link"
        );
        assert_eq!(
            broken(|tries| tries.granted = Outcome::NoAnswer),
            "xxxwwwwwh link"
        );
        let refused = |tries: &mut ProtocolFacts| {
            tries.acquired = Outcome::Failed("No locks available".into());
        };
        assert_eq!(broken(refused), "nnnwwwwwh link");
    }

    #[test]
    fn what_works_may_have_a_remark() {
        let why = |kind, protocol: Protocol, killed: Outcome| {
            let verdicts = on(kind, "", |_| ProtocolFacts {
                granted_after_kill: Clone::clone(&killed),
                ..sound().1
            });
            let found = verdicts.into_iter().find(|one| one.protocol == protocol);
            found.and_then(|verdict| verdict.why).unwrap_or_default()
        };
        assert!(why("gpfs", Protocol::Native, YES).contains("`flock`"));
        assert_eq!(why("tmpfs", Protocol::Link, YES), "");
        assert!(why("nfs4", Protocol::Link, YES).contains("another host"));
        let stays = why("tmpfs", Protocol::Link, Outcome::NoAnswer);
        assert!(stays.contains("locket break"), "{stays}");
        let late = why("tmpfs", Protocol::Native, Outcome::NoAnswer);
        assert!(late.contains("within 4 s"), "{late}");
    }
}
