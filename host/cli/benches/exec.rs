//! What `locket exec` costs beside `flock(1)`, each as a whole process: `cargo bench -p locket-cli`.
//!
//! The programs take turns, so that a busy machine slows them all down. A lone `true` shows what both
//! pay for the command.

use std::process::Command;
use std::time::{Duration, Instant};

const WARM_UP: usize = 50;
const RUNS: usize = 500;

fn main() {
    let dir = tempfile::tempdir().expect("a temporary directory can be created");
    let lock = dir.path().join("lock");
    let lock = lock.to_str().expect("its name is UTF-8");
    let locket = env!("CARGO_BIN_EXE_locket");
    let lines: [&[&str]; 4] = [
        &["true"],
        &["flock", lock, "true"],
        &[locket, "exec", lock, "true"],
        &[locket, "exec", "-F", lock, "true"],
    ];
    let mut times: [Vec<Duration>; 4] = Default::default();
    for run in 0..WARM_UP + RUNS {
        for (line, times) in lines.iter().zip(&mut times) {
            let mut command = Command::new(line[0]);
            command.args(&line[1..]);
            let start = Instant::now();
            let status = command.status().expect("the program can be started");
            let time = start.elapsed();
            assert!(status.success(), "{line:?}");
            if run >= WARM_UP {
                times.push(time);
            }
        }
    }
    let median = |times: &mut Vec<Duration>| {
        times.sort();
        times[RUNS / 2].as_secs_f64()
    };
    let fastest = |times: &[Duration]| times[0].as_secs_f64();
    let medians = times.each_mut().map(median);
    println!("program          median    fastest   beside flock(1)");
    for (index, name) in ["true", "flock", "locket exec", "locket exec -F"]
        .iter()
        .enumerate()
    {
        let (median, fastest) = (medians[index], fastest(&times[index]));
        let ratio = median / medians[1];
        println!(
            "{name:15} {:6.2} ms  {:6.2} ms   {ratio:.2}",
            median * 1e3,
            fastest * 1e3
        );
    }
}
