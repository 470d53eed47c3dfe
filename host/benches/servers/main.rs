//! The locks of servers against bare requests of the same meaning, and against the servers' own tools.
//!
//! `cargo bench -p locket-host --features etcd,postgres --bench servers` starts etcd and PostgreSQL
//! on free ports of the loopback interface, and prints a table of ratios. Words after `--` select the
//! server; `--quick` measures less of each. The servers do not wait for their disks, so that the table
//! compares clients. With a disk, each request that writes takes longer for every client.

mod crowd;
mod etcd;
mod hand_off;
#[path = "../limits/measure.rs"]
#[allow(dead_code, reason = "the other benchmarks use the rest")]
mod measure;
mod peer;
mod postgres;
#[path = "../limits/report.rs"]
#[allow(dead_code, reason = "the other benchmarks use the rest")]
mod report;
#[path = "../limits/samples.rs"]
#[allow(dead_code, reason = "the other benchmarks use the rest")]
mod samples;

use clap::{Parser, ValueEnum};
use locket::Mode;
use report::Report;

const EX: Mode = Mode::Exclusive;

#[derive(Parser)]
#[command(name = "servers")]
struct Args {
    /// Measure less of each
    #[arg(long)]
    quick: bool,
    /// Which server; both by default
    servers: Vec<Which>,
    /// Cargo says so.
    #[arg(long, hide = true)]
    bench: bool,
    /// Which crowd another process of this program is to be, and where its server is.
    #[arg(long, hide = true, num_args = 2, conflicts_with = "servers")]
    crowd: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Which {
    Etcd,
    Postgres,
}

/// How much to measure.
struct Plan {
    quick: bool,
}

impl Plan {
    /// How many rounds, where this many are enough for good figures.
    fn rounds(&self, full: usize) -> usize {
        if self.quick { full.div_ceil(8) } else { full }
    }
}

fn main() {
    let args = Args::parse();
    if let [crowd, url] = &args.crowd[..] {
        return crowd::gather(crowd, url);
    }
    let plan = Plan { quick: args.quick };
    let mut report = Report::new(&std::env::temp_dir());
    for server in Which::value_variants() {
        if !args.servers.is_empty() && !args.servers.contains(server) {
            continue;
        }
        match server {
            Which::Etcd => etcd::run(&plan, &mut report),
            Which::Postgres => postgres::run(&plan, &mut report),
        }
    }
    println!("{}", report.summary());
}
