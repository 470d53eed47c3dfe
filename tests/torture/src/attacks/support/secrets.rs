//! Texts that only the host may know, and whether a guest has seen one.

use std::fs;

/// Texts of the host that no guest may see.
#[derive(Debug)]
pub struct Secrets(Vec<String>);

/// Parts of messages and paths of the system.
const TEXTS: [&str; 14] = [
    "os error",
    "No such file",
    "Permission denied",
    "Operation not permitted",
    "Resource temporarily",
    "Too many",
    "Bad file",
    "Not a directory",
    "Is a directory",
    "File exists",
    "Invalid argument",
    "Invalid cross-device",
    "/proc/",
    "/dev/",
];

impl Secrets {
    /// Those of this host and process, and more.
    pub fn with(more: impl IntoIterator<Item = String>) -> Self {
        let mut secrets: Vec<String> = TEXTS.map(str::to_owned).into();
        secrets.push(std::process::id().to_string());
        secrets.push(std::env::temp_dir().display().to_string());
        let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        secrets.push(host.trim().to_owned());
        secrets.extend(user());
        secrets.extend(more);
        // Two characters may occur by chance.
        secrets.retain(|secret| secret.len() > 2);
        Self(secrets)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Those that occur in what a guest saw, and where.
    pub fn found_in(&self, seen: &[u8]) -> Vec<String> {
        let find = |secret: &String| {
            let bytes = secret.as_bytes();
            let at = seen
                .windows(bytes.len())
                .position(|window| window == bytes)?;
            let around = &seen[at.saturating_sub(20)..(at + bytes.len() + 20).min(seen.len())];
            Some(format!(
                "{secret:?} in {:?}",
                String::from_utf8_lossy(around)
            ))
        };
        self.0.iter().filter_map(find).collect()
    }
}

/// The name of the user who runs this, and the user's number as the system prints it.
fn user() -> Vec<String> {
    let id = rustix::process::getuid().as_raw().to_string();
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let line = users
        .lines()
        .find(|line| line.split(':').nth(2) == Some(&id));
    let name = line.and_then(|line| line.split(':').next());
    let name = name.map(str::to_owned);
    name.into_iter().chain([format!("uid={id}")]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_that_a_guest_saw_is_found() {
        let secrets = Secrets::with(["/srv/jobs".to_owned()]);
        assert!(secrets.found_in(b"\0\x01would-block guest").is_empty());
        let process = std::process::id().to_string();
        for told in [&*process, "/srv/jobs/a", "Permission denied (os error 13)"] {
            let seen = format!("\0\0{told}\0");
            assert!(!secrets.found_in(seen.as_bytes()).is_empty(), "{told}");
        }
    }
}
