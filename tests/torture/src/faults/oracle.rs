//! What must be so when an operation met a fault: the rules in one place.
//!
//! 1. It comes back, with success or an error. It does not panic, and says nothing by itself.
//! 2. An error is of a kind that can be asked for, names the path, and where it is one of input or
//!    output, the cause.
//! 3. After success, the lock is what it was to become: others see it held after an acquire and
//!    free after a release. After an error of an acquire it is not held, by its own view nor by
//!    anybody else's. A release gives a lock of the kernel back in any case.
//! 4. A lock that is a name is the exception where its release fails, or it is being broken, or an
//!    acquire fails and the fault lasts: to remove a name takes calls that can fail. Then there is
//!    an error, and the name may stay. The process that made it can acquire and release it again;
//!    once that is gone, it is proven dead.
//! 5. Who held the lock meanwhile holds it still, unless it was to be taken from him.
//! 6. With the fault gone, the same process acquires and releases the lock. When all is closed, it
//!    has the descriptors and threads that it had at the start.
//! 7. Once it is gone, the next one acquires the lock. No byte of a lock file was changed.
//! 8. Beside locks that are a name, what somebody made who could not go on may be left: things with
//!    the names that [`Protocol`] locks have for themselves. They are in nobody's
//!    way, and the next who takes a lock over from somebody dead removes them.

use std::time::Duration;

use locket::Protocol;

use crate::faults::answer::{After, Answer, Done, Failure, OwnState};
use crate::faults::fixture::{CONTENT, Fixture, STUCK, Scenario};
use crate::faults::operation::Operation;

/// All that was seen of an operation.
#[derive(Clone, Debug)]
pub struct Observation {
    /// Whether there was a fault that lasted until the answer.
    pub lasting: bool,
    /// What the process answered; or what became of it instead.
    pub answer: Result<Done, String>,
    /// Whether somebody else found the lock held then; not asked of one that did not answer.
    pub held: Option<Result<bool, String>>,
    /// Whether who held the lock meanwhile released it without complaint, if anybody did.
    pub kept: Option<bool>,
    /// How the process went on, if it answered; or what became of it instead.
    pub after: Option<Result<After, String>>,
    /// What it said besides.
    pub complaints: String,
    /// What it left.
    pub leftovers: Leftovers,
}

/// What somebody left who is gone.
#[derive(Clone, Debug)]
pub struct Leftovers {
    /// What was in the lock file at its end.
    pub content: Option<String>,
    /// How long the next owner took; or why there was none.
    pub next: Result<Duration, String>,
    /// What lay about then.
    pub litter: Vec<String>,
    /// What still did after a lock was taken over from somebody dead.
    pub litter_kept: Vec<String>,
}

impl Leftovers {
    /// Looks for them, by acquiring the lock among others.
    pub fn of(fixture: &Fixture) -> anyhow::Result<Self> {
        let content = fixture.content()?;
        let next = fixture.next(STUCK).map_err(|e| e.to_string());
        let litter = fixture.litter()?;
        let may_vanish = next.is_ok() && fixture.scenario.protocol.is_existence_lock();
        let litter_kept = if may_vanish && !litter.is_empty() {
            fixture.abandon()?;
            fixture.next(STUCK)?;
            fixture.litter()?
        } else {
            Vec::new()
        };
        Ok(Self {
            content,
            next,
            litter,
            litter_kept,
        })
    }
}

/// The promises that were broken.
pub fn check(scenario: Scenario, observation: &Observation) -> Vec<String> {
    let mut broken = Vec::new();
    match &observation.answer {
        Ok(done) => {
            broken.extend(check_answer(scenario, done, observation));
            broken.extend(check_recovery(observation));
        }
        Err(instead) => broken.push(format!("no answer: {instead}")),
    }
    if !observation.complaints.is_empty() {
        broken.push(format!("it said: {}", observation.complaints.trim_end()));
    }
    broken.extend(check_leftovers(scenario, &observation.leftovers));
    broken
}

