//! The answer, as JSON and in words.

use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};

use locket::Protocol;
use serde::Serialize;

use super::facts::Facts;
use super::mount::Mount;
use super::verdict::{Verdict, Worth, recommended};
use crate::output::{shell_word, shown_path};
use crate::paths;

/// What `locket check --json` prints, so a change here is one to its documented format.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) path: String,
    pub(super) path_bytes: Option<Vec<u8>>,
    pub(super) answers: bool,
    pub(super) file_system: Mount,
    pub(super) protocols: Vec<Verdict>,
    /// The name of one.
    pub(super) recommended: Option<&'static str>,
    pub(super) notes: Vec<String>,
    pub(super) tries: Facts,
    pub(super) left_behind: Option<String>,
}

impl Report {
    /// Of what was asked for: one protocol, or all.
    pub(super) fn new(dir: &Path, file_system: Mount, protocols: Vec<Verdict>) -> Self {
        let bytes = paths::bytes(dir);
        Self {
            path: dir.to_string_lossy().into_owned(),
            path_bytes: dir.to_str().is_none().then(|| bytes.to_owned()),
            answers: false,
            file_system,
            recommended: recommended(&protocols).map(|best| best.protocol.name()),
            protocols,
            notes: Vec::new(),
            tries: Facts::default(),
            left_behind: None,
        }
    }

    /// The verdict on the protocol that was asked for, or else on the default.
    pub(super) fn decisive(&self) -> &Verdict {
        let mut all = self.protocols.iter();
        let default = all.find(|verdict| verdict.protocol == Protocol::default());
        default.unwrap_or(&self.protocols[0])
    }

    fn best(&self) -> Option<&Verdict> {
        recommended(&self.protocols)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path_bytes.clone().and_then(paths::from_bytes);
        let path = path.unwrap_or_else(|| PathBuf::from(&self.path));
        let Mount {
            kind,
            source,
            mounted_at,
            options,
            ..
        } = &self.file_system;
        let shown = |text: &str| shell_word(OsStr::new(text)).into_owned();
        write!(f, "{}: {}", shown_path(&path), shown(kind))?;
        if let Some(source) = source {
            write!(f, ", {}", shown(source))?;
        }
        if let Some(point) = mounted_at {
            write!(f, " at {}", shown(point))?;
        }
        if !options.is_empty() {
            write!(f, " ({})", shown(&options.join(",")))?;
        }
        writeln!(f, "\n")?;

        writeln!(f, "{:<10}{:<18}why", "protocol", "verdict")?;
        for one in &self.protocols {
            let line = format!("{:<10}{:<18}", one.protocol.name(), one.verdict.name());
            match &one.why {
                Some(why) => writeln!(f, "{line}{why}")?,
                None => writeln!(f, "{}", line.trim_end())?,
            }
        }
        if !self.notes.is_empty() {
            writeln!(f)?;
        }
        for note in &self.notes {
            writeln!(f, "- {note}")?;
        }
        match self.best() {
            // Only that one was asked about.
            _ if self.protocols.len() == 1 => return Ok(()),
            Some(best) if best.verdict == Worth::Works && best.protocol == Protocol::default() => {
                write!(f, "\nUse the default protocol, {}.", best.protocol)
            }
            Some(best) if best.verdict == Worth::Works => {
                let default = self.decisive();
                let why = default.why.as_deref().unwrap_or_default();
                write!(
                    f,
                    "\nUse `--protocol {}`, and not the default, {}: {} ({why}).",
                    best.protocol,
                    default.protocol,
                    default.verdict.name(),
                )
            }
            Some(best) => write!(
                f,
                "\nUse `--protocol {}` for processes of this host alone. If processes of other hosts take \
                 part, use a directory of another file system.",
                best.protocol
            ),
            None => f.write_str("\nUse a directory of another file system."),
        }?;
        writeln!(f)
    }
}
