//! `locket check`: tries out what a directory promises to those who lock in it.
//!
//! Any call there may hang. So pairs of processes make the calls, step by step as this one tells
//! them, and it leaves alone those that do not answer. No try depends on another, so each pair has a
//! thread of its own, and what hangs takes the time of one answer.

mod actor;
mod differences;
mod facts;
mod keeper;
#[cfg(not(target_os = "linux"))]
mod lines;
mod locks;
mod meaning;
mod mount;
mod names;
mod protocols;
mod report;
mod step;
mod verdict;
mod worker;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread;

use clap::Args;
use locket::Protocol;

use self::differences::differences;
use self::facts::{Facts, ProtocolFacts};
use self::keeper::Keeper;
use self::meaning::Meaning;
use self::report::Report;
use self::verdict::{Verdict, Worth};
pub(crate) use self::worker::CheckWorker;
use crate::args;
use crate::exit;
use crate::output::{eprint_line, shown_path};

/// Try out whether locks in a directory exclude every process that they should.
///
/// Two processes lock, link, rename and write files in a new directory in DIR, which is removed
/// again. What does not answer within 4 seconds hangs, and is left alone. What two processes cannot
/// find out, such as whether other hosts see a lock, is concluded from the kind of file system and
/// its mount options.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  locket check /mnt/share
  locket check --protocol link /mnt/share || exit
  locket check --json . | jq -r .recommended

Verdicts:
  works             the lock excludes all who can reach the file
  this host only    it excludes processes of this host, and no others, or that is not known
  does not exclude  two have it at once, or may
  not supported     the system refuses it
  hangs             a try has no answer, or a waiter does not get the lock

JSON: an object. Every field is always there, and null if it is not known:
  path, path_bytes  as in `locket status --help`
  answers           whether the directory answers at all
  file_system       type, magic, source, mounted_at, options, as the system lists them
  protocols         for each, or for the one of --protocol: protocol, verdict (the words above, with
                    hyphens), why, and tries, which has an outcome for each of acquired, exclusive,
                    excludes_flock, excludes_record, shared, granted, granted_after_kill
  recommended       the name of the best of these protocols; null if none excludes anyone
  notes             sentences: what the options mean, and what is not as on a local file system
  tries             outcomes of flock and record (exclusive, shared, descriptions, read_only,
                    directory, removed, ranges, excludes_other_family, granted,
                    granted_after_kill, interrupted) and names (new_file, new_directory,
                    new_symlink, new_link, link_count, nameless_file, rename_new, exchange,
                    same_when_opened, same_when_renamed, same_for_others, attributes,
                    told_of_creation, told_of_removal, read_at_once)
  left_behind       the directory that could not be removed
  An outcome is \"yes\", \"no\", \"no-answer\", \"not-tried\" or {\"failed\": WHY}.

Exit status:
  0 the default protocol, or that of --protocol, works; 1 it does not, or only on this host;
  66 no files can be created in DIR; 69 it is not supported or hangs, and no other is recommended;
  71 the system fails")]
pub(crate) struct Check {
    /// Print JSON, for example for jq
    #[arg(long)]
    json: bool,

    /// Judge this protocol alone
    #[arg(long, value_name = "PROTOCOL", value_parser = args::protocol())]
    protocol: Option<Protocol>,

    /// Directory, for example /mnt/share
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

impl Check {
    pub(crate) fn run(self) -> anyhow::Result<u8> {
        let report = self.report()?;
        let mut out = io::stdout().lock();
        match self.json {
            true => writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?,
            false => write!(out, "{report}")?,
        }
        out.flush()?;
        Ok(match report.decisive().verdict {
            Worth::Works => 0,
            Worth::NotSupported | Worth::Hangs if report.recommended.is_none() => exit::UNAVAILABLE,
            _ => exit::FAILURE,
        })
    }

    fn report(&self) -> anyhow::Result<Report> {
        let asked = match &self.protocol {
            Some(protocol) => std::slice::from_ref(protocol),
            None => Protocol::ALL,
        };
        let Some((keeper, scratch)) = Keeper::start(&self.dir)? else {
            let verdicts = asked.iter().map(|protocol| Verdict::hangs(*protocol));
            let mount = mount::of(&self.dir, None)?;
            return Ok(Report::new(&self.dir, mount, verdicts.collect()));
        };
        let mount = mount::of(&self.dir, Some(scratch.place))?;
        let meaning = Meaning::of(&mount);
        let (facts, tries) = try_out(keeper.path(), asked)?;
        let left_behind = keeper.end();
        if let Some((path, why)) = &left_behind {
            let path = shown_path(path);
            eprint_line(format_args!(
                "cannot remove `{path}`: {why}; remove it by hand"
            ));
        }
        let verdicts = asked.iter().zip(tries);
        let verdicts =
            verdicts.map(|(protocol, tries)| Verdict::of(*protocol, tries, &facts, &meaning));
        let mut report = Report::new(&self.dir, mount, verdicts.collect());
        report.answers = true;
        report.notes = meaning
            .notes
            .iter()
            .map(|note| (*note).to_owned())
            .collect();
        report.notes.extend(differences(&facts));
        report.tries = facts;
        report.left_behind = left_behind.map(|(path, _)| path.to_string_lossy().into_owned());
        Ok(report)
    }
}

/// All tries, at once.
fn try_out(scratch: &Path, asked: &[Protocol]) -> anyhow::Result<(Facts, Vec<ProtocolFacts>)> {
    thread::scope(|scope| {
        let flock = scope.spawn(|| locks::flock(scratch));
        let record = scope.spawn(|| locks::record(scratch));
        let names = scope.spawn(|| names::names(scratch));
        let tries = asked.iter();
        let tries = tries.map(|protocol| scope.spawn(|| protocols::protocol(scratch, *protocol)));
        let tries: Vec<_> = tries.collect();
        let facts = Facts {
            flock: joined(flock)?,
            record: joined(record)?,
            names: joined(names)?,
        };
        Ok((
            facts,
            tries.into_iter().map(joined).collect::<Result<_, _>>()?,
        ))
    })
}

fn joined<T>(thread: thread::ScopedJoinHandle<'_, anyhow::Result<T>>) -> anyhow::Result<T> {
    let result = thread.join();
    result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
