//! A component instance that locks. It acquires and releases; its worker does the rest.

use std::time::Duration;

use anyhow::Result;
use locket::sandbox::Rights;
use locket_tests::harness::{Guest, component, store_in};
use locket_wasmtime::LocketCtx;
use tokio::runtime::Handle;

use super::{Failure, Locker, in_whole_milliseconds};
use crate::stress::journal::{Mode, Why};
use crate::stress::plan::{Patience, Step};
use crate::stress::process::Shared;

/// An instance of the guest that takes commands line by line.
pub(crate) struct Instance {
    guest: Guest,
    runtime: Handle,
    held: usize,
}

impl Instance {
    /// Starts an instance and opens all locks of the workload in it.
    pub(crate) fn start(shared: &Shared) -> Result<Self> {
        let layout = &shared.role.layout;
        let locket = LocketCtx::builder(&shared.engine)
            .database(layout.database())?
            .grant_dir(layout.locks(), "/locks", Rights::READ_WRITE)?
            .build();
        let store = |wasi: &mut _| store_in(&layout.locks(), locket, wasi);
        let runtime = shared.runtime.clone();
        let guest = runtime.block_on(async {
            let mut guest = Guest::start(component("remote"), store).await;
            for (handle, lock) in shared.role.workload.locks.iter().enumerate() {
                let (name, protocol) = (&lock.name, &lock.protocol);
                guest
                    .ok(&format!("open {handle} /locks/{name} keep {protocol}"))
                    .await;
            }
            guest
        });
        Ok(Self {
            guest,
            runtime,
            held: 0,
        })
    }

    fn ask(&mut self, command: &str) -> Result<(), Failure> {
        /// A wait may take as long as the stage.
        const LONGEST: Duration = Duration::from_secs(24 * 3600);
        let reply = self.runtime.block_on(async {
            self.guest.tell(command).await;
            self.guest.reply_within(LONGEST).await
        });
        let reply = reply.unwrap_or_default();
        match reply.strip_prefix("err ") {
            None if reply.starts_with("ok") => Ok(()),
            Some("would-block") => Err(Failure::GaveUp(Why::WouldBlock)),
            Some("timeout") => Err(Failure::GaveUp(Why::Timeout)),
            Some(reason) if reason.starts_with("lost") => Err(Failure::Lost),
            _ => Err(Failure::Other(format!("{command}: {reply}"))),
        }
    }
}

impl Locker for Instance {
    fn adapt(&self, step: Step) -> Step {
        in_whole_milliseconds(step)
    }

    fn acquire(&mut self, step: &Step) -> Result<(), Failure> {
        let mode = match step.mode {
            Mode::Exclusive => "exclusive",
            Mode::Shared => "shared",
        };
        let limit = match step.patience {
            Patience::Limit(limit) => limit.as_millis().to_string(),
            Patience::Endless | Patience::Abandon(_) => "none".to_owned(),
        };
        self.held = step.lock;
        self.ask(&format!("acquire {} {mode} {limit}", step.lock))
    }

    fn is_lost(&mut self) -> bool {
        let (guest, held) = (&mut self.guest, self.held);
        let state = self
            .runtime
            .block_on(async { guest.ask(&format!("state {held}")).await });
        state.starts_with("ok lost")
    }

    fn release(&mut self, _: &Step) -> Result<(), Failure> {
        let held = self.held;
        self.ask(&format!("release {held}"))
    }
}
