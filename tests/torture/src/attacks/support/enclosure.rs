//! A guest's directory, and files around it that are none of its business.

use std::fs;
use std::path::PathBuf;

use anyhow::Result;
use locket::Engine;
use locket_tests::harness::Host;

use super::canary::Canary;

/// Where the guest has a directory from which links lead out, and what lies beside it.
pub struct Enclosure {
    /// Of the guest.
    pub host: Host,
    /// Around the guest's directory: all but that is none of its business.
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

    /// What is there that is not the guest's.
    pub fn canary(&self) -> Result<Canary> {
        Ok(Canary::of(self.around.path(), &[self.host.dir.path()])?)
    }
}
