//! The engine against the limits of the machine, and against what people use otherwise.
//!
//! `cargo bench -p locket-host --bench limits` prints a table of ratios with the target beside each.
//! Words after `--` select sections; `--quick` measures less of each. Nothing fails for being
//! slow: a target is met or missed, and the table says so. What a guest's calls cost is measured by
//! `cargo bench -p locket-wasmtime`.

mod crash;
mod existence;
mod fairness;
mod handoff;
mod measure;
mod methods;
mod peers;
mod picture;
mod process;
mod report;
mod samples;
mod throughput;
mod uncontended;
mod waiters;

use std::fs::File;
use std::path::{Path, PathBuf};

use clap::{Parser, ValueEnum};
use process::Place;
use report::Report;
use tempfile::TempDir;

#[derive(Parser)]
#[command(name = "limits")]
struct Args {
    /// Measure less of each, in less than a minute
    #[arg(long)]
    quick: bool,
    /// Write the table to this file as well, as JSON; cargo runs benchmarks in the package's folder
    #[arg(long, value_name = "FILE", value_parser = writable)]
    json: Option<PathBuf>,
    /// Draw the distributions of the hand-off between processes into this file
    #[arg(long, value_name = "FILE", value_parser = writable)]
    svg: Option<PathBuf>,
    /// What to measure; everything by default
    sections: Vec<Which>,
    /// Cargo says so.
    #[arg(long, hide = true)]
    bench: bool,
    /// What another process of this program is to do.
    #[arg(long, hide = true, num_args = 2.., conflicts_with = "sections")]
    role: Vec<String>,
}

/// A file that can be written, found out before everything is measured.
fn writable(path: &str) -> std::io::Result<PathBuf> {
    File::options().append(true).create(true).open(path)?;
    Ok(path.into())
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Which {
    Uncontended,
    Handoff,
    Peers,
    Throughput,
    Fairness,
    Waiters,
    Crash,
    Existence,
}

/// How much to measure, and where.
struct Plan {
    quick: bool,
    dir: TempDir,
}

impl Plan {
    /// How many rounds, where this many are enough for good figures.
    fn rounds(&self, full: usize) -> usize {
        if self.quick { full.div_ceil(8) } else { full }
    }

    /// A new file to lock, or that of the same name.
    fn file(&self, name: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        File::options()
            .append(true)
            .create(true)
            .open(&path)
            .unwrap();
        path
    }
}

fn main() {
    let args = Args::parse();
    let role: Vec<_> = args.role.iter().map(String::as_str).collect();
    match role[..] {
        [] => {}
        ["contender", place, manner, path] => {
            let place = Place::from_str(place, false).unwrap();
            return handoff::contend_as(place, manner, Path::new(path));
        }
        ["load", load, path] => return throughput::work(load, Path::new(path)),
        ["contest", words, path] => return fairness::work(words, Path::new(path)),
        ["waiters", crowd, path] => return waiters::crowd(crowd, Path::new(path)),
        _ => unreachable!("{role:?}"),
    }
    let plan = Plan {
        quick: args.quick,
        dir: tempfile::tempdir().unwrap(),
    };
    let mut report = Report::new(plan.dir.path());
    for section in Which::value_variants() {
        if !args.sections.is_empty() && !args.sections.contains(section) {
            continue;
        }
        match section {
            Which::Uncontended => uncontended::run(&plan, &mut report),
            Which::Handoff => handoff::run(&plan, &mut report),
            Which::Peers => peers::run(&plan, &mut report),
            Which::Throughput => throughput::run(&plan, &mut report),
            Which::Fairness => fairness::run(&plan, &mut report),
            Which::Waiters => waiters::run(&plan, &mut report),
            Which::Crash => crash::run(&plan, &mut report),
            Which::Existence => existence::run(&plan, &mut report),
        }
    }
    if let Some(path) = args.svg {
        match picture::draw(&report.sections) {
            Some(picture) => std::fs::write(path, picture).unwrap(),
            None => report.skip("picture", "it shows the sections handoff and peers"),
        }
    }
    println!("{}", report.summary());
    if let Some(path) = args.json {
        std::fs::write(path, report.json()).unwrap();
    }
}
