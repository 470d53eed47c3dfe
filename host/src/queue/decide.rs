//! What happens next, as a function of what a queue looks like. It has no effects:
//! [`State::advance`](super::state::State::advance) carries out what it decides.

use crate::backend::Request;

/// What the decision depends on.
#[derive(Clone, Copy, Debug)]
pub(super) struct View {
    /// What the head of the queue asks for, if a waiter is queued.
    pub(super) head: Option<Request>,
    pub(super) held: Option<HeldView>,
    pub(super) contends: Contends,
    /// Whether the file could not be unlocked, so that this queue cannot be used any more.
    pub(super) poisoned: bool,
}

/// The lock that this engine has.
#[derive(Clone, Copy, Debug)]
pub(super) struct HeldView {
    pub(super) request: Request,
    /// Whether a release is giving it back.
    pub(super) releasing: bool,
    /// Whether it has holders, and is not about to be handed on.
    pub(super) occupied: bool,
    /// Whether the bound on hand-offs is reached. Said only if a waiter is queued, and nothing
    /// contends.
    pub(super) over: bool,
    /// Whether a fairness pause is due.
    pub(super) due: bool,
    /// Whether newcomers are held back so that there will be one.
    pub(super) closed: bool,
    /// Whether other processes may see it as lost.
    pub(super) gone: bool,
}

/// Whether something contends for the lock.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Contends {
    Nothing,
    /// It serves the head of the queue.
    ForHead,
    /// It does not serve the head of the queue any more.
    InVain,
    /// Nothing yet, since the head of the queue is held back.
    Pausing,
}

/// What to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Action {
    /// Nothing, until something changes.
    Rest,
    /// Let nothing contend any more.
    Withdraw,
    /// Fail the head of the queue: the file behind this queue is gone.
    FailHead,
    /// Let a thread contend for the head of the queue.
    Send,
    /// Let the head of the queue share the lock.
    Share,
    /// The same, once newcomers are not held back any more.
    HoldBack,
    /// Hand the lock on to the head of the queue.
    HandOn,
    GiveBack,
}

