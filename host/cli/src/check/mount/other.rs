//! What macOS and Windows tell of the file system of a directory, once that answers.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Mount;

/// Where a directory is.
#[derive(Debug, Deserialize, Serialize)]
pub(in super::super) struct Place {
    mount: Mount,
    on_device: bool,
}

impl Place {
    /// Takes as long as the file system takes to answer.
    #[cfg(target_os = "macos")]
    pub(in super::super) fn of(dir: &Path) -> io::Result<Self> {
        use nix::libc::MNT_LOCAL;
        let system = rustix::fs::statfs(dir)?;
        let text = |name: &[std::ffi::c_char]| {
            let bytes = name.iter().map(|byte| byte.cast_unsigned());
            let bytes: Vec<_> = bytes.take_while(|byte| *byte != 0).collect();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        Ok(Self {
            mount: Mount {
                kind: text(&system.f_fstypename),
                magic: Some(format!("{:#x}", system.f_type)),
                source: Some(text(&system.f_mntfromname)),
                mounted_at: Some(text(&system.f_mntonname)),
                ..Mount::default()
            },
            on_device: system.f_flags & MNT_LOCAL.cast_unsigned() != 0,
        })
    }

    /// Takes as long as the file system takes to answer.
    #[cfg(windows)]
    pub(in super::super) fn of(dir: &Path) -> io::Result<Self> {
        let volume = crate::sys::Volume::of(dir)?;
        // A server tells its own file system.
        let kind = match volume.is_remote {
            true => format!("smb of {}", volume.kind),
            false => volume.kind,
        };
        Ok(Self {
            mount: Mount {
                kind,
                mounted_at: Some(volume.mounted_at),
                ..Mount::default()
            },
            on_device: !volume.is_remote,
        })
    }
}

/// The mount of a directory. Without its place, the directory does not answer.
#[expect(clippy::unnecessary_wraps, reason = "other systems can fail")]
pub(in super::super) fn of(_: &Path, place: Option<Place>) -> anyhow::Result<Mount> {
    let unknown = || Mount {
        kind: "unknown".into(),
        ..Mount::default()
    };
    Ok(place.map_or_else(unknown, |place| Mount {
        on_device: place.on_device,
        ..place.mount
    }))
}
