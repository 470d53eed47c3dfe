//! `locket run`: runs a command component with `locket:lock` linked.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use locket::sandbox::{Limits, Rights};
use locket::{Engine, Protocol};
use locket_wasmtime::{LocketCtx, LocketCtxBuilder};
use tracing_subscriber::EnvFilter;
use wasmtime_wasi::{FsPerms, WasiCtx};

use crate::args::{ProtocolArgs, protocol, seconds};
use crate::exit::{self, ExitError};
use crate::guest::{Program, State};
use crate::output::{eprint_line, shown_path};

const PROTOCOL: &str = "\
Locking mechanism, unless the component chooses one; `locket exec --help` lists them [default: native]";

const DATABASE: &str = "\
Database for the locks of the protocol `sqlite`, for example /var/lib/app/locks.db. It must not be in \
a granted directory";

/// Run a WebAssembly component that uses locks.
///
/// Like `wasmtime run`, with `locket:lock` linked in addition to WASI 0.2 and 0.3. The component
/// can access only the files and locks in the directories that are granted to it. When it ends, for
/// whatever reason, its locks are released. The compiled component is kept in the cache of
/// `wasmtime run`.
#[derive(Args, Debug)]
#[command(
    after_help = "\
Examples:
  locket run --dir . plugin.wasm --verbose           grant files and locks in this directory
  locket run --dir jobs::/jobs --instances 4 worker.wasm
  locket run --lock-dir /var/lock/app::/locks --max-wait 30 plugin.wasm

Environment:
  LOCKET_LOG=locket=debug reports on standard error details that are hidden from the component,
  such as the system error that made a call fail

Exit status:
  that of the component, or of the first of several instances that is not 0;
  64 invalid usage, 65 COMPONENT is not a command component or needs an import that is not
  available, 66 COMPONENT or a directory cannot be read, 71 the system fails, 134 COMPONENT trapped",
    mut_arg("protocol", |arg| arg.help(PROTOCOL).hide_possible_values(true)),
    mut_arg("database", |arg| arg.help(DATABASE))
)]
pub(crate) struct Run {
    /// Grant access to the files and locks in directory HOST, under its own name or as GUEST, for
    /// example `--dir jobs::/jobs`. The component may use every protocol there, and have empty lock
    /// files removed on release
    #[arg(long = "dir", value_name = "HOST[::GUEST]", value_parser = Grant::parse)]
    dirs: Vec<Grant>,

    /// Grant access only to the locks in directory HOST, for example
    /// `--lock-dir /var/lock/app::/locks`. The component may create empty lock files there, but not
    /// change or remove anything. It may use kernel locks (`native`, `flock`, `fcntl`), and other
    /// protocols only if `--allow-protocol` names them
    #[arg(long = "lock-dir", value_name = "HOST[::GUEST]", value_parser = Grant::parse)]
    lock_dirs: Vec<Grant>,

    /// Grant access to the locks on a server, as paths beneath GUEST, for example
    /// `--lock-remote etcd://db1:2379/locks::/cluster`. The password comes from $LOCKET_PASSWORD or
    /// the file $LOCKET_PASSWORD_FILE
    #[cfg(feature = "remote")]
    #[arg(long = "lock-remote", value_name = "URL::/GUEST")]
    lock_remotes: Vec<String>,

    /// Allow the component to break locks held by others in these directories, through the
    /// interface `admin`
    #[arg(long)]
    allow_break: bool,

    /// Set an environment variable, for example `--env LEVEL=debug`. No variable is inherited
    #[arg(long = "env", value_name = "NAME=VALUE", value_parser = variable)]
    envs: Vec<(String, String)>,

    #[command(flatten)]
    locking: ProtocolArgs,

    /// Allow the component to choose this protocol. Can be repeated. Without this option, the
    /// component may choose any protocol. That of `--protocol` is always allowed. In the
    /// directories of `--lock-dir`, existence locks are allowed only if this option names their
    /// protocol
    #[arg(long = "allow-protocol", value_name = "PROTOCOL", value_parser = protocol(), hide_possible_values = true)]
    allow_protocols: Vec<Protocol>,

    /// Run N instances concurrently, for example 4
    #[arg(long, value_name = "N", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    instances: u16,

    /// Limit the number of locks that an instance holds at a time, for example to 4 [default: 16]
    #[arg(long, value_name = "N")]
    max_held: Option<usize>,

    /// Limit the number of lock files that an instance creates and leaves in place, for example to
    /// 100 [default: 1024]
    #[arg(long, value_name = "N")]
    max_created: Option<usize>,

    /// Cancel a wait that lasts longer than SECONDS, for example 30
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    max_wait: Option<Duration>,

    /// Revoke a lock that is held longer than SECONDS, for example 60
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    max_hold: Option<Duration>,

    /// Interrupt an instance that has run for longer than SECONDS, for example 10. Time in which it
    /// waits, for a lock or for input, does not count
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    max_time: Option<Duration>,

    /// Component to run, for example plugin.wasm
    component: PathBuf,

