//! The orders in which threads can use a queue: every order of a few threads with loom, random orders of
//! many threads with shuttle. The models are those of `host/tests/interleavings.rs`.

use std::process::Command;

use crate::cargo::{cargo, complete, target_dir};
use crate::stage::{Context, Outcome};

/// How many orders shuttle tries for each model.
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
    let mut test = cargo(["test", "-p", "locket-host"]);
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
    outcome.did(&format!("orders in {checker}"), counts.iter().sum());
    let done = ran.success() && !counts.is_empty();
    outcome.must(done, || format!("{models:?}: {}", ran.failure()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The violations of models that do what a script does.
    fn violations(script: &str) -> Vec<String> {
        let mut outcome = Outcome::default();
        let mut models = Command::new("sh");
        check(&mut outcome, "loom", models.args(["-c", script])).expect("the command can be run");
        outcome.violations
    }

    #[test]
    fn a_model_that_fails_or_does_nothing_is_a_violation() {
        assert_eq!(violations("echo 3 interleavings"), [""; 0]);
        let failed = violations("echo 3 interleavings; echo panicked at not alone; exit 1");
        assert!(failed[0].contains("not alone"));
        assert_eq!(violations("true").len(), 1);
    }
}
