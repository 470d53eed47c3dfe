//! Every language and native processes count on one unprotected file.

use locket_tests::harness::Host;
use locket_tests::process::tool;
use polyglot::host::{Guest, component};
use polyglot::{LANGUAGES, Language};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{fmt, fs};

type Result<T = (), E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

const ROUNDS: u32 = 200;

/// A row of the table.
struct Row {
    name: &'static str,
    /// Of a component: its size, and how long it took to build and to answer for the first time.
    component: Option<(u64, Duration, Duration)>,
    longest_wait: Duration,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, wait) = (self.name, self.longest_wait.as_secs_f64() * 1e3);
        write!(f, "{name:<16}")?;
        match self.component {
            Some((bytes, build, first)) => {
                let (kilobytes, build) = (bytes as f64 / 1e3, build.as_secs_f64());
                let first = first.as_secs_f64() * 1e3;
                write!(f, "{kilobytes:>10.1} kB{build:>8.1} s{first:>10.1} ms")?;
            }
            None => write!(f, "{:>13}{:>10}{:>13}", "", "", "")?,
        }
        write!(f, "{ROUNDS:>12}{wait:>12.1} ms")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_language_and_native_processes_lose_no_count() -> Result {
    let host = Host::new();
    fs::write(host.path("counter"), "0")?;
    fs::write(host.path("lock"), "")?;

    let mut guests = Vec::new();
    for language in LANGUAGES.iter().filter(|language| language.is_ready()) {
        guests.push(start(language, &host).await?);
    }
    let guests: Vec<_> = guests
        .into_iter()
        .map(|(mut guest, mut row)| {
            tokio::spawn(async move {
                let reply = guest.run(&format!("count lock {ROUNDS}")).await?;
                assert_eq!(reply, "ok", "{}", row.name);
                row.longest_wait = guest.longest_wait();
                Ok::<_, wasmtime::Error>(row)
            })
        })
        .collect();
    let natives = [
        ("Python", python(&host)?),
        ("flock(1)", shell(&host, "flock(1)", "flock lock")?),
        (
            "locket exec",
            shell(
                &host,
                "locket exec",
                &format!("'{}' exec lock --", tool().display()),
            )?,
        ),
    ];

    let mut rows = Vec::new();
    for guest in guests {
        rows.push(guest.await??);
    }
    for (name, mut process) in natives {
        assert!(process.wait()?.success(), "{name}");
        rows.push(native_row(name, &host)?);
    }
    println!("language           component   built in   first call  increments  longest wait");
    for row in &rows {
        println!("{row}");
    }
    let total: u32 = fs::read_to_string(host.path("counter"))?.trim().parse()?;
    assert_eq!(total, ROUNDS * u32::try_from(rows.len())?);
    println!("{total} of {total}, exact");
    Ok(())
}

/// Starts a guest, which opens the lock.
async fn start(language: &Language, host: &Host) -> Result<(Guest, Row)> {
    let built = language.built()?;
    let component = component(&built.path)?;
    let begin = Instant::now();
    let mut guest = Guest::start(&component, host).await?;
    let reply = guest.run("open lock /locks/lock").await?;
    assert_eq!(reply, "ok", "{}", language.name);
    let bytes = fs::metadata(built.path)?.len();
    let row = Row {
        name: language.name,
        component: Some((bytes, built.time, begin.elapsed())),
        longest_wait: Duration::ZERO,
    };
    Ok((guest, row))
}

/// A native process writes how long it waited, in nanoseconds, into a file of its name, one line
/// for each increment.
fn native_row(name: &'static str, host: &Host) -> Result<Row> {
    let waits = fs::read_to_string(host.path(name))?;
    let waits: Vec<u64> = waits.lines().map(str::parse).collect::<Result<_, _>>()?;
    assert_eq!(waits.len(), ROUNDS as usize, "{name}");
    let longest = waits.into_iter().max().expect("it counted");
    Ok(Row {
        name,
        component: None,
        longest_wait: Duration::from_nanos(longest),
    })
}

fn python(host: &Host) -> Result<Child> {
    let program = format!(
        "import fcntl, time\n\
         with open('lock') as lock, open('Python', 'w') as waits:\n\
         \x20   for _ in range({ROUNDS}):\n\
         \x20       start = time.monotonic_ns()\n\
         \x20       fcntl.flock(lock, fcntl.LOCK_EX)\n\
         \x20       print(time.monotonic_ns() - start, file=waits)\n\
         \x20       n = int(open('counter').read())\n\
         \x20       open('counter', 'w').write(str(n + 1))\n\
         \x20       fcntl.flock(lock, fcntl.LOCK_UN)\n"
    );
    native(Command::new("python3").arg("-c").arg(program), host)
}

/// Runs each round as a command under `prefix`.
fn shell(host: &Host, name: &str, prefix: &str) -> Result<Child> {
    let round =
        "echo $(($(date +%s%N) - $1)) >> \"$0\"; n=$(cat counter); echo $((n + 1)) > counter";
    let program = format!(
        "i=0; while [ $i -lt {ROUNDS} ]; do \
         {prefix} sh -c '{round}' '{name}' $(date +%s%N) || exit 1; i=$((i + 1)); done"
    );
    native(Command::new("sh").arg("-c").arg(program), host)
}

fn native(command: &mut Command, host: &Host) -> Result<Child> {
    let command = command.current_dir(&host.dir).stdin(Stdio::null());
    Ok(command.spawn()?)
}
