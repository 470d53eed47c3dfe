//! Programs in C for any Unix, which are components as they are.

use anyhow::Result;
use locket_tests::process::tool;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::languages::c::{native_program, program};
use crate::{Language, component, root};

/// A program in both forms.
#[derive(Debug)]
pub struct Program {
    built: tempfile::TempDir,
}

impl Program {
    /// Builds it; `flags` are those that the component needs. None where there is no compiler.
    ///
    /// # Errors
    ///
    /// Where it does not build.
    pub fn build(source: &str, flags: &[&str]) -> Result<Option<Self>> {
        if !Language::named("c").is_some_and(Language::is_ready) {
            return Ok(None);
        }
        let source = root().join(source);
        let this = Self {
            built: tempfile::tempdir()?,
        };
        program(&source, &this.component(), flags)?;
        native_program(&source, &this.native())?;
        Ok(Some(this))
    }

    fn component(&self) -> PathBuf {
        self.built.path().join("program.wasm")
    }

    fn native(&self) -> PathBuf {
        self.built.path().join("program")
    }

    /// Plugs the provider into the component, which then needs no locks of its host.
    ///
    /// # Errors
    ///
    /// Where the provider does not build.
    pub fn plug_provider(&self) -> Result<()> {
        let provider = std::fs::read(crate::PROVIDER.built()?.path)?;
        let component = std::fs::read(self.component())?;
        let plugged = component::plug(component, provider)?;
        Ok(std::fs::write(self.component(), plugged)?)
    }

    /// The component, with a path below `dir` as its argument; `options` are those of the tool.
    pub fn guest(&self, dir: &Path, below: &str, options: &[&str]) -> Command {
        let mut component = Command::new(tool());
        component
            .arg("run")
            .args(options)
            .arg("--dir")
            .arg(format!("{}::/run", dir.display()))
            .arg(self.component())
            .arg(format!("/run/{below}"));
        component
    }

    /// The program with a path below `dir` as its argument: as a component, then native.
    pub fn both(&self, dir: &Path, below: &str) -> [Command; 2] {
        let mut native = Command::new(self.native());
        native.arg(dir.join(below));
        [self.guest(dir, below, &[]), native]
    }
}
