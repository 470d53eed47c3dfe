//! Random histories of calls, each answer compared with a model: those of `host/tests/model`.

use std::thread;

use crate::cargo::{cargo, complete};
use crate::stage::{Context, Outcome};

/// How many histories each process tries, and how many processes there are.
const HISTORIES: u32 = 10_000;
const PROCESSES: u64 = 2;

pub(crate) fn run(context: &Context) -> anyhow::Result<Outcome> {
    let seeds = (0..PROCESSES).map(|process| context.chance(process).u64(..));
    let test = |seed: u64| {
        let mut test = cargo(["test", "-p", "locket-host"]);
        test.args(["--features", "sqlite", "--test", "model"]);
        test.args([
            "every_answer_is_that_of_the_model",
            "--",
            "--exact",
            "--nocapture",
        ]);
        test.env("PROPTEST_CASES", HISTORIES.to_string());
        test.env("PROPTEST_RNG_SEED", seed.to_string());
        test
    };
    let tests = seeds.map(|seed| (seed, thread::spawn(move || complete(&mut test(seed)))));
    let tests: Vec<_> = tests.collect();
    let mut outcome = Outcome::default();
    for (seed, test) in tests {
        let ran = test.join().expect("the thread does not panic")?;
        let histories = ran.numbers("histories").iter().sum();
        outcome.did("histories", histories);
        outcome.did("calls", ran.numbers("calls").iter().sum());
        outcome.must(ran.success(), || {
            format!("with PROPTEST_RNG_SEED={seed}: {}", ran.failure())
        });
        // A test that is not found succeeds, too.
        let all = u64::from(HISTORIES);
        outcome.must(!ran.success() || histories == all, || {
            format!("{histories} histories of {all} were tried")
        });
    }
    Ok(outcome)
}
