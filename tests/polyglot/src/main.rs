//! Builds the test guests, and talks to them.

use clap::{Parser, Subcommand};
use locket_tests::harness::Host;
use polyglot::host::{Guest, component};
use polyglot::languages::OTHERS;
use polyglot::{LANGUAGES, Language, bindings};
use std::fs;
use std::io::{self, BufRead as _};
use std::path::PathBuf;

type Result<T = (), E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

/// Builds the test guests, and talks to them.
#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Builds guests, where they are not built yet, and says where they are
    Build {
        /// [default: all of them]
        #[arg(value_parser = language())]
        languages: Vec<String>,
    },
    /// Starts a guest, and gives it the commands that it reads: see wit/world.wit
    Try {
        #[arg(value_parser = language(), required_unless_present = "component")]
        language: Option<String>,
        /// A component of your own instead
        #[arg(long, value_name = "FILE", conflicts_with = "language")]
        component: Option<PathBuf>,
    },
    /// Plugs the provider into a guest, and writes a component that needs no locks of its host
    Plug {
        #[arg(value_parser = language())]
        language: String,
        /// Where it goes
        #[arg(value_name = "FILE")]
        out: PathBuf,
    },
    /// Generates the bindings that are kept in the repository
    Bindings,
    /// Builds the component of `locket demo --sqlite`, which is kept in the repository
    Demo,
}

fn language() -> clap::builder::PossibleValuesParser {
    LANGUAGES
        .iter()
        .map(|language| language.name)
        .collect::<Vec<_>>()
        .into()
}

fn main() -> Result {
    match Args::parse().command {
        Command::Build { languages } => build(&languages),
        Command::Try {
            component: Some(path),
            ..
        } => talk(path),
        Command::Try { language, .. } => {
            let language = language.as_deref().and_then(Language::named);
            let built = language.expect("clap has checked it").built()?;
            talk(built.path)
        }
        Command::Plug { language, out } => {
            let language = Language::named(&language).expect("clap has checked it");
            Ok(fs::write(out, language.plugged()?)?)
        }
        Command::Demo => Ok(polyglot::sqlite::demo::build()?),
        Command::Bindings => Ok(bindings::write(bindings::generated()?)?),
    }
}

fn build(names: &[String]) -> Result {
    let asked = |language: &&Language| names.is_empty() || names.iter().any(|n| n == language.name);
    if Language::named("c").expect("C").is_ready() && names.is_empty() {
        polyglot::sqlite::prepare()?;
    }
    println!("language        bytes  seconds  component");
    for language in LANGUAGES.iter().chain(OTHERS).filter(asked) {
        if language.is_ready() {
            let built = language.built()?;
            // For the tests, which are stopped if they take long.
            component(&built.path)?;
            let bytes = fs::metadata(&built.path)?.len();
            let (name, seconds) = (language.name, built.time.as_secs_f64());
            println!(
                "{name:<14} {bytes:>6}  {seconds:>7.1}  {}",
                built.path.display()
            );
        }
    }
    Ok(())
}

#[tokio::main]
async fn talk(path: PathBuf) -> Result {
    let host = Host::new();
    fs::write(host.path("counter"), "0")?;
    eprintln!("/locks is {}", host.dir.path().display());
    let mut guest = Guest::start(&component(&path)?, &host).await?;
    for line in io::stdin().lock().lines() {
        println!("{}", guest.run(&line?).await?);
    }
    Ok(())
}
