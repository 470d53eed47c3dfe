//! A guest's directory, and files around it that are none of its business.

use std::fs;
use std::path::PathBuf;

use anyhow::Result;
use locket::Engine;
use locket_tests::harness::Host;

use super::canary::Canary;

/// The directory of a guest, and files beside it.
pub struct Enclosure {
    /// The host of the guest, with its directory.
    pub host: Host,
    /// The directory around the guest's.
    pub around: tempfile::TempDir,
}

impl Enclosure {
    /// Creates both.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub fn new() -> Result<Self> {
        let around = tempfile::tempdir()?;
        let host = Host {
            dir: tempfile::tempdir_in(&around)?,
            locks: Engine::new(),
        };
        let outside = around.path().join("outside");
        fs::create_dir_all(outside.join("deep"))?;
        fs::write(outside.join("there"), "outside")?;
        Ok(Self { host, around })
    }

    /// A path outside of the guest's directory.
    pub fn outside(&self, name: &str) -> PathBuf {
        self.around.path().join("outside").join(name)
    }

    /// Records everything that is not the guest's.
    pub fn canary(&self) -> Result<Canary> {
        Ok(Canary::of(self.around.path(), &[self.host.dir.path()])?)
    }
}
