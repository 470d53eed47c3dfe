//! What must hold when an operation meets a fault: the rules in one place.
//!
//! 1. The operation returns, with success or an error. It does not panic or print anything.
//! 2. An error has a kind, names the path, and if it is an I/O error, has a cause.
//! 3. After success, others see the lock held after an acquire and free after a release. After a failed
//!    acquire the lock is not held, neither in the view of the process nor in that of others. A release
//!    always frees a kernel lock.
//! 4. Existence locks are the exception if a release or a break fails, or if an acquire fails and the
//!    fault lasts, because removing an entry takes calls that can fail. Then there is an error, and the
//!    entry may stay. The process that made it can acquire and release it again. Once that process has
//!    ended, it is provably dead.
//! 5. Another holder keeps its lock, unless the operation was to break it.
//! 6. Without faults, the same process then acquires and releases the lock. When everything is closed, it
//!    has the same descriptors and threads as at the start.
//! 7. Once it has ended, the next owner acquires the lock. No byte of a lock file has changed.
//! 8. An interrupted operation on an existence lock may leave files behind that have the names which
//!    [`Protocol`]s use internally. They are in no one's way, and the next takeover removes them.

use std::time::Duration;

use locket::Protocol;

use crate::faults::answer::{After, Answer, Done, Failure, OwnState};
use crate::faults::fixture::{CONTENT, Fixture, STUCK, Scenario};
use crate::faults::operation::Operation;

/// Everything that was observed of an operation.
#[derive(Clone, Debug)]
pub struct Observation {
    /// Whether there was a fault that lasted until the answer.
    pub lasting: bool,
    /// What the process answered, or why it did not.
    pub answer: Result<Done, String>,
    /// Whether others then saw the lock held; none if the process did not answer.
    pub held: Option<Result<bool, String>>,
    /// Whether the other holder, if there was one, released the lock without an error.
    pub kept: Option<bool>,
    /// How the process continued if it answered, or why it did not.
    pub after: Option<Result<After, String>>,
    /// What it wrote to standard error.
    pub complaints: String,
    /// What it left behind.
    pub leftovers: Leftovers,
}

/// What a process left behind.
#[derive(Clone, Debug)]
pub struct Leftovers {
    /// The content of the lock file after its end.
    pub content: Option<String>,
    /// How long the next owner took to acquire the lock, or why it failed.
    pub next: Result<Duration, String>,
    /// Other files in the directory after that.
    pub litter: Vec<String>,
    /// Those that are still there after a takeover.
    pub litter_kept: Vec<String>,
}

impl Leftovers {
    /// Looks for them; this acquires the lock.
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
        broken.push(format!("it printed: {}", observation.complaints.trim_end()));
    }
    broken.extend(check_leftovers(scenario, &observation.leftovers));
    broken
}

/// Checks the answer and what others saw.
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
                broken.push("granted while another owner held it".to_owned());
            }
            Some(false)
        }
        O::Release | O::Remove | O::Break => (succeeded || !is_existence_lock).then_some(false),
    };
    if let Ok(Answer::IsHeld(false)) = done.result {
        broken.push("reported free while another owner held it".to_owned());
    }
    let mine = done.state == OwnState::Held;
    if mine != held.unwrap_or(false) {
        broken.push(format!("in its own view it is {:?}", done.state));
    }
    match (&observation.held, held) {
        (Some(Ok(found)), Some(held)) if *found != held => {
            let found = if *found { "held" } else { "free" };
            broken.push(format!("to others it is {found}"));
        }
        (Some(Err(e)), _) => broken.push(format!("others got an error: {e}")),
        _ => {}
    }
    if observation.kept == Some(false) && scenario.operation != O::Break {
        broken.push("the other holder lost it".to_owned());
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

/// Checks how the process continued without faults.
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
        Some(Err(instead)) => broken.push(format!("it did not continue: {instead}")),
        None => {}
    }
    broken
}

/// The promises that were broken by what was left behind.
pub fn check_leftovers(scenario: Scenario, leftovers: &Leftovers) -> Vec<String> {
    let mut broken = Vec::new();
    if let Err(e) = &leftovers.next {
        broken.push(format!("the next owner did not get it: {e}"));
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

/// Whether acquiring a lock creates another file first.
fn has_own_names(protocol: Protocol) -> bool {
    protocol.is_existence_lock() && protocol != Protocol::Sqlite
}

/// Whether this is an internal name, which begins with the host and the number of the process.
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

    /// A failed operation whose entry stayed.
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
    fn leftovers_are_checked() {
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
    fn an_entry_may_stay_if_its_release_fails_and_not_otherwise() {
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
