//! The names by which markers tell their holders: ours, and those of pylockfile.

use std::ffi::{OsStr, OsString};
use std::sync::atomic::{AtomicU32, Ordering};

use super::{Host, OwnerRecord, Start, host_name};
use crate::sys;

impl OwnerRecord {
    /// The name that pylockfile would give to a file of this process, in a form that only Locket
    /// uses: the number, a hash in pylockfile, begins with a zero here. No peer reads it.
    ///
    /// `host.pid-0` and then, as decimal digits of fixed width, the boot, the namespace and
    /// a number that no other name of this process has; then the ticks, and at last `-` and the
    /// promise, if there is one.
    pub(in crate::backend) fn unique_name(&self) -> OsString {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let (host, namespace) = match &self.host {
            Host::Named(host, namespace) => (host.clone(), namespace.unwrap_or_default()),
            Host::Local | Host::Nowhere => (OsString::new(), 0),
        };
        let Start { boot, ticks } = self.start.unwrap_or(Start { boot: 0, ticks: 0 });
        let (pid, next) = (self.pid, NEXT.fetch_add(1, Ordering::Relaxed));
        // A host name may contain `/`; a file name cannot.
        let host = host.into_encoded_bytes().into_iter();
        let host = host.map(|byte| if byte == b'/' { b'_' } else { byte });
        let mut name = sys::os_string(host.collect());
        name.push(format!(
            ".{pid}-0{boot:039}{namespace:010}{next:010}{ticks}"
        ));
        if let Some(promise) = self.promise {
            name.push(format!("-{promise}"));
        }
        name
    }

    /// Parses a [`unique_name`](Self::unique_name).
    pub(in crate::backend) fn of_own_name(name: &OsStr) -> Option<Self> {
        let claim = Self::of_name(name)?;
        matches!(claim.host, Host::Named(_, Some(_))).then_some(claim)
    }

    /// Parses a [`unique_name`](Self::unique_name), or one of pylockfile's if the end of the
    /// process number is unambiguous.
    pub(in crate::backend) fn of_name(name: &OsStr) -> Option<Self> {
        let name = name.as_encoded_bytes();
        let dot = name.iter().rposition(|b| *b == b'.')?;
        let (host, rest) = (&name[..dot], std::str::from_utf8(&name[dot + 1..]).ok()?);
        let (pid, number) = rest.split_once('-')?;
        let pid = parse_pid(pid)?;
        let (number, promise) = match number.split_once('-') {
            Some((number, promise)) => (number, Some(parse_promise(promise)?)),
            None => (number, None),
        };
        let digits = |range| {
            let digits: &str = number.get(range)?;
            let plain = digits.bytes().all(|b| b.is_ascii_digit());
            plain.then_some(digits)
        };
        let ours = number.starts_with('0') && number.len() > 60;
        let (namespace, start) = if ours {
            let boot = digits(1..40)?.parse().ok()?;
            let namespace = digits(40..50)?.parse().ok()?;
            digits(50..60)?;
            let ticks = digits(60..number.len())?.parse().ok()?;
            let start = Start { boot, ticks };
            (Some(namespace), (ticks != 0).then_some(start))
        } else {
            // A truncated name of ours looks like this, except for its beginning.
            let hash = digits(0..number.len())?;
            if promise.is_some() || hash.is_empty() || hash.starts_with('0') && hash != "0" {
                return None;
            }
            (None, None)
        };
        let is_thread = |id: &[u8]| !id.is_empty() && id.iter().all(u8::is_ascii_hexdigit);
        // A thread identifier may follow the host, and host names can look like one.
        let me = host_name();
        let thread = host
            .strip_prefix(me.as_encoded_bytes())
            .and_then(|rest| rest.strip_prefix(b"-"));
        let host = match thread {
            Some(thread) if !ours && is_thread(thread) => Host::Local,
            _ => Host::Named(sys::os_string(host.to_vec()), namespace),
        };
        Some(Self {
            pid,
            host,
            start,
            promise,
        })
    }
}

impl OwnerRecord {
    /// Parses a name that has only the host and the number.
    pub(in crate::backend) fn of_plain_name(name: &OsStr) -> Option<Self> {
        let (host, pid) = name.to_str()?.rsplit_once('.')?;
        Some(Self {
            pid: parse_pid(pid)?,
            host: Host::Named(host.into(), None),
            start: None,
            promise: None,
        })
    }
}

fn parse_promise(text: &str) -> Option<u64> {
    let plain = text.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

/// Parses a process number: decimal, positive, in the range that systems use.
pub(in crate::backend) fn parse_pid(text: &str) -> Option<u32> {
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let pid: u32 = plain.then(|| text.parse().ok()).flatten()?;
    (1..=i32::MAX.unsigned_abs()).contains(&pid).then_some(pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_pylockfile_are_read_as_far_as_they_can_be() {
        let pid_of = |name: &str| OwnerRecord::of_name(OsStr::new(name)).map(|claim| claim.pid);
        assert_eq!(pid_of("vm.14277-1299480933727220916"), Some(14277));
        assert_eq!(pid_of("vm-5bbccb80.14277-1299480933727220916"), Some(14277));
        for unclear in [
            "vm-5bbccb80.142774976789965273491598",
            "vm.14277-",
            "vm.14277-0123",
            "vm.0-1",
            "vm.-1-1",
            "vm.4294967296-1",
            "vm",
            "",
        ] {
            assert_eq!(pid_of(unclear), None, "{unclear}");
        }
    }
}
