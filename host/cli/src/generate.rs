//! `locket completions` and `locket man`: what other programs need to know of the command line,
//! generated from its definitions.

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::Cli;
use crate::output::shown_path;

/// Print the completions of a shell.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  locket completions bash > /etc/bash_completion.d/locket
  locket completions zsh > ~/.zfunc/_locket
  locket completions fish > ~/.config/fish/completions/locket.fish")]
pub(crate) struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(self) -> anyhow::Result<u8> {
        // To standard output at once, it would panic if that is closed.
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut command(), "locket", &mut script);
        io::stdout().write_all(&script)?;
        Ok(0)
    }
}

/// Write the manual: a page for `locket`, and one for each of its commands.
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  locket man /usr/local/share/man/man1")]
pub(crate) struct Man {
    /// Existing directory for the pages
    dir: PathBuf,
}

impl Man {
    pub(crate) fn run(self) -> anyhow::Result<u8> {
        let written = clap_mangen::generate_to(command(), &self.dir);
        written.with_context(|| format!("cannot write to `{}`", shown_path(&self.dir)))?;
        Ok(0)
    }
}

/// The command line, without what the tool starts itself.
fn command() -> clap::Command {
    let full = Cli::command();
    let shown = full
        .get_subcommands()
        .filter(|command| !command.is_hide_set());
    let shown: Vec<_> = shown.cloned().collect();
    let mut command = clap::Command::new("locket")
        .version(env!("CARGO_PKG_VERSION"))
        .subcommand_required(true)
        .subcommands(shown);
    if let Some(about) = full.get_about() {
        command = command.about(about.clone());
    }
    if let Some(about) = full.get_long_about() {
        command = command.long_about(about.clone());
    }
    command
}
