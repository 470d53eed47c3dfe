//! The participants of the demo: processes and instances of a component.

use std::path::Path;
use std::process::Stdio;

use anyhow::Context;
use locket::Engine;
use locket::sandbox::Rights;
use locket_wasmtime::LocketCtx;
use tokio::process::{Child, Command};
use wasmtime_wasi::{FsPerms, WasiCtx};

use super::{Demo, STOCK_LOCKS};
use crate::guest::{State, into_anyhow};

/// The guest path of the demo's directory.
const GUEST_DIR: &str = "/demo";

/// The guest path of the locks on the server of `--remote`.
const GUEST_SERVER: &str = "/server";

impl Demo {
    /// Whether a server keeps the lock.
    pub(super) fn is_remote(&self) -> bool {
        #[cfg(feature = "remote")]
        return self.remote.is_some();
        #[cfg(not(feature = "remote"))]
        false
    }

    /// The name of the lock on the server: no other demo's.
    fn name(&self) -> String {
        format!("locket-demo-{}", std::process::id())
    }

    /// The arguments of a participant, native or component, for which the directory is at `dir`.
    fn arguments(&self, dir: &str, lock: &str, id: &str, unlocked: bool) -> Vec<String> {
        let path = |name: &str| format!("{dir}/{name}");
        let mut arguments: Vec<String> = [
            ("--lock", lock.to_owned()),
            ("--counter", path("counter")),
            ("--journal", path("journal")),
            ("--count", self.increments.to_string()),
            ("--id", id.to_owned()),
        ]
        .into_iter()
        .flat_map(|(name, value)| [name.to_owned(), value])
        .collect();
        arguments.extend(unlocked.then(|| "--unlocked".to_owned()));
        arguments
    }

    pub(super) fn start_process(
        &self,
        dir: &Path,
        id: &str,
        unlocked: bool,
    ) -> anyhow::Result<Child> {
        let dir = dir
            .to_str()
            .context("the path of the temporary directory is not Unicode")?;
        let mut command = Command::new(std::env::current_exe()?);
        if self.sqlite {
            let count = self.increments.to_string();
            command.args(["demo-database-worker", &format!("{dir}/db"), &count, id]);
        } else {
            let lock = match self.is_remote() {
                true => self.name(),
                false => format!("{dir}/lock"),
            };
            command
                .arg("demo-worker")
                .args(self.arguments(dir, &lock, id, unlocked))
                .args(["--protocol", self.protocol.name()]);
            #[cfg(feature = "remote")]
            if let Some(url) = &self.remote {
                command.args(["--remote", url]);
            }
        }
        // What a damaged database does to them is no error of theirs.
        if self.sqlite && unlocked {
            command.stderr(Stdio::null());
        }
        command
            .stdin(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("cannot start a process")
    }

    pub(super) fn instance(
        &self,
        engine: &Engine,
        dir: &Path,
        id: &str,
        unlocked: bool,
    ) -> anyhow::Result<State> {
        let mut wasi = WasiCtx::builder();
        wasi.arg("counter");
        if self.sqlite {
            let vfs = if unlocked { STOCK_LOCKS } else { "locket" };
            let count = self.increments.to_string();
            wasi.args(&[&format!("{GUEST_DIR}/db"), vfs, &count, id]);
        } else {
            let lock = match self.is_remote() {
                true => format!("{GUEST_SERVER}/{}", self.name()),
                false => format!("{GUEST_DIR}/lock"),
            };
            wasi.args(&self.arguments(GUEST_DIR, &lock, id, unlocked));
        }
        if !(self.sqlite && unlocked) {
            wasi.inherit_stderr();
        }
        wasi.preopened_dir(dir, GUEST_DIR, FsPerms::ReadWrite)
            .map_err(into_anyhow)?;
        let locks = LocketCtx::builder(engine)
            .label(id)
            .protocol(self.protocol)
            .grant_dir(dir, GUEST_DIR, Rights::READ_WRITE)?;
        #[cfg(feature = "remote")]
        let locks = match &self.remote {
            Some(url) => {
                let remote = crate::remote::connect(url, None)?;
                locks.grant_remote(&remote, GUEST_SERVER, Rights::LOCKS)?
            }
            None => locks,
        };
        Ok(State::new(wasi.build(), locks.build()))
    }
}
