//! The file system of a directory, as the system lists it.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(not(target_os = "linux"))]
mod other;

#[cfg(not(target_os = "linux"))]
use serde::Deserialize;
use serde::Serialize;

#[cfg(target_os = "linux")]
pub(super) use self::linux::{Place, of};
#[cfg(not(target_os = "linux"))]
pub(super) use self::other::{Place, of};

/// What is mounted. Part of the documented JSON.
#[derive(Clone, Debug, Default, Serialize)]
#[cfg_attr(not(target_os = "linux"), derive(Deserialize))]
pub(super) struct Mount {
    /// As the system calls it, such as `ext4` or `fuse.sshfs`.
    #[serde(rename = "type")]
    pub(super) kind: String,
    /// The number that stands for the kind, with hexadecimal digits. None without an answer.
    pub(super) magic: Option<String>,
    pub(super) source: Option<String>,
    pub(super) mounted_at: Option<String>,
    /// Of the file system, not of the mount.
    pub(super) options: Vec<String>,
    /// Whether it is on a device of this host.
    #[serde(skip)]
    pub(super) on_device: bool,
}

impl Mount {
    /// Whether it has an option, which is given as `name` or `name=value`.
    pub(super) fn has(&self, option: &str) -> bool {
        self.options.iter().any(|one| one == option)
    }

    /// The value of an option.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        let value = |option: &&String| option.starts_with(&format!("{name}="));
        let option = self.options.iter().find(value)?;
        option.split_once('=').map(|(_, value)| value)
    }
}
