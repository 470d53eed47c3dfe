//! The orders in which threads can get at a queue: every one of a few with loom, many of many with
//! shuttle. The models are those of `host/tests/interleavings.rs`.

use std::process::Command;

use crate::cargo::{cargo, complete, target_dir};
use crate::stage::{Context, Outcome};

/// How many shuttle goes through for each model.
const SCHEDULES: u32 = 12_500;

pub(crate) fn run(context: &Context) -> anyhow::Result<Outcome> {
    let mut outcome = Outcome::default();
    check(&mut outcome, "loom", &mut models("loom"))?;
    let seed = context.chance(0).u64(..);
    let mut shuttle = models("shuttle");
    shuttle.env("SHUTTLE_SCHEDULES", SCHEDULES.to_string());
    shuttle.env("SHUTTLE_SEED", seed.to_string());
    check(&mut outcome, "shuttle", &mut shuttle)?;
    Ok(outcome)
}

/// The models, built for a checker.
fn models(checker: &str) -> Command {
    let mut test = cargo(["test", "-p", "locket", "--no-default-features"]);
    test.arg("--target-dir").arg(target_dir().join(checker));
    test.args(["--test", "interleavings", "--", "--nocapture"]);
    let flags = std::env::var("RUSTFLAGS").unwrap_or_default();
    test.env("RUSTFLAGS", format!("{flags} --cfg {checker}"));
    test
}

fn check(outcome: &mut Outcome, checker: &str, models: &mut Command) -> anyhow::Result<()> {
    let ran = complete(models)?;
    let counts = ran.numbers("interleavings");
    outcome.did(&format!("models in {checker}"), counts.len() as u64);
    outcome.did(&format!("interleavings in {checker}"), counts.iter().sum());
    let done = ran.success() && !counts.is_empty();
    outcome.must(done, || format!("{models:?}: {}", ran.failure()));
    Ok(())
}
