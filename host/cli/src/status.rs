//! `locket status`: shows the holders of a lock without acquiring it.
//!
//! `/proc` lists the holders of kernel locks. An existence lock itself records its holder, as far
//! as its protocol has room for that.

#[cfg(target_os = "linux")]
pub(crate) mod changes;
#[cfg(not(target_os = "linux"))]
#[path = "status/no_changes.rs"]
mod changes;
mod examine;
#[cfg(target_os = "linux")]
mod proc_locks;
#[cfg(target_os = "linux")]
mod process;
#[cfg(not(target_os = "linux"))]
#[path = "status/process_other.rs"]
mod process;
#[cfg(target_os = "linux")]
mod record_locks;
pub(crate) mod report;
#[cfg(target_os = "linux")]
#[path = "status/linux.rs"]
mod system;
#[cfg(not(target_os = "linux"))]
#[path = "status/other.rs"]
mod system;
mod text;
#[cfg(target_os = "linux")]
mod unnamed_waiters;
mod watch;
pub(crate) mod worker;

use std::fmt::Display;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use clap::Args;
use humantime::format_rfc3339_millis;
use serde::Serialize;

#[cfg(target_os = "linux")]
pub(crate) use self::examine::beside;
#[cfg(target_os = "linux")]
pub(crate) use self::proc_locks::{FileNumber, KernelLock};
#[cfg(target_os = "linux")]
pub(crate) use self::process::command_of;
use self::report::{Report, Unknown};
pub(crate) use self::worker::StatusWorker;
use self::worker::{Answer, PATIENCE, Worker};
use crate::args::ProtocolArgs;
use crate::exit;
use crate::output::{eprint_line, shown_path};
#[cfg(feature = "remote")]
use crate::remote::{self, RemoteArgs};

const PROTOCOL: &str = "\
Show only locks of this protocol [default: all kernel locks, every existence lock that is \
recognizable as a lock of PATH, and the row in --database]";

