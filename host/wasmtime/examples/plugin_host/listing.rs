//! Who holds and awaits what, for operators.

use std::collections::BTreeMap;
use std::fmt;

use locket::{ClientSnapshot, Snapshot};
use locket_wasmtime::LocketCtx;

use super::calls::Call;
use super::host::Host;

/// What a host does at one moment.
pub(crate) struct Listing {
    locks: Snapshot,
    calls: BTreeMap<u64, Call>,
}

impl Host {
    /// Lists what the host does. Touches no file and disturbs no call.
    pub(crate) fn list(&self) -> Listing {
        Listing {
            locks: self.locks.snapshot(),
            calls: self.calls.list(),
        }
    }
}

impl fmt::Display for Listing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for lock in &self.locks.locks {
            writeln!(f, "{}", lock.path.display())?;
            for holder in &lock.holders {
                let name = name(holder);
                let tag = holder.tag.as_deref().unwrap_or_default();
                writeln!(f, "  held {} by {name}, {tag}", holder.mode)?;
            }
            let mut waiters: BTreeMap<&str, usize> = BTreeMap::new();
            for waiter in &lock.waiters {
                *waiters.entry(name(waiter)).or_default() += 1;
            }
            for (name, count) in waiters {
                writeln!(f, "  awaited by {count} of {name}")?;
            }
        }
        let mut versions: BTreeMap<_, usize> = BTreeMap::new();
        for call in self.calls.values() {
            *versions.entry((call.version, &call.tenant)).or_default() += 1;
        }
        for ((version, tenant), count) in versions {
            writeln!(f, "plugin {version}: {count} calls of {tenant}")?;
        }
        // The oldest call is the one to look at.
        if let Some((number, call)) = self.calls.first_key_value() {
            let seconds = call.since.elapsed().as_secs_f64();
            write!(
                f,
                "oldest: call {number} of {}, {seconds:.1} s, ",
                call.tenant
            )?;
            writeln!(f, "{}", Claims(&call.guest))?;
        }
        Ok(())
    }
}

fn name(client: &ClientSnapshot) -> &str {
    client.label.as_deref().unwrap_or("this host")
}

/// What one guest holds and awaits.
struct Claims<'a>(&'a LocketCtx);

impl fmt::Display for Claims<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let holds = self.0.holds().into_iter().map(|claim| ("holds", claim));
        let waits = self.0.waits().into_iter().map(|claim| ("awaits", claim));
        let claims: Vec<_> = holds
            .chain(waits)
            .map(|(what, claim)| format!("{what} {}", claim.path))
            .collect();
        f.write_str(&claims.join(", "))
    }
}
