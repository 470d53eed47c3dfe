//! `locket completions` and `locket man`: what other programs need to know of the command line,
//! generated from its definitions.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::Cli;
use crate::exit::{self, ExitError};
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
  locket man /usr/local/share/man/man1

Exit status: 0, 64 invalid usage, 66 the pages cannot be written to DIR")]
pub(crate) struct Man {
    /// Existing directory for the pages
    dir: PathBuf,
}

impl Man {
    pub(crate) fn run(self) -> anyhow::Result<u8> {
        let mut command = command().disable_help_subcommand(true);
        command.build();
        write_pages(&command, &self.dir).map_err(|e| {
            let message = format_args!("cannot write to `{}`: {e}", shown_path(&self.dir));
            ExitError::new(exit::NO_INPUT, message)
        })?;
        Ok(0)
    }
}

/// Writes the pages of a command and of its subcommands.
fn write_pages(command: &clap::Command, dir: &Path) -> io::Result<()> {
    for command in command.get_subcommands() {
        write_pages(command, dir)?;
    }
    let man = clap_mangen::Man::new(command.clone());
    let mut page = Vec::new();
    man.render(&mut page)?;
    // Examples and tables are lines, which must not be filled as a paragraph is.
    let page = String::from_utf8_lossy(&page).replace(".SH EXTRA\n", ".SH NOTES\n.nf\n");
    fs::write(dir.join(man.get_filename()), page)
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