/// Show who holds a lock.
///
/// Acquires no lock and creates no file, so it never disturbs other programs. The answer may be
/// outdated by the time you read it: to act on it, acquire the lock. Unless you are root, processes
/// of other users may stay unnamed.
///
/// The answer is `free` only if the kernel of this host would know a holder. It is `unknown` if no
/// holder is found in a container, from which `flock` locks of processes outside cannot be seen, or
/// on a file system that other hosts may use; and for a path that has not answered for 5 seconds. It
/// is `perhaps held` if there is a file that is a lock only for programs that use it as one: PATH.lock
/// without a record of its holder, or PATH with nothing but the number of a living process. Locks in
/// a database are seen only with --database.
#[derive(Args, Debug)]
#[command(
    after_help = "\
Examples:
  locket status app.lock
  locket status --json /var/lock/*.lock | jq '.[] | select(.held != false) | .path'
  locket status --protocol pid-file app.pid
  locket status --watch app.lock

Output: one line for each path, as soon as it is known: PATH, a colon, a space, the answer. PATH
  and each word of a command are written as they are, or as $'…' with the escapes of shells if
  they contain control characters or are not UTF-8, and PATH also if it contains a colon and a
  space. With --watch, a line begins with the time, in UTC as in RFC 3339, and a space.

JSON: an object for one path, an array of them for several, and with --watch an object on a line
  for each change. Every field is always there, and null if it is not known:
  time          only with --watch: when the change was seen, in UTC as in RFC 3339
  path          as given; if it is not UTF-8, with U+FFFD in it, and path_bytes has its bytes
  path_bytes    an array of numbers, or null if path is exact
  exists        whether there is a file
  held          true, false, or null if that cannot be known, for the reason that unknown has
  unknown       null, \"outside-container\", \"other-hosts\", \"may-be-no-lock\" or \"no-answer\"; on
                macOS and Windows \"not-told\": the holders are those that have the file open, one of
                which holds it, on Windows perhaps
  removable     null; for a free lock that a dead holder left behind, whether this user may
                remove it, without which it cannot be taken over
  mode          \"exclusive\" or \"shared\", the stronger one of all holders; null without holders
  holders       for each process and protocol:
    pid, command, stopped, started
                the process, null if it cannot be told or, except for pid, is elsewhere; command as
                in the lines; whether it is stopped; when it started, in seconds since 1970
    protocol, mode
    ranges      the bytes that it has locked: mode, from, and to, the last byte, null for the end of
                the file; empty for the whole file
    acquired_by the pid of the process from which it has the lock, if there is one
    since       when it acquired an existence lock, in seconds since 1970; null for kernel locks
    host        the host that an existence lock names
    elsewhere   whether it is in another container or on another host, where its pid is another's
  waiters       who waits in the kernel: pid, command, stopped, started, protocol, mode

Exit status: 0, 64 invalid usage, 66 if a path cannot be examined or does not answer, 69 if the server
  is away or refuses the user, 71 if the system fails",
    mut_arg("protocol", |arg| arg.help(PROTOCOL))
)]
pub(crate) struct Status {
    /// Print JSON, for example for jq
    #[arg(long)]
    json: bool,

    /// Print the answers, and then each change, until interrupted; of files alone
    ///
    /// Looks five times a second, and at once if a file comes, goes or is closed after writing. What
    /// is shorter may be missed.
    #[arg(long)]
    watch: bool,

    #[command(flatten)]
    locking: ProtocolArgs,

    #[cfg(feature = "remote")]
    #[command(flatten)]
    remote: RemoteArgs,

    /// Lock files, for example app.lock
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
}

/// What `--watch --json` prints.
#[derive(Serialize)]
struct Change<'a> {
    time: String,
    #[serde(flatten)]
    report: &'a Report,
}

impl Status {
    pub(crate) fn run(self) -> anyhow::Result<u8> {
        #[cfg(feature = "remote")]
        if self.watch && self.remote.is_set() {
            let why = "`--watch` looks at files: a server does not tell of changes";
            return Err(exit::ExitError::new(exit::USAGE, why).into());
        }
        if self.watch {
            return watch::watch(&self.paths, &self.locking, |path, answer| {
                let time = format_rfc3339_millis(SystemTime::now());
                match answer {
                    Ok(report) if self.json => {
                        let time = time.to_string();
                        print_line(serde_json::to_string(&Change { time, report })?)?;
                    }
                    Ok(report) => print_line(format_args!("{time} {report}"))?,
                    Err(reason) => cannot_examine(path, reason),
                }
                Ok(())
            });
        }
        #[cfg(feature = "remote")]
        let remote = self.remote.connect()?;
        let (mut code, mut free) = (0, None);
        let is_array = self.json && self.paths.len() > 1;
        let mut before = if is_array { "[\n" } else { "" };
        for path in &self.paths {
            #[cfg(feature = "remote")]
            let answer = match &remote {
                Some(remote) => {
                    let report = remote::report(remote, path);
                    if report.is_err() && before == ",\n" {
                        // What was printed stays an array.
                        print_line("\n]")?;
                    }
                    Ok(report?)
                }
                None => self.examine(path, &mut free)?,
            };
            #[cfg(not(feature = "remote"))]
            let answer = self.examine(path, &mut free)?;
            let report = match answer {
                Ok(report) => report,
                Err(reason) => {
                    code = exit::NO_INPUT;
                    cannot_examine(path, &reason);
                    continue;
                }
            };
            if report.unknown == Some(Unknown::NoAnswer) {
                code = exit::NO_INPUT;
            }
            if is_array {
                print(format_args!("{before}{}", serde_json::to_string(&report)?))?;
                before = ",\n";
            } else if self.json {
                print_line(serde_json::to_string_pretty(&report)?)?;
            } else {
                print_line(report)?;
            }
        }
        if is_array {
            print_line(if before == ",\n" { "\n]" } else { "[]" })?;
        }
        Ok(code)
    }

    /// Asks the worker that is `free`, or a new one.
    fn examine(&self, path: &Path, free: &mut Option<Worker>) -> anyhow::Result<Answer> {
        let worker = free.take();
        let mut worker = worker.map_or_else(|| Worker::start(&self.locking), Ok)?;
        worker.ask(path)?;
        Ok(match worker.answer(PATIENCE)? {
            Some(answer) => {
                *free = Some(worker);
                answer
            }
            None => Ok(Report::unknown(path, Unknown::NoAnswer)),
        })
    }
}

fn cannot_examine(path: &Path, reason: &str) {
    eprint_line(format_args!(
        "cannot examine `{}`: {reason}",
        shown_path(path)
    ));
}

fn print_line(text: impl Display) -> io::Result<()> {
    print(format_args!("{text}\n"))
}

/// Prints at once: the next path may take its time.
fn print(text: impl Display) -> io::Result<()> {
    let mut out = io::stdout().lock();
    write!(out, "{text}")?;
    out.flush()
}
