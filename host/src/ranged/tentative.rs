//! Locks that can still be undone.

use std::mem;

use crate::range::Span;
use crate::types::Mode;

/// A lock that can still be undone.
#[derive(Debug)]
pub(super) struct Tentative {
    pub(super) number: u64,
    /// What it has changed, with what was held there before.
    pub(super) before: Vec<(Span, Option<Mode>)>,
}

impl Tentative {
    /// Lets nothing be undone in `span`.
    pub(super) fn settle(&mut self, span: Span) {
        self.before = without(mem::take(&mut self.before), span);
    }

    /// Takes over what an earlier one had replaced where this one replaced that, and returns the rest.
    pub(super) fn inherit(
        &mut self,
        mut earlier: Vec<(Span, Option<Mode>)>,
    ) -> Vec<(Span, Option<Mode>)> {
        for (mine, _) in self.before.clone() {
            for &(part, mode) in &earlier {
                if let Some(common) = part.common(mine) {
                    self.settle(common);
                    self.before.push((common, mode));
                }
            }
            earlier = without(earlier, mine);
        }
        earlier
    }
}

/// Parts, as far as they are outside of `span`.
fn without(parts: Vec<(Span, Option<Mode>)>, span: Span) -> Vec<(Span, Option<Mode>)> {
    let left = |(part, mode): (Span, _)| part.without(span).map(move |part| (part, mode));
    parts.into_iter().flat_map(left).collect()
}