    /// Arguments of the component
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "ARG"
    )]
    args: Vec<String>,
}

/// A host directory, and its name in the component.
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

    fn error(&self, error: impl std::fmt::Display) -> ExitError {
        let host = shown_path(&self.host);
        let hint = match self.host.is_dir() {
            true => "",
            false => "; is it a directory?",
        };
        ExitError::new(
            exit::NO_INPUT,
            format_args!("cannot grant `{host}`: {error}{hint}"),
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
        self.check()?;
        tracing_subscriber::fmt()
            .with_env_filter(EnvFilter::from_env("LOCKET_LOG"))
            .with_writer(std::io::stderr)
            .init();
        let program = Program::from_file(&self.component, self.max_time)?;
        let engine = Engine::new();
        let locks = self.locks(&engine)?;
        let states: Vec<State> = (0..self.instances)
            .map(|i| self.state(locks.clone(), i))
            .collect::<anyhow::Result<_>>()?;
        let runtime = tokio::runtime::Runtime::new()?;
        let code = runtime.block_on(run_all(Arc::new(program), states));
        // A read of standard input that is no longer awaited must not keep this process running.
        runtime.shutdown_background();
        Ok(code)
    }

    /// Refuses a combination of options in which one would have no effect.
    fn check(&self) -> anyhow::Result<()> {
        let refused = |protocol: &Protocol| {
            protocol.is_existence_lock()
                && !self.lock_dirs.is_empty()
                && !self.allow_protocols.contains(protocol)
        };
        match self.locking.protocol.filter(refused) {
            Some(protocol) => Err(ExitError::new(
                exit::USAGE,
                format_args!(
                    "`--lock-dir` grants only kernel locks, and `{protocol}` is not one; \
                     add `--allow-protocol {protocol}` to grant it as well"
                ),
            )
            .into()),
            None => Ok(()),
        }
    }

    /// What each instance may lock. The directories are opened once, for all of them.
    fn locks(&self, engine: &Engine) -> anyhow::Result<LocketCtxBuilder> {
        let mut limits = Limits::new()
            .longest_wait(self.max_wait)
            .longest_hold(self.max_hold);
        if let Some(held) = self.max_held {
            limits = limits.held(held);
        }
        if let Some(created) = self.max_created {
            limits = limits.created(created);
        }
        let mut locks = LocketCtx::builder(engine)
            .limits(limits)
            .lock_open_files(true)
            .protocol(self.locking.protocol_or_default());
        if !self.allow_protocols.is_empty() {
            locks = locks.protocols(self.allow_protocols.iter().copied());
        }
        if let Some(database) = &self.locking.database {
            locks = locks.database(database).map_err(|e| {
                ExitError::new(exit::NO_INPUT, format_args!("cannot use the database {e}"))
            })?;
        }
        let may_break = match self.allow_break {
            true => Rights::BREAK,
            false => Rights::NONE,
        };
        let existence = match self
            .allow_protocols
            .iter()
            .any(|protocol| protocol.is_existence_lock())
        {
            true => Rights::EXISTENCE,
            false => Rights::NONE,
        };
        let files = self.dirs.iter().map(|dir| (dir, Rights::READ_WRITE));
        let lone = self.lock_dirs.iter();
        let lone = lone.map(|dir| (dir, Rights::LOCKS | existence));
        for (dir, rights) in files.chain(lone) {
            locks = locks
                .grant_dir(&dir.host, &dir.guest, rights | may_break)
                .map_err(|e| dir.error(e))?;
        }
        #[cfg(feature = "remote")]
        for grant in &self.lock_remotes {
            let Some((url, guest)) = grant.rsplit_once("::") else {
                let why = format_args!("`{grant}` is not URL::/GUEST");
                return Err(ExitError::new(exit::USAGE, why).into());
            };
            let remote = crate::remote::connect(url, None)?;
            locks = locks
                .grant_remote(&remote, guest, Rights::LOCKS | may_break)
                .map_err(|e| ExitError::new(exit::USAGE, format_args!("`{guest}`: {e}")))?;
        }
        Ok(locks)
    }

    /// Creates the data of instance number `i`.
    fn state(&self, locks: LocketCtxBuilder, i: u16) -> anyhow::Result<State> {
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
        // As `wasmtime run` has it: another thread for each access to a file takes longer than most of
        // them. Several instances must not hold up each other.
        wasi.allow_blocking_current_thread(self.instances == 1);
        wasi.inherit_stdio()
            .envs(&self.envs)
            .arg(&name)
            .args(&self.args);
        for dir in &self.dirs {
            wasi.preopened_dir(&dir.host, &dir.guest, FsPerms::ReadWrite)
                .map_err(|e| dir.error(e))?;
        }
        let locks = locks.label(format!("{stem}#{i}"));
        Ok(State::new(wasi.build(), locks.build()))
    }
}

/// Runs the instances concurrently. Returns the first exit code, in their order, that is not 0.
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
                eprint_line(format_args!("trap{which}: {trap:?}"));
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
