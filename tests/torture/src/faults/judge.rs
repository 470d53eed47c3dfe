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

use crate::faults::scene::{CONTENT, STUCK, Scene, Subject};
use crate::faults::victim::{After, Answer, Done, Failure, Operation, Standing};

/// All that was seen of an operation.
#[derive(Clone, Debug)]
pub struct Witness {
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
    pub traces: Traces,
}

/// What somebody left who is gone.
#[derive(Clone, Debug)]
pub struct Traces {
    /// What was in the lock file at its end.
    pub content: Option<String>,
    /// How long the next owner took; or why there was none.
    pub next: Result<Duration, String>,
    /// What lay about then.
    pub litter: Vec<String>,
    /// What still did after a lock was taken over from somebody dead.
    pub litter_kept: Vec<String>,
}

impl Traces {
    /// Looks for them, by acquiring the lock among others.
    pub fn of(scene: &Scene) -> anyhow::Result<Self> {
        let content = scene.content()?;
        let next = scene.next(STUCK).map_err(|e| e.to_string());
        let litter = scene.litter()?;
        let may_vanish = next.is_ok() && scene.subject.protocol.is_existence_lock();
        let litter_kept = if may_vanish && !litter.is_empty() {
            scene.abandon()?;
            scene.next(STUCK)?;
            scene.litter()?
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
pub fn judge(subject: Subject, witness: &Witness) -> Vec<String> {
    let mut broken = Vec::new();
    match &witness.answer {
        Ok(done) => {
            broken.extend(judge_answer(subject, done, witness));
            broken.extend(judge_rest(witness));
        }
        Err(instead) => broken.push(format!("no answer: {instead}")),
    }
    if !witness.complaints.is_empty() {
        broken.push(format!("it said: {}", witness.complaints.trim_end()));
    }
    broken.extend(judge_traces(subject, &witness.traces));
    broken
}

/// What it answered, and what others saw.
fn judge_answer(subject: Subject, done: &Done, witness: &Witness) -> Vec<String> {
    use Operation as O;
    let mut broken = Vec::new();
    if let Err(failure) = &done.result {
        broken.extend(judge_failure(failure));
    }
    let is_existence_lock = subject.protocol.is_existence_lock();
    let succeeded = done.result.is_ok();
    let held = match subject.operation {
        O::Open | O::Holder => Some(false),
        O::Acquire | O::AcquireShared | O::TakeOver | O::Wait | O::WaitAsync => {
            let stays = !succeeded && is_existence_lock && witness.lasting;
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
    let mine = done.state == Standing::Held;
    if mine != held.unwrap_or(false) {
        broken.push(format!("to itself it is {:?}", done.state));
    }
    match (&witness.held, held) {
        (Some(Ok(found)), Some(held)) if *found != held => {
            let found = if *found { "held" } else { "free" };
            broken.push(format!("to others it is {found}"));
        }
        (Some(Err(e)), _) => broken.push(format!("others could not tell: {e}")),
        _ => {}
    }
    if witness.kept == Some(false) && subject.operation != O::Break {
        broken.push("who held it meanwhile lost it".to_owned());
    }
    broken
}

fn judge_failure(failure: &Failure) -> Vec<String> {
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
fn judge_rest(witness: &Witness) -> Vec<String> {
    let mut broken = Vec::new();
    match &witness.after {
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
pub fn judge_traces(subject: Subject, traces: &Traces) -> Vec<String> {
    let mut broken = Vec::new();
    if let Err(e) = &traces.next {
        broken.push(format!("the next one did not get it: {e}"));
    }
    if !subject.protocol.is_existence_lock() {
        let may_be_new = matches!(subject.operation, Operation::Open | Operation::Remove);
        match traces.content.as_deref() {
            Some(CONTENT) => {}
            None | Some("") if may_be_new => {}
            content => broken.push(format!("in the lock file: {content:?}")),
        }
    }
    let own = |name: &String| is_own_name(name) && has_own_names(subject.protocol);
    if !traces.litter.iter().all(own) {
        broken.push(format!("left behind: {:?}", traces.litter));
    }
    if !traces.litter_kept.is_empty() {
        broken.push(format!("left for good: {:?}", traces.litter_kept));
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

    const RELEASE: Subject = Subject {
        protocol: Protocol::Link,
        operation: Operation::Release,
    };

    fn traces() -> Traces {
        Traces {
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
    fn witness() -> Witness {
        let failure = Failure {
            text: "cannot lock `/lock`: some reason".into(),
            kind: Some("io".into()),
            path: "/lock".into(),
            cause: Some("some reason".into()),
        };
        Witness {
            lasting: false,
            answer: Ok(Done {
                result: Err(failure),
                state: Standing::Unlocked,
            }),
            held: Some(Ok(true)),
            kept: None,
            after: None,
            complaints: String::new(),
            traces: traces(),
        }
    }

    #[test]
    fn what_is_left_is_judged() {
        assert_eq!(judge_traces(RELEASE, &traces()), [""; 0]);
        let own = Traces {
            litter: vec![own_name()],
            ..traces()
        };
        assert_eq!(judge_traces(RELEASE, &own), [""; 0]);
        let wrong = [
            Traces {
                next: Err("it is held".into()),
                ..traces()
            },
            Traces {
                litter: vec!["lock.lock".into()],
                ..traces()
            },
            Traces {
                litter_kept: vec![own_name()],
                ..traces()
            },
        ];
        for traces in wrong {
            assert_eq!(judge_traces(RELEASE, &traces).len(), 1, "{traces:?}");
        }
        let kernel = Subject {
            protocol: Protocol::Native,
            ..RELEASE
        };
        let content = |content: &str| Traces {
            content: Some(content.to_owned()),
            ..traces()
        };
        assert_eq!(judge_traces(kernel, &content(CONTENT)), [""; 0]);
        for wrong in [content(""), content("precious?"), traces()] {
            assert_eq!(judge_traces(kernel, &wrong).len(), 1, "{wrong:?}");
        }
    }

    #[test]
    fn a_name_may_stay_where_its_release_fails_and_not_elsewhere() {
        assert_eq!(judge(RELEASE, &witness()), [""; 0]);
        let kernel = Subject {
            protocol: Protocol::Flock,
            ..RELEASE
        };
        let mut stays = witness();
        stays.traces.content = Some(CONTENT.to_owned());
        assert_eq!(judge(kernel, &stays), ["to others it is held"]);
        let acquire = Subject {
            operation: Operation::Acquire,
            ..RELEASE
        };
        assert_eq!(judge(acquire, &witness()), ["to others it is held"]);
        let lasting = Witness {
            lasting: true,
            ..witness()
        };
        assert_eq!(judge(acquire, &lasting), [""; 0]);
    }

    #[test]
    fn errors_have_a_kind_a_path_and_a_cause() {
        let broken = |change: fn(&mut Failure)| {
            let mut witness = witness();
            if let Ok(Done {
                result: Err(failure),
                ..
            }) = &mut witness.answer
            {
                change(failure);
            }
            judge(RELEASE, &witness).len()
        };
        assert_eq!(broken(|_| ()), 0);
        assert_eq!(broken(|failure| failure.kind = None), 1);
        assert_eq!(broken(|failure| failure.cause = None), 1);
        assert_eq!(broken(|failure| failure.text = "failed".into()), 1);
    }
}
