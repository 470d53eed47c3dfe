//! The terms on which a guest may wait.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::hooks::Story;
use super::quota::{Books, Guest, Waiting};
use super::tenant::Kind;
use crate::error::ErrorKind;
use crate::types::Mode;

/// How long an acquire may wait, and its entry among the waits of the guest.
#[derive(Debug)]
pub(super) struct Terms {
    pub(super) timeout: Option<Duration>,
    /// The error if the time is up sooner than the guest asked for.
    pub(super) cut_short: Option<ErrorKind>,
    /// The number of the entry, if it may wait.
    pub(super) wait: Option<u64>,
}

impl Books {
    /// Counts an acquire as a wait if it may be one.
    pub(super) fn terms(
        &mut self,
        guest: &Guest,
        story: &Arc<Story>,
        mode: Mode,
        timeout: Option<Duration>,
        began: Instant,
    ) -> Terms {
        let longest = self.limits.longest_wait;
        let longest = longest.filter(|longest| timeout.is_none_or(|time| *longest < time));
        let terms = Terms {
            timeout: longest.or(timeout),
            cut_short: longest.and(Some(ErrorKind::Canceled)),
            wait: None,
        };
        if terms.timeout == Some(Duration::ZERO) {
            return terms;
        }
        let room = self.waits.len() < self.limits.waiters;
        let Some(share) = room.then(|| guest.share(Kind::Wait, 1)).flatten() else {
            // A lock that is free may still be acquired.
            return Terms {
                timeout: Some(Duration::ZERO),
                cut_short: Some(ErrorKind::LimitExceeded),
                wait: None,
            };
        };
        let id = self.number();
        self.waits.push(Waiting {
            id,
            story: Arc::clone(story),
            mode,
            since: began,
            _share: share,
        });
        Terms {
            wait: Some(id),
            ..terms
        }
    }

    /// Takes the entry of a wait out.
    pub(super) fn end_wait(&mut self, id: u64) -> Option<Waiting> {
        let index = self.waits.binary_search_by_key(&id, |wait| wait.id);
        index.ok().map(|index| self.waits.remove(index))
    }
}
