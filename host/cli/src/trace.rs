//! `locket trace`: a picture of who held and awaited a lock when.
//!
//! What `locket status` tells again and again becomes a line of time for each process. The way is
//! `sampler` (looks, when `schedule` says), `sample` (what a look tells), `timeline` (what that means),
//! and from there `live`, `text`, `svg` and `events` show it.

mod axis;
mod events;
mod live;
mod output;
mod record;
mod sample;
mod sampler;
mod schedule;
mod svg;
mod text;
mod timeline;
mod until;

use std::ffi::OsString;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use self::live::Live;
use self::output::Output;
use self::record::Record;
use self::sampler::Sampler;
use self::svg::Svg;
use self::text::Picture;
use self::until::{End, Prepared, Until};
use crate::args::{ProtocolArgs, seconds};
use crate::exit::{self, ExitError};
use crate::output::eprint_line;
use crate::status::beside;

/// The columns of the picture where there is no terminal.
const COLUMNS: usize = 100;

/// How long the last look may take.
const LAST_LOOK: Duration = Duration::from_millis(100);

const PROTOCOL: &str = "\
Watch only locks of this protocol [default: all kernel locks, every existence lock that is \
recognizable as a lock of PATH, and the row in --database]";

/// Show who held and awaited a lock when.
///
/// Looks at the locks as `locket status` does, acquires none and creates no lock file, until it is
/// interrupted, or for as long as COMMAND runs. Then prints for each path a table of the processes,
/// and a line of time for each of them.
///
/// The kernel tells nothing of locks that come and go, so this looks every 10 milliseconds, or
/// --interval. What is shorter can be missed, and each time may be wrong by one interval. After a
/// change in the directory of a lock, such as existence locks make, it looks at once. A look takes a
/// fraction of a millisecond of a processor, but longer if all processes have to be searched: for a
/// lock that belongs to none of them, for a waiter that the kernel does not name, as with `--protocol
/// fcntl`, and in a container. Looks never take more than half of the time: then there are fewer, and
/// the picture tells how many were late.
///
/// Never seen: in a container, who holds or awaits a `flock` lock outside of it; on a file system of
/// several hosts, such as NFS, or of another program (FUSE), holders that this kernel does not know;
/// who awaits an existence lock. A file that may be no lock (`perhaps held` in `locket status`)
/// counts only with --protocol.
#[derive(Args, Debug)]
#[command(
    override_usage = "locket trace [OPTIONS] PATH... [-- COMMAND [ARG]...]",
    after_help = "\
Examples:
  locket trace app.lock                         until Ctrl-C
  locket trace --for 60 --svg app.svg app.lock  for a minute, and as a picture for browsers
  locket trace app.lock -- make -j4             for as long as the command runs
  locket trace --json app.lock | jq 'select(.state == \"held\") | .pid'

Picture: a line for each process and path. █ held exclusively, ▒ shared, ┄ waiting, ? not looked at
  for more than 10 intervals, for example because the file system does not answer. A character is
  what takes most of its time, and empty only if nothing was seen. `held` and `waits` are how many
  times, and `in all` is how long. A process that holds and waits at once counts as holding. All
  holders that cannot be told have one line, and all such waiters another one.

JSON: an object on a line for each change. Every field is always there, and null if it is not known:
  time        when it was seen, in seconds since the start
  path        as given; if it is not UTF-8, with U+FFFD in it, and path_bytes has its bytes
  path_bytes  an array of numbers, or null if path is exact
  pid         null if it cannot be told
  elsewhere   whether the process is in another container or on another host, where its pid is
              another's
  command     the command line, with the words as a shell takes them
  state       \"held\", \"waits\", or \"gone\" if the process does neither any more
  mode        \"exclusive\" or \"shared\"; null if it is gone
  protocol    null if it is gone
  What ends comes before what begins at that time. COMMAND may print on the same stream: use -o.

Exit status: that of COMMAND, as with `locket exec`; 0, 64 invalid usage, 66 if a path cannot be
  examined or does not answer, or if a FILE cannot be created, or 71 if the system fails",
    mut_arg("protocol", |arg| arg.help(PROTOCOL))
)]
pub(crate) struct Trace {
    /// Also write the picture to FILE, as SVG
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,

    /// Print each change at once, as JSON, and no picture
    #[arg(long)]
    json: bool,

    /// Print to FILE [default: standard output, or with COMMAND standard error]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// End after SECONDS, for example 60
    #[arg(long = "for", value_name = "SECONDS", value_parser = seconds, conflicts_with = "command")]
    duration: Option<Duration>,

    /// Look every MS milliseconds
    #[arg(long, value_name = "MS", default_value_t = 10)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=60_000))]
    interval: u64,

    /// Report on standard error what the looks cost
    #[arg(short, long)]
    verbose: bool,

