//! How waits and holds end.

use std::mem;
use std::sync::Arc;

use super::give_back::Release;
use super::state::{Contender, State};
use super::{Failure, LockQueue};
use crate::lock_path::LockPath;
use crate::object::LockObject;
use crate::owner::Ticket;
use crate::types::LostReason;
use crate::waiter::{LockWait, Outcome};

impl State {
    /// Records how a wait ended.
    pub(super) fn settled(
        &mut self,
        queue: &Arc<LockQueue>,
        wait: &Arc<LockWait>,
        outcome: Outcome,
    ) {
        let (request, object) = (wait.request, wait.object().map(Arc::clone));
        let by = match &self.contender {
            Contender::Blocked {
                wait: contender,
                by,
            } if Arc::ptr_eq(contender, wait) => *by,
            // It was canceled, and no waiter relies on it any more.
            _ => {
                if let (Outcome::Locked, Some(object)) = (outcome, object) {
                    let stray = Release::new(self.ticket(), object, request);
                    self.releases.push(stray);
                }
                return;
            }
        };
        self.contender = Contender::None;
        let failure = match (outcome, object) {
            (Outcome::Locked, Some(object)) => return self.acquired(queue, wait, object),
            (Outcome::Failed(e), _) => self.failure(e),
            (Outcome::TimedOut, object) => {
                self.spare = object;
                Failure::TimedOut
            }
            (_, object) => {
                self.spare = object;
                return self.poll_later(queue);
            }
        };
        // A helper's error goes to the waiter it stood in for.
        let head = self.head();
        if by.is_some() || head.is_some_and(|head| head.request == request) {
            self.fail(by, failure);
        }
    }

    /// Records that a wait acquired the lock.
    fn acquired(&mut self, queue: &LockQueue, wait: &LockWait, object: Arc<LockObject>) {
        let before = mem::replace(&mut self.object, object);
        match self.held.take() {
            // What was held is being given back, with an object that is still in use.
            Some(held) if held.releasing => {}
            // The system granted it although this engine holds the lock. So it does not hold it any
            // more: another program unlocked it, with a copy of the descriptor, or broke it.
            Some(held) => {
                let reason = held.request.protocol.backend().loss(&before);
                self.releases
                    .push(Release::new(held.id, before, held.request));
                let holds = mem::take(&mut self.holds);
                self.lose_lock(holds, reason);
            }
            None => self.spare = Some(before),
        }
        self.doubt = None;
        self.taken(queue, wait.request);
    }

    /// Ends the hold `ticket`, whose lock other processes see as held if `named`.
    pub(super) fn release(
        &mut self,
        ticket: Ticket,
        remove: Option<&Arc<LockPath>>,
        named: bool,
    ) -> Option<Result<(), LostReason>> {
        if let Ok(index) = self.hold(ticket) {
            let released = self.holds.remove(index)?;
            if !named {
                self.distrust();
            }
            if let Some(lock_path) = remove {
                self.remove = Some(Arc::clone(lock_path));
            }
            // Another hold of the owner that was lost earlier counts now.
            if self.standing(released.requester.owner).is_err() {
                let watchers = mem::take(&mut self.loss_watchers);
                self.wake.extend(watchers.into_values());
            }
            return Some(if named {
                Ok(())
            } else {
                Err(LostReason::Broken)
            });
        }
        let mut lost = self.lost.iter();
        let lost = lost.position(|(hold, _)| hold.ticket == ticket)?;
        Some(Err(self.lost.swap_remove(lost).1))
    }
}
