//! Every language and native processes count on one unprotected file: with a lock of the kernel, and
//! with one that is a name, which guests share that bring their locks with them.

use locket_tests::harness::Host;
use locket_tests::process::tool;
use polyglot::host::{Guest, component, component_of};
use polyglot::languages::python::COMPONENTIZE_PY;
use polyglot::{LANGUAGES, Language, PROVIDER};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{fmt, fs};

type Result<T = (), E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

const ROUNDS: u32 = 200;

/// A row of the table.
struct Row {
    name: String,
    component: Option<Component>,
    longest_wait: Duration,
}

/// What a row says of a component.
struct Component {
    bytes: u64,
    built_in: Duration,
    first_call: Duration,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, wait) = (&self.name, self.longest_wait.as_secs_f64() * 1e3);
        write!(f, "{name:<18}")?;
        match &self.component {
            Some(component) => {
                let kilobytes = component.bytes as f64 / 1e3;
                let built_in = component.built_in.as_secs_f64();
                let first_call = component.first_call.as_secs_f64() * 1e3;
                write!(
                    f,
                    "{kilobytes:>10.1} kB{built_in:>8.1} s{first_call:>10.1} ms"
                )?;
            }
            None => write!(f, "{:>13}{:>10}{:>13}", "", "", "")?,
        }
        write!(f, "{ROUNDS:>12}{wait:>12.1} ms")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_language_and_native_processes_lose_no_count() -> Result {
    let host = host()?;
    let mut guests = Vec::new();
    for language in LANGUAGES.iter().filter(|language| language.is_ready()) {
        guests.push(start(language, &host, "").await?);
    }
    let exec = format!("'{}' exec lock --", tool().display());
    let natives = [
        ("Python", python(&host)?),
        ("flock(1)", shell(&host, "flock(1)", "flock lock")?),
        ("locket exec", shell(&host, "locket exec", &exec)?),
    ];
    all_count(&host, guests, natives).await
}

#[tokio::test(flavor = "multi_thread")]
async fn guests_that_bring_their_locks_lose_no_count_either() -> Result {
    let host = host()?;
    let mut guests = Vec::new();
    for language in LANGUAGES.iter().filter(|language| language.is_ready()) {
        guests.push(start(language, &host, " link").await?);
        if ["c", "rust"].contains(&language.name) && PROVIDER.is_ready() {
            guests.push(start_with_provider(language, &host).await?);
        }
    }
    let exec = format!("'{}' exec --protocol link lock --", tool().display());
    let mut natives = vec![("locket exec", shell(&host, "locket exec", &exec)?)];
    if Language::named("python").is_some_and(Language::is_ready) {
        natives.push(("pylockfile", pylockfile(&host)?));
    }
    all_count(&host, guests, natives).await
}

fn host() -> Result<Host> {
    let host = Host::new();
    fs::write(host.path("counter"), "0")?;
    fs::write(host.path("lock"), "")?;
    Ok(host)
}

/// Has the guests count, while the native processes do already, and prints the table.
async fn all_count(
    host: &Host,
    guests: Vec<(Guest, Row)>,
    natives: impl IntoIterator<Item = (&'static str, Child)>,
) -> Result {
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
    let mut rows = Vec::new();
    for guest in guests {
        rows.push(guest.await??);
    }
    for (name, mut process) in natives {
        assert!(process.wait()?.success(), "{name}");
        rows.push(native_row(name, host)?);
    }
    println!("language             component   built in   first call  increments  longest wait");
    for row in &rows {
        println!("{row}");
    }
    let total: u32 = fs::read_to_string(host.path("counter"))?.trim().parse()?;
    assert_eq!(total, ROUNDS * u32::try_from(rows.len())?);
    println!("{total} of {total}, exact");
    Ok(())
}

/// Starts a guest, which opens the lock with `options`.
async fn start(language: &Language, host: &Host, options: &str) -> Result<(Guest, Row)> {
    let built = language.built()?;
    let component = component(&built.path)?;
    let begin = Instant::now();
    let mut guest = Guest::start(&component, host).await?;
    open(&mut guest, options).await?;
    let component = Component {
        bytes: fs::metadata(built.path)?.len(),
        built_in: built.time,
        first_call: begin.elapsed(),
    };
    Ok((guest, row(language.name.into(), Some(component))))
}

/// Starts a guest with the provider on a host that has no locks.
async fn start_with_provider(language: &Language, host: &Host) -> Result<(Guest, Row)> {
    let plugged = language.plugged()?;
    let component = component_of(&plugged)?;
    let begin = Instant::now();
    let mut guest = Guest::start_without_locks(&component, host, &[]).await?;
    open(&mut guest, "").await?;
    let component = Component {
        bytes: plugged.len() as u64,
        built_in: language.built()?.time + PROVIDER.built()?.time,
        first_call: begin.elapsed(),
    };
    let name = format!("{}, provider", language.name);
    Ok((guest, row(name, Some(component))))
}

async fn open(guest: &mut Guest, options: &str) -> Result {
    let reply = guest
        .run(&format!("open lock /locks/lock{options}"))
        .await?;
    assert_eq!(reply, "ok");
    Ok(())
}

fn row(name: String, component: Option<Component>) -> Row {
    Row {
        name,
        component,
        longest_wait: Duration::ZERO,
    }
}

/// A native process writes how long it waited, in nanoseconds, into a file of its name, one line
/// for each increment.
fn native_row(name: &'static str, host: &Host) -> Result<Row> {
    let waits = fs::read_to_string(host.path(name))?;
    let waits: Vec<u64> = waits.lines().map(str::parse).collect::<Result<_, _>>()?;
    assert_eq!(waits.len(), ROUNDS as usize, "{name}");
    let longest = waits.into_iter().max().expect("it counted");
    Ok(Row {
        longest_wait: Duration::from_nanos(longest),
        ..row(name.into(), None)
    })
}

fn python(host: &Host) -> Result<Child> {
    let (lock, unlock) = (
        "fcntl.flock(lock, fcntl.LOCK_EX)",
        "fcntl.flock(lock, fcntl.LOCK_UN)",
    );
    let setup = "import fcntl; lock = open('lock')";
    python_counter(Path::new("python3"), host, "Python", [setup, lock, unlock])
}

/// The library that the protocol `link` comes from.
fn pylockfile(host: &Host) -> Result<Child> {
    let python = COMPONENTIZE_PY.folder()?.join("bin/python");
    let setup = "from lockfile.linklockfile import LinkLockFile; lock = LinkLockFile('lock')";
    let steps = [setup, "lock.acquire()", "lock.release()"];
    python_counter(&python, host, "pylockfile", steps)
}

fn python_counter(
    python: &Path,
    host: &Host,
    name: &str,
    [setup, lock, unlock]: [&str; 3],
) -> Result<Child> {
    let program = format!(
        "import time; {setup}\n\
         with open('{name}', 'w') as waits:\n\
         \x20   for _ in range({ROUNDS}):\n\
         \x20       start = time.monotonic_ns()\n\
         \x20       {lock}\n\
         \x20       print(time.monotonic_ns() - start, file=waits)\n\
         \x20       n = int(open('counter').read())\n\
         \x20       open('counter', 'w').write(str(n + 1))\n\
         \x20       {unlock}\n"
    );
    native(Command::new(python).arg("-c").arg(program), host)
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