    #[command(flatten)]
    locking: ProtocolArgs,

    /// Lock files, for example app.lock
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,

    /// Command to run, and its arguments, for example `-- make -j4`
    #[arg(last = true)]
    command: Vec<OsString>,
}

impl Trace {
    pub(crate) fn run(self) -> anyhow::Result<u8> {
        let interval = Duration::from_millis(self.interval);
        let mut record = Record::new(&self.paths, interval, self.json);
        let until = Prepared::new(&self.command, self.duration)?;
        let mut sampler = Sampler::new(&self.paths, &self.locking, interval)?;
        let add = &mut |path, time, answer| record.add_first(path, time, answer);
        sampler.start(until.as_fd(), add)?;
        // A pipe may have no reader yet.
        let mut outputs = until.interruptibly(|| self.outputs(&record))??;
        record.report_unanswered();
        let mut until = until.start()?;
        let followed = self.follow(&mut sampler, &mut record, &mut outputs.text, &mut until);
        let (end, traced) = match followed {
            Ok(end) => {
                let add = &mut |path, time, answer| record.add(path, time, answer);
                (Ok(end), sampler.look(LAST_LOOK, add))
            }
            Err(e) => (until.outlast(), Err(e)),
        };
        // What was seen counts, whatever went wrong then.
        record.timeline.end(sampler.time());
        let shown = self.show(&sampler, &mut record, outputs);
        let result = traced.and(shown).map(|()| record.code());
        match end {
            Ok(end) => end.code(result),
            // The first error says why the trace ended.
            Err(e) => Err(result.err().unwrap_or(e)),
        }
    }

    /// Looks until it is time to end.
    fn follow(
        &self,
        sampler: &mut Sampler<'_>,
        record: &mut Record,
        text: &mut Output,
        until: &mut Until,
    ) -> anyhow::Result<End> {
        // A command may print there, too.
        let is_alone = self.command.is_empty() && !self.json;
        let mut live = is_alone.then(|| Live::new(columns()));
        loop {
            text.add(record.take_lines());
            if let Some(end) = until.look()? {
                return Ok(end);
            }
            // A reader that does not read delays the next look, and no signal.
            if !text.is_written() {
                text.write_some(until)?;
                continue;
            }
            let add = &mut |path, time, answer| record.add(path, time, answer);
            sampler.step(until.time(), Some(until.as_fd()), add)?;
            if let Some(live) = &mut live {
                live.draw(&record.timeline, sampler.time());
            }
        }
    }

    /// Shows what was seen, each picture even if the other one cannot be written.
    fn show(
        &self,
        sampler: &Sampler<'_>,
        record: &mut Record,
        mut outputs: Outputs,
    ) -> anyhow::Result<()> {
        let (lines, notes) = (record.take_lines(), record.notes());
        let (timeline, notes) = (&record.timeline, &notes);
        let drawn = match &mut outputs.svg {
            Some(svg) => svg.print(Svg { timeline, notes }),
            None => Ok(()),
        };
        let width = columns();
        let printed = outputs.text.print(match self.json {
            true => lines,
            false => format!("{}{}\n", Picture { timeline, width }, notes.join("\n")),
        });
        if self.verbose {
            let (cost, length) = (sampler.cost(), timeline.length);
            let share = 100. * cost.as_secs_f64() / length.as_secs_f64().max(f64::MIN_POSITIVE);
            let times = [cost, length].map(text::short);
            eprint_line(format_args!(
                "the looks took {} of a processor in {}: {share:.1} %",
                times[0], times[1]
            ));
        }
        drawn.and(printed)
    }

    /// Made before the trace begins, since it would be lost if that fails at its end, and after the
    /// first looks: a path that has not answered them may not answer now what file it is.
    fn outputs(&self, record: &Record) -> Result<Outputs, ExitError> {
        let answered = record.answered();
        let locks = answered.flat_map(|path| [path.clone(), beside(path)]);
        let locks: Vec<_> = locks.chain(self.locking.database.clone()).collect();
        let text = match &self.output {
            Some(path) => Output::create(path, &locks)?,
            None => {
                let stream = match self.command.is_empty() {
                    true => Output::stdout(),
                    false => Output::stderr(),
                };
                stream.map_err(|e| ExitError::new(exit::SYSTEM, e))?
            }
        };
        let taken: Vec<_> = locks.into_iter().chain(self.output.clone()).collect();
        let svg = self.svg.as_ref().map(|path| Output::create(path, &taken));
        Ok(Outputs {
            text,
            svg: svg.transpose()?,
        })
    }
}

/// Where a trace is shown.
struct Outputs {
    text: Output,
    svg: Option<Output>,
}

/// The width of the terminal.
fn columns() -> usize {
    terminal_size::terminal_size().map_or(COLUMNS, |(width, _)| width.0.into())
}
