//! The same steps have the same answers: natively on SQLite's own VFS, and with components on ours.
//!
//! Each test is a script for two processes, `A` and `B`, with up to ten connections each. Every line
//! gets an answer: rows, or a result code and its message. It runs with two native processes first,
//! and then with a component in place of either, and of both.

mod cast;
mod granted;
mod journals;
mod logs;
mod read_only;
mod regions;

use cast::{Cast, play};
use polyglot::sqlite::program::{Program, Side};

type Result<T = (), E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// Plays a script with every cast, and compares what they say. The native processes must have given
/// each answer in `shown`, or else the script does not show what it is for.
#[track_caller]
fn same(script: &str, shown: &[&str]) {
    use Side::{Component, Native};
    let Some(program) = Program::of_ours("steps.c").expect("it builds") else {
        return;
    };
    let play = |cast| play(&program, cast, script).expect("it can be played");
    let native = play(Cast([Native, Native]));
    let all = native.join("\n");
    for answer in shown {
        assert!(all.contains(&format!("-> {answer}")), "{answer}:\n{all}");
    }
    for cast in [[Component, Native], [Native, Component], [Component; 2]] {
        let found = play(Cast(cast));
        let differs = native.iter().zip(&found).position(|(a, b)| a != b);
        let Some(line) = differs else { continue };
        panic!(
            "{cast:?} after\n{}\nnative:\n{}\nfound:\n{}",
            native[..line].join("\n"),
            native[line..].join("\n"),
            found[line..].join("\n")
        );
    }
}
