//! A tenant: what all of its calls share.

use std::collections::BTreeMap;
use std::sync::Arc;

use locket::sandbox::{Directory, Tenant};
use locket::{Engine, Protocol};
use locket_wasmtime::LocketCtx;
use tokio::sync::Semaphore;
use wasmtime::Result;
use wasmtime::error::Context as _;

use super::config::TenantConfig;
use super::metrics::Metrics;

/// A tenant of the host.
#[derive(Debug)]
pub(crate) struct Customer {
    /// What its calls may lock, and how much of it together.
    pub(crate) locks: Tenant,
    /// The turns of its calls, which each takes before it gets an instance.
    pub(crate) turns: Semaphore,
    /// What its calls did with locks.
    pub(crate) metrics: Arc<Metrics>,
    /// The names of its directories.
    grants: Vec<String>,
}

impl Customer {
    /// Prepares a tenant. The directories are open already: all calls of all tenants share them.
    pub(crate) fn new(
        name: &str,
        config: &TenantConfig,
        directories: &BTreeMap<String, Directory>,
        locks: &Engine,
    ) -> Result<Self> {
        let metrics = Arc::new(Metrics::default());
        // One protocol, since holders of one file in two protocols need not exclude each other.
        let mut settings = LocketCtx::builder(locks)
            .label(name)
            .protocols([Protocol::Native])
            .limits(config.call_limits.clone())
            .hooks(Arc::clone(&metrics) as _);
        for (directory, rights) in &config.grants {
            let open = directories
                .get(directory)
                .with_context(|| format!("{name} is granted {directory}, which is not listed"))?;
            settings = settings.grant(open, directory, *rights)?;
        }
        let locks = Tenant::builder(settings).limits(config.limits.clone());
        Ok(Self {
            locks: locks.build(),
            turns: Semaphore::new(config.calls.try_into()?),
            metrics,
            grants: config.grants.keys().cloned().collect(),
        })
    }

    /// Ends what a guest of the tenant does with locks, for good: it loses those that it holds, its
    /// waits are canceled, and it gets no more. It runs on until it notices.
    pub(crate) fn expel(&self, guest: &LocketCtx) {
        for directory in &self.grants {
            guest.revoke_grant(directory);
        }
    }
}
