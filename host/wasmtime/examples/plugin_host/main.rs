//! A plugin host: one plugin, called for many tenants, whose calls share locks.
//!
//! `cargo run -p locket-wasmtime --example plugin_host` makes 2,000 calls for three tenants, replaces
//! the plugin in the middle, shuts down, and prints what happened. To copy from:
//!
//! | file | shows |
//! |---|---|
//! | `config.rs`, `tenants.toml` | tenants, grants and limits from a file |
//! | `plugin.rs` | a world of one's own, with host functions that take a `borrow<lock-file>` |
//! | `tenant.rs` | what the calls of a tenant share, and how a guest is cut off from its locks |
//! | `host.rs` | a call: pooled instance, running time, timeout; reload; shutdown |
//! | `calls.rs` | handles on guests while they run |
//! | `metrics.rs` | counters by hooks, in the text form of Prometheus |
//! | `listing.rs` | who holds and awaits what |
//! | `demo.rs` | calls, to see all of that |
//!
//! The plugin is in `tests/guests/plugin`.

mod calls;
pub(crate) mod config;
pub(crate) mod demo;
pub(crate) mod host;
mod listing;
mod metrics;
mod plugin;
mod tenant;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use wasmtime::Result;

use self::config::Config;
use self::host::Host;

/// Host of plugins that share locks.
#[derive(Parser)]
struct Args {
    /// Settings, with the same tenants [default: `tenants.toml` of the example]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Where the directories of the tenants are [default: a temporary directory]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,

    /// Number of calls
    #[arg(long, value_name = "N", default_value_t = 2000)]
    calls: usize,

    /// List who holds and awaits what every SECONDS
    #[arg(long, value_name = "SECONDS")]
    list: Option<u64>,
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let args = Args::parse();
    let config = match &args.config {
        Some(path) => Config::read(path)?,
        None => Config::example()?,
    };
    let temporary = tempfile::tempdir()?;
    let data = args.data.as_deref().unwrap_or(temporary.path());
    let host = Arc::new(Host::new(&config, data)?);

    let lister = args.list.map(|seconds| {
        let host = Arc::clone(&host);
        tokio::spawn(async move {
            let mut interval = tokio::time::interval(Duration::from_secs(seconds.max(1)));
            loop {
                interval.tick().await;
                println!("{}", host.list());
            }
        })
    });
    let report = tokio::select! {
        report = demo::run(&host, args.calls) => Some(report?),
        interrupt = tokio::signal::ctrl_c() => {
            interrupt?;
            // The calls are dropped, and this waits until all of them have ended.
            host.shut_down().await;
            None
        }
    };
    if let Some(lister) = lister {
        lister.abort();
    }

    let mut metrics = String::new();
    for (name, tenant) in &host.tenants {
        tenant.metrics.write(name, &mut metrics)?;
    }
    let Some(report) = report else {
        print!("{metrics}");
        return Ok(ExitCode::FAILURE);
    };
    print!("{report}\n{metrics}");
    if !report.is_right() {
        println!("\nThis does not add up.");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}