/// What it answered, and what others saw.
fn check_answer(scenario: Scenario, done: &Done, observation: &Observation) -> Vec<String> {
    use Operation as O;
    let mut broken = Vec::new();
    if let Err(failure) = &done.result {
        broken.extend(check_failure(failure));
    }
    let is_existence_lock = scenario.protocol.is_existence_lock();
    let succeeded = done.result.is_ok();
    let held = match scenario.operation {
        O::Open | O::Holder => Some(false),
        O::Acquire | O::AcquireShared | O::TakeOver | O::Wait | O::WaitAsync => {
            let stays = !succeeded && is_existence_lock && observation.lasting;
            (!stays).then_some(succeeded)
        }
        O::TimeOut | O::TimeOutAsync => {
            if succeeded {
                broken.push("granted what somebody else held".to_owned());
            }
            Some(false)
        }
        O::Release | O::Remove | O::Break => (succeeded || !is_existence_lock).then_some(false),
    };
    if let Ok(Answer::IsHeld(false)) = done.result {
        broken.push("called free what somebody else held".to_owned());
    }
    let mine = done.state == OwnState::Held;
    if mine != held.unwrap_or(false) {
        broken.push(format!("to itself it is {:?}", done.state));
    }
    match (&observation.held, held) {
        (Some(Ok(found)), Some(held)) if *found != held => {
            let found = if *found { "held" } else { "free" };
            broken.push(format!("to others it is {found}"));
        }
        (Some(Err(e)), _) => broken.push(format!("others could not tell: {e}")),
        _ => {}
    }
    if observation.kept == Some(false) && scenario.operation != O::Break {
        broken.push("who held it meanwhile lost it".to_owned());
    }
    broken
}

fn check_failure(failure: &Failure) -> Vec<String> {
    let mut broken = Vec::new();
    let path = failure.path.display().to_string();
    if failure.kind.is_none() {
        broken.push(format!("an error of no kind: {}", failure.text));
    }
    if !failure.text.contains(&path) || !failure.path.is_absolute() {
        broken.push(format!(
            "an error that does not name the path: {}",
            failure.text
        ));
    }
    if failure.kind.as_deref() == Some("io") && failure.cause.is_none() {
        broken.push(format!("an error without a cause: {}", failure.text));
    }
    broken
}

/// How it went on without faults.
fn check_recovery(observation: &Observation) -> Vec<String> {
    let mut broken = Vec::new();
    match &observation.after {
        Some(Ok(after)) => {
            if let Err(failure) = &after.again {
                broken.push(format!("without faults: {}", failure.text));
            }
            if after.before != after.after {
                broken.push(format!("had {:?}, has {:?}", after.before, after.after));
            }
        }
        Some(Err(instead)) => broken.push(format!("it did not go on: {instead}")),
        None => {}
    }
    broken
}

/// Those that were broken by what was left for others.
pub fn check_leftovers(scenario: Scenario, leftovers: &Leftovers) -> Vec<String> {
    let mut broken = Vec::new();
    if let Err(e) = &leftovers.next {
        broken.push(format!("the next one did not get it: {e}"));
    }
    if !scenario.protocol.is_existence_lock() {
        let may_be_new = matches!(scenario.operation, Operation::Open | Operation::Remove);
        match leftovers.content.as_deref() {
            Some(CONTENT) => {}
            None | Some("") if may_be_new => {}
            content => broken.push(format!("in the lock file: {content:?}")),
        }
    }
    let own = |name: &String| is_own_name(name) && has_own_names(scenario.protocol);
    if !leftovers.litter.iter().all(own) {
        broken.push(format!("left behind: {:?}", leftovers.litter));
    }
    if !leftovers.litter_kept.is_empty() {
        broken.push(format!("left for good: {:?}", leftovers.litter_kept));
    }
    broken
}

/// Whether who takes a lock makes something else first.
fn has_own_names(protocol: Protocol) -> bool {
    protocol.is_existence_lock() && protocol != Protocol::Sqlite
}