pub(super) fn decide(view: View) -> Action {
    let View { head, held, .. } = view;
    // A pause comes before the next wait.
    let due = head.is_some() && held.is_some_and(|held| held.due);
    match view.contends {
        Contends::InVain => return Action::Withdraw,
        Contends::ForHead if due => return Action::Withdraw,
        _ => {}
    }
    let contended = view.contends != Contends::Nothing;
    let Some(held) = held else {
        return match head {
            None => Action::Rest,
            Some(_) if view.poisoned => Action::FailHead,
            Some(_) if contended => Action::Rest,
            Some(_) => Action::Send,
        };
    };
    if held.releasing {
        return Action::Rest;
    }
    let existence = held.request.protocol.is_existence_lock();
    if !held.occupied {
        // No thread waits for an existence lock while it is held here. So other processes get their
        // turn only if it is given back.
        let passes = contended || due || held.gone || existence && held.over;
        return match head {
            Some(head) if !passes && held.request.satisfies(head) => Action::HandOn,
            _ => Action::GiveBack,
        };
    }
    match head {
        Some(head) if held.request.is_shared_with(head) => match held.closed {
            // If it is certain again, it is shared; if it is lost, another one is acquired.
            _ if held.gone => Action::Rest,
            false => Action::Share,
            true if contended => Action::Rest,
            true => Action::HoldBack,
        },
        // It takes its place among the waiters of other processes before the lock goes back.
        Some(head)
            if !(contended || due || existence)
                && held.request.excludes(head)
                && (!held.request.satisfies(head) || held.over) =>
        {
            Action::Send
        }
        _ => Action::Rest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Protocol;
    use crate::types::Mode;

    fn requests() -> impl Iterator<Item = Request> + Clone {
        let modes = [Mode::Shared, Mode::Exclusive];
        let protocols = [
            Protocol::Native,
            Protocol::Flock,
            Protocol::Fcntl,
            Protocol::Link,
        ];
        modes.into_iter().flat_map(move |mode| {
            protocols.into_iter().map(move |protocol| Request {
                mode,
                protocol,
                stale_after: None,
                fencing: false,
            })
        })
    }

    fn views() -> Vec<View> {
        let mut views = Vec::new();
        let flags = 0..1 << 7;
        for flags in flags {
            let flag = |number: u32| flags >> number & 1 == 1;
            for head in requests().map(Some).chain([None]) {
                for held in requests().map(Some).chain([None]) {
                    for contends in [
                        Contends::Nothing,
                        Contends::ForHead,
                        Contends::InVain,
                        Contends::Pausing,
                    ] {
                        let held = held.map(|request| HeldView {
                            request,
                            releasing: flag(0),
                            occupied: flag(1),
                            over: flag(2),
                            due: flag(3),
                            gone: flag(4),
                            closed: flag(6),
                        });
                        views.push(View {
                            head,
                            held,
                            contends,
                            poisoned: flag(5),
                        });
                    }
                }
            }
        }
        views
    }

    /// Every combination, so that no arm is left to chance.
    #[test]
    fn no_decision_breaks_a_promise() {
        for view in views() {
            let action = decide(view);
            let View { head, held, .. } = view;
            let free = held.is_none();
            let releasing = held.is_some_and(|held| held.releasing);
            let occupied = held.is_some_and(|held| held.occupied && !held.releasing);
            let right = match action {
                // A waiter is never left alone with a lock that is free, nor a lock without holders.
                Action::Rest => {
                    let served = matches!(view.contends, Contends::ForHead | Contends::Pausing)
                        && !view.poisoned;
                    releasing || occupied || head.is_none() && free || served && free
                }
                Action::Withdraw => view.contends != Contends::Nothing,
                Action::FailHead => head.is_some() && free && view.poisoned,
                Action::Send => {
                    let waits = head.is_some() && view.contends == Contends::Nothing;
                    // A wait must not get the lock while its holders here have it.
                    let outside =
                        |held: HeldView| head.is_some_and(|head| held.request.excludes(head));
                    waits && held.is_none_or(|held| occupied && outside(held))
                }
                Action::Share => {
                    let shared =
                        |held: HeldView| head.is_some_and(|head| held.request.is_shared_with(head));
                    occupied && held.is_some_and(|held| shared(held) && !held.closed && !held.gone)
                }
                Action::HoldBack => {
                    let waits = head.is_some() && view.contends == Contends::Nothing;
                    waits && occupied && held.is_some_and(|held| held.closed)
                }
                Action::HandOn => {
                    let fits = |held: HeldView| {
                        let fits = head.is_some_and(|head| held.request.satisfies(head));
                        let turn = held.over && held.request.protocol.is_existence_lock();
                        fits && !held.gone && !turn
                    };
                    // What waits in the queue of the kernel comes before it.
                    let passed = view.contends != Contends::Nothing;
                    !passed && !releasing && !occupied && held.is_some_and(fits)
                }
                Action::GiveBack => !free && !releasing && !occupied,
            };
            assert!(right, "{view:?}: {action:?}");
        }
    }

    #[test]
    fn a_pause_that_is_due_comes_before_the_next_of_the_queue() {
        let due = |view: &View| view.head.is_some() && view.held.is_some_and(|held| held.due);
        for view in views().into_iter().filter(due) {
            let action = decide(view);
            let forbidden = matches!(action, Action::HandOn | Action::Send);
            assert!(!forbidden, "{view:?}: {action:?}");
        }
    }

    #[test]
    fn a_bound_that_is_reached_sends_the_head_to_where_others_wait() {
        let request = requests().last().expect("there are some");
        let request = Request {
            protocol: Protocol::Flock,
            ..request
        };
        let view = |over| View {
            head: Some(request),
            held: Some(HeldView {
                request,
                releasing: false,
                occupied: true,
                over,
                due: false,
                closed: false,
                gone: false,
            }),
            contends: Contends::Nothing,
            poisoned: false,
        };
        assert_eq!(decide(view(true)), Action::Send);
        assert_eq!(decide(view(false)), Action::Rest);
    }
}
