//! `locket run`: runs a command component with `locket:lock` at its disposal.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use locket::component::LocketCtx;
use locket::sandbox::{Limits, Rights};
use locket::{Engine, Protocol};
use tracing_subscriber::EnvFilter;
use wasmtime_wasi::{FsPerms, WasiCtx};

use super::guest::{Program, State};
use super::{coded, exit, protocol, say, seconds};

/// Run a WebAssembly component that uses locks.
///
/// As `wasmtime run`, with `locket:lock` linked beside WASI 0.2 and 0.3. The component sees no
/// file and no lock but those in the directories that are granted to it. When it ends, however it
/// ends, its locks are free. What was compiled of it is kept where `wasmtime run` keeps it.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  locket run --dir . plugin.wasm --verbose           its files and locks are in this directory
  locket run --dir jobs::/jobs --instances 4 worker.wasm
  locket run --lock-dir /var/lock/app::/locks --max-wait 30 plugin.wasm

Environment:
  LOCKET_LOG=locket=debug tells on standard error what a component is not told, such as the error
  of the system for which a call was refused

Exit status:
  that of the component, of several instances the first that is not 0;
  64 wrong usage, 65 COMPONENT is not a command component or imports what is not there,
  66 COMPONENT or a directory cannot be read, 134 it trapped")]
pub(crate) struct Run {
    /// Grant a directory, its files and the locks on them, under its own name or as GUEST; for
    /// example `--dir jobs::/jobs`
    #[arg(long = "dir", value_name = "HOST[::GUEST]", value_parser = Grant::parse)]
    dirs: Vec<Grant>,

    /// Grant the locks in a directory, but not what is in its files; for example
    /// `--lock-dir /var/lock/app::/locks`
    #[arg(long = "lock-dir", value_name = "HOST[::GUEST]", value_parser = Grant::parse)]
    lock_dirs: Vec<Grant>,

    /// Let the component take locks in those directories away from others, by the interface `admin`
    #[arg(long)]
    allow_break: bool,

    /// Set an environment variable, for example `--env LEVEL=debug`; none is inherited
    #[arg(long = "env", value_name = "NAME=VALUE", value_parser = variable)]
    envs: Vec<(String, String)>,

    /// How locks are kept where the component leaves the choice; `locket exec --help` has the list
    /// [default: native]
    #[arg(long, value_name = "PROTOCOL", value_parser = protocol(), hide_possible_values = true)]
    protocol: Option<Protocol>,

    /// The database in which the locks of the protocol `sqlite` are, for example locks.db
    #[arg(long, value_name = "FILE")]
    database: Option<PathBuf>,

    /// Run so many instances at the same time, for example 4
    #[arg(long, value_name = "N", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    instances: u16,

    /// Let an instance hold at most so many locks at a time, for example 4 [default: 16]
    #[arg(long, value_name = "N")]
    max_held: Option<usize>,

    /// Cancel a wait that lasts longer, for example 30
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    max_wait: Option<Duration>,

    /// Take a lock away that is held longer, for example 60
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    max_hold: Option<Duration>,

    /// The component to run, for example plugin.wasm
    component: PathBuf,

    /// Its arguments
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "ARG"
    )]
    args: Vec<String>,
}

/// A directory of this system, and its name in the component.
#[derive(Clone, Debug)]
struct Grant {
    host: PathBuf,
    guest: String,
}

impl Grant {
    fn parse(text: &str) -> Result<Self, String> {
        let (host, guest) = text.split_once("::").unwrap_or((text, text));
        if host.is_empty() || guest.is_empty() {
            return Err("expected HOST or HOST::GUEST, such as jobs::/jobs".to_owned());
        }
        Ok(Self {
            host: host.into(),
            guest: guest.to_owned(),
        })
    }

    fn error(&self, error: impl std::fmt::Display) -> anyhow::Error {
        let host = self.host.display();
        coded(
            exit::NO_INPUT,
            format_args!("cannot grant `{host}`: {error}; is it a directory?"),
        )
    }
}

fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE, such as LEVEL=debug".to_owned()),
    }
}

impl Run {
    pub(crate) fn run(self) -> anyhow::Result<u8> {
        tracing_subscriber::fmt()
            .with_env_filter(EnvFilter::from_env("LOCKET_LOG"))
            .with_writer(std::io::stderr)
            .init();
        let program = Program::from_file(&self.component)?;
        let engine = Engine::new();
        let states: Vec<State> = (0..self.instances)
            .map(|i| self.state(&engine, i))
            .collect::<anyhow::Result<_>>()?;
        let runtime = tokio::runtime::Runtime::new()?;
        let code = runtime.block_on(run_all(Arc::new(program), states));
        // A read of standard input that nobody awaits any more must not keep us.
        runtime.shutdown_background();
        Ok(code)
    }

    /// What the instance number `i` has.
    fn state(&self, engine: &Engine, i: u16) -> anyhow::Result<State> {
        let name = self
            .component
            .file_name()
            .unwrap_or_default()
            .to_string_lossy();
        let stem = Path::new(&*name)
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy();
        let mut wasi = WasiCtx::builder();
        wasi.inherit_stdio()
            .envs(&self.envs)
            .arg(&name)
            .args(&self.args);
        let mut limits = Limits::new()
            .longest_wait(self.max_wait)
            .longest_hold(self.max_hold);
        if let Some(held) = self.max_held {
            limits = limits.held(held);
        }
        let mut locks = LocketCtx::builder(engine)
            .label(format!("{stem}#{i}"))
            .limits(limits)
            .protocol(self.protocol.unwrap_or_default());
        if let Some(database) = &self.database {
            locks = locks.database(database);
        }
        for dir in &self.dirs {
            wasi.preopened_dir(&dir.host, &dir.guest, FsPerms::ReadWrite)
                .map_err(|e| dir.error(e))?;
        }
        let rights = match self.allow_break {
            true => Rights::ALL,
            false => Rights::READ_WRITE,
        };
        for dir in self.dirs.iter().chain(&self.lock_dirs) {
            locks = locks
                .grant_dir(&dir.host, &dir.guest, rights)
                .map_err(|e| dir.error(e))?;
        }
        Ok(State::new(wasi.build(), locks.build()))
    }
}

/// Runs the instances at the same time. The first exit code in their order that is not 0 counts.
async fn run_all(program: Arc<Program>, states: Vec<State>) -> u8 {
    let instances: Vec<_> = states
        .into_iter()
        .map(|state| {
            let program = Arc::clone(&program);
            tokio::spawn(async move { program.run(state).await })
        })
        .collect();
    let alone = instances.len() == 1;
    let mut first = 0;
    for (i, instance) in instances.into_iter().enumerate() {
        let code = match instance.await {
            Ok(Ok(code)) => u8::try_from(code).unwrap_or(exit::FAILURE),
            Ok(Err(trap)) => {
                let which = if alone {
                    String::new()
                } else {
                    format!(" in instance {i}")
                };
                say(format_args!("trap{which}: {trap:?}"));
                exit::TRAP
            }
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        };
        if first == 0 {
            first = code;
        }
    }
    first
}
