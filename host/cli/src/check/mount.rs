//! The file system of a directory, as the system lists it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context;
use procfs::process::{MountInfo, Process};
use serde::Serialize;

use super::keeper::Scratch;

/// What is mounted. Part of the documented JSON.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Mount {
    /// As in `/proc/self/mountinfo`, such as `ext4` or `fuse.sshfs`.
    #[serde(rename = "type")]
    pub(super) kind: String,
    /// The number that stands for the kind, with hexadecimal digits. None without an answer.
    pub(super) magic: Option<String>,
    pub(super) source: Option<String>,
    pub(super) mounted_at: Option<String>,
    /// Of the file system, not of the mount.
    pub(super) options: Vec<String>,
    /// Whether it is on a block device.
    #[serde(skip)]
    pub(super) on_device: bool,
}

impl Mount {
    /// That of a directory. Without `scratch`, the directory does not answer.
    pub(super) fn of(dir: &Path, scratch: Option<&Scratch>) -> anyhow::Result<Self> {
        let mounts = Process::myself().and_then(|process| process.mountinfo());
        let mounts = mounts.context("cannot read /proc/self/mountinfo")?;
        let dir = std::path::absolute(dir)?;
        let is_above =
            |mount: &MountInfo| dir.starts_with(unescaped(&mount.mount_point.to_string_lossy()));
        let mut mounts = mounts.into_iter();
        let found = match scratch.and_then(|scratch| scratch.mount) {
            Some(number) => mounts.find(|mount| u64::try_from(mount.mnt_id) == Ok(number)),
            // The last one hides the others.
            None => mounts
                .filter(is_above)
                .max_by_key(|mount| mount.mount_point.components().count()),
        };
        let unknown = || Self {
            kind: "unknown".into(),
            ..Self::default()
        };
        Ok(Self {
            magic: scratch.map(|scratch| format!("{:#x}", scratch.magic)),
            ..found.map_or_else(unknown, Self::from)
        })
    }

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

impl From<MountInfo> for Mount {
    fn from(mount: MountInfo) -> Self {
        let options: BTreeMap<_, _> = mount.super_options.into_iter().collect();
        let options = options.into_iter().map(|(name, value)| match value {
            Some(value) => format!("{name}={value}"),
            None => name,
        });
        let point = unescaped(&mount.mount_point.to_string_lossy());
        Self {
            kind: mount.fs_type,
            magic: None,
            source: mount.mount_source.map(|source| text(&unescaped(&source))),
            mounted_at: Some(text(&point)),
            options: options.collect(),
            on_device: !mount.majmin.starts_with("0:"),
        }
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// The system writes a blank as `\040`, and the like.
fn unescaped(text: &str) -> PathBuf {
    let mut parts = text.split('\\');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let code = part
            .get(..3)
            .and_then(|code| u8::from_str_radix(code, 8).ok());
        match code {
            Some(code) => {
                plain.push(char::from(code));
                plain.push_str(&part[3..]);
            }
            None => {
                plain.push('\\');
                plain.push_str(part);
            }
        }
    }
    plain.into()
}