/// Whether it is a name that a process gives to what nobody else is to find: after its host and
/// its number.
fn is_own_name(name: &str) -> bool {
    let host = rustix::system::uname();
    let host = host.nodename().to_string_lossy();
    let number = name
        .strip_prefix(&*host)
        .and_then(|rest| rest.strip_prefix('.'));
    let number = number.and_then(|rest| rest.split_once("-0"));
    number.is_some_and(|(pid, _)| pid.parse::<u32>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const RELEASE: Scenario = Scenario {
        protocol: Protocol::Link,
        operation: Operation::Release,
    };

    fn leftovers() -> Leftovers {
        Leftovers {
            content: None,
            next: Ok(Duration::ZERO),
            litter: Vec::new(),
            litter_kept: Vec::new(),
        }
    }

    fn own_name() -> String {
        let host = rustix::system::uname();
        format!("{}.4711-0123", host.nodename().to_string_lossy())
    }

    /// One that failed, while the name stayed.
    fn observation() -> Observation {
        let failure = Failure {
            text: "cannot lock `/lock`: some reason".into(),
            kind: Some("io".into()),
            path: "/lock".into(),
            cause: Some("some reason".into()),
        };
        Observation {
            lasting: false,
            answer: Ok(Done {
                result: Err(failure),
                state: OwnState::Unlocked,
            }),
            held: Some(Ok(true)),
            kept: None,
            after: None,
            complaints: String::new(),
            leftovers: leftovers(),
        }
    }

    #[test]
    fn what_is_left_is_judged() {
        assert_eq!(check_leftovers(RELEASE, &leftovers()), [""; 0]);
        let own = Leftovers {
            litter: vec![own_name()],
            ..leftovers()
        };
        assert_eq!(check_leftovers(RELEASE, &own), [""; 0]);
        let wrong = [
            Leftovers {
                next: Err("it is held".into()),
                ..leftovers()
            },
            Leftovers {
                litter: vec!["lock.lock".into()],
                ..leftovers()
            },
            Leftovers {
                litter_kept: vec![own_name()],
                ..leftovers()
            },
        ];
        for leftovers in wrong {
            assert_eq!(
                check_leftovers(RELEASE, &leftovers).len(),
                1,
                "{leftovers:?}"
            );
        }
        let kernel = Scenario {
            protocol: Protocol::Native,
            ..RELEASE
        };
        let content = |content: &str| Leftovers {
            content: Some(content.to_owned()),
            ..leftovers()
        };
        assert_eq!(check_leftovers(kernel, &content(CONTENT)), [""; 0]);
        for wrong in [content(""), content("precious?"), leftovers()] {
            assert_eq!(check_leftovers(kernel, &wrong).len(), 1, "{wrong:?}");
        }
    }

    #[test]
    fn a_name_may_stay_where_its_release_fails_and_not_elsewhere() {
        assert_eq!(check(RELEASE, &observation()), [""; 0]);
        let kernel = Scenario {
            protocol: Protocol::Flock,
            ..RELEASE
        };
        let mut stays = observation();
        stays.leftovers.content = Some(CONTENT.to_owned());
        assert_eq!(check(kernel, &stays), ["to others it is held"]);
        let acquire = Scenario {
            operation: Operation::Acquire,
            ..RELEASE
        };
        assert_eq!(check(acquire, &observation()), ["to others it is held"]);
        let lasting = Observation {
            lasting: true,
            ..observation()
        };
        assert_eq!(check(acquire, &lasting), [""; 0]);
    }

    #[test]
    fn errors_have_a_kind_a_path_and_a_cause() {
        let broken = |change: fn(&mut Failure)| {
            let mut observation = observation();
            if let Ok(Done {
                result: Err(failure),
                ..
            }) = &mut observation.answer
            {
                change(failure);
            }
            check(RELEASE, &observation).len()
        };
        assert_eq!(broken(|_| ()), 0);
        assert_eq!(broken(|failure| failure.kind = None), 1);
        assert_eq!(broken(|failure| failure.cause = None), 1);
        assert_eq!(broken(|failure| failure.text = "failed".into()), 1);
    }
}
