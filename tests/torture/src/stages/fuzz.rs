//! Random input, guided by the code that it reaches: the targets in `host/fuzz`, each for a while.

use std::fs;
use std::process::Command;

use anyhow::Context as _;

use crate::cargo::{cargo, complete, target_dir, workspace};
use crate::stage::{Context, Outcome};

const TARGETS: [&str; 3] = ["calls", "guest_paths", "records"];

/// How long each of them runs.
const SECONDS: u32 = 15;

pub(crate) fn run(context: &Context) -> anyhow::Result<Outcome> {
    let mut outcome = Outcome::default();
    if !complete(&mut cargo(["fuzz", "--version"]))?.success() {
        let missing = "cargo-fuzz is missing; `cargo install cargo-fuzz` installs it";
        outcome.omitted.push(missing.into());
        return Ok(outcome);
    }
    context.progress.set_length(TARGETS.len() as u64);
    for (purpose, target) in (0..).zip(TARGETS) {
        context.progress.set_message(target);
        let seed = context.chance(purpose).u32(1..);
        let mut fuzz = fuzz(target, seed)?;
        let ran = complete(&mut fuzz)?;
        let inputs = ran.numbers("runs").into_iter().sum();
        outcome.did(&format!("inputs to {target}"), inputs);
        let done = ran.success() && inputs > 0;
        outcome.must(done, || format!("{fuzz:?}: {}", ran.failure()));
        context.progress.inc(1);
    }
    Ok(outcome)
}

/// The command that runs a target. New inputs go beneath the target folder, beside what is built.
fn fuzz(target: &str, seed: u32) -> anyhow::Result<Command> {
    let built = target_dir().join("fuzz");
    let (new, known) = (
        built.join("corpus").join(target),
        workspace().join("host/fuzz/corpus"),
    );
    fs::create_dir_all(&new).with_context(|| new.display().to_string())?;
    let mut fuzz = cargo([
        "fuzz",
        "run",
        "--fuzz-dir",
        "host/fuzz",
        "--sanitizer",
        "none",
    ]);
    fuzz.arg(target).arg(new);
    // The target `calls` has no corpus: what its bytes mean changes with the calls.
    let known = known.join(target);
    if known.exists() {
        fuzz.arg(known);
    }
    // Short inputs make no calls.
    fuzz.args(["--", "-len_control=0", "-max_len=512"]);
    fuzz.arg(format!("-seed={seed}"));
    fuzz.arg(format!("-max_total_time={SECONDS}"))
        .arg("-timeout=60");
    // Coverage needs unstable options of the compiler.
    fuzz.env("RUSTC_BOOTSTRAP", "1");
    fuzz.env("CARGO_TARGET_DIR", built);
    Ok(fuzz)
}
