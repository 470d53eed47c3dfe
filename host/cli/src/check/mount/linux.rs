//! What Linux lists of mounts.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context;
use procfs::process::{MountInfo, Process};
use rustix::fs::{AtFlags, CWD, StatxFlags, statfs, statx};
use serde::{Deserialize, Serialize};

use super::Mount;

/// Where a directory is.
#[derive(Debug, Deserialize, Serialize)]
pub(in super::super) struct Place {
    /// The number that the system gives to the mount, if it tells.
    mount: Option<u64>,
    /// The number that stands for the kind of file system.
    magic: u64,
}

impl Place {
    /// Takes as long as the file system takes to answer.
    pub(in super::super) fn of(dir: &Path) -> io::Result<Self> {
        let known = statx(CWD, dir, AtFlags::empty(), StatxFlags::MNT_ID)?;
        let told = StatxFlags::from_bits_retain(known.stx_mask).contains(StatxFlags::MNT_ID);
        Ok(Self {
            mount: told.then_some(known.stx_mnt_id),
            magic: statfs(dir)?.f_type.cast_unsigned(),
        })
    }
}

/// The mount of a directory. Without its place, the directory does not answer.
pub(in super::super) fn of(dir: &Path, place: Option<Place>) -> anyhow::Result<Mount> {
    let mounts = Process::myself().and_then(|process| process.mountinfo());
    let mounts = mounts.context("cannot read /proc/self/mountinfo")?;
    let dir = std::path::absolute(dir)?;
    let is_above =
        |mount: &MountInfo| dir.starts_with(unescaped(&mount.mount_point.to_string_lossy()));
    let mut mounts = mounts.into_iter();
    let found = match place.as_ref().and_then(|place| place.mount) {
        Some(number) => mounts.find(|mount| u64::try_from(mount.mnt_id) == Ok(number)),
        // The last one hides the others.
        None => mounts
            .filter(is_above)
            .max_by_key(|mount| mount.mount_point.components().count()),
    };
    let unknown = || Mount {
        kind: "unknown".into(),
        ..Mount::default()
    };
    Ok(Mount {
        magic: place.map(|place| format!("{:#x}", place.magic)),
        ..found.map_or_else(unknown, Mount::from)
    })
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
