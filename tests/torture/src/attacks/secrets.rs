//! Looks for secrets of the host in every byte that the guests of the other parts saw.

use anyhow::Result;

use crate::attacks::support::attacker::seen;
use crate::attacks::support::secrets::Secrets;
use crate::stage::{Context, Outcome};

pub(super) fn run(_: &Context) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let secrets = Secrets::with([env!("CARGO_MANIFEST_DIR").to_owned()]);
    let seen = seen();
    let text = b"guest";
    let labels = seen
        .windows(text.len())
        .filter(|window| window == text)
        .count();
    outcome.did("bytes", seen.len() as u64);
    outcome.measured("secrets looked for", secrets.count());
    outcome.measured("labels seen", labels);
    // Guests are meant to see the label, so its absence means that this part shows nothing.
    outcome.must(labels > 0, || "nothing was seen".to_owned());
    for found in secrets.found_in(&seen) {
        outcome.must(false, || format!("a guest saw {found}"));
    }
    Ok(outcome)
}
