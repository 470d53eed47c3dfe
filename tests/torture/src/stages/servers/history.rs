//! What the journals of all holders say together.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use super::worker::Section;
use crate::stage::Outcome;

/// All sections, by when they began.
pub(super) fn read(folder: &Path) -> Result<Vec<Section>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == "journal") {
            // A process that was killed leaves no more than a part of its last line.
            let text = fs::read_to_string(path)?;
            all.extend(
                text.lines()
                    .filter_map(|line| serde_json::from_str(line).ok()),
            );
        }
    }
    all.sort_by_key(|section: &Section| section.from);
    Ok(all)
}

/// Checks that no two holds that their holders believed in overlap, and that tokens grow.
pub(super) fn check(sections: &[Section], outcome: &mut Outcome) -> Option<Duration> {
    let mut longest = None;
    for pair in sections.windows(2) {
        let [before, after] = pair else { continue };
        outcome.must(before.to <= after.from, || {
            format!("two held the lock at once: {before:?} and {after:?}")
        });
        outcome.must(before.token < after.token, || {
            format!("a token did not grow: {before:?} and {after:?}")
        });
        longest = longest.max(after.from.checked_sub(before.to));
    }
    longest
}
