//! What SQLite in a component costs beside a native process on SQLite's own VFS, on one database.
//!
//! `cargo build --release --workspace --bins && cargo bench --workspace --bench sqlite` prints a table of
//! ratios to the native process, as the benchmark `limits` of the engine does; `-- --quick` measures less.

#[path = "../../../host/benches/limits/measure.rs"]
#[allow(dead_code, reason = "shared with the benchmark of the engine")]
mod measure;
#[path = "../../../host/benches/limits/report.rs"]
#[allow(dead_code, reason = "shared with the benchmark of the engine")]
mod report;
#[path = "../../../host/benches/limits/samples.rs"]
#[allow(dead_code, reason = "shared with the benchmark of the engine")]
mod samples;
#[path = "sqlite/session.rs"]
mod session;

use clap::Parser;
use measure::{Contestant, compare};
use polyglot::sqlite::program::{Program, Side};
use report::{Report, Row, Section, Unit};
use samples::Samples;
use session::{Database, Patience, Session};
use std::cell::RefCell;
use std::fs;
use std::time::Duration;

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

#[derive(Parser)]
struct Args {
    /// Measure less
    #[arg(long)]
    quick: bool,
    /// Cargo says so.
    #[arg(long, hide = true)]
    bench: bool,
}

/// A VFS in a component or in a native process, by its name in the table.
type Who = (&'static str, Side, &'static str);

const NATIVE: Who = ("native process", Side::Native, "unix");
const COMPONENT: Who = ("component", Side::Component, "locket");
/// The default of SQLite on WASI: a lock file that other programs do not know.
const DOT_FILE: Who = (
    "component, VFS unix-dotfile",
    Side::Component,
    "unix-dotfile",
);
/// What a component costs without any lock.
const NO_LOCK: Who = ("component, VFS unix-none", Side::Component, "unix-none");

fn main() -> Result {
    let args = Args::parse();
    let Some(program) = Program::of_ours("steps.c")? else {
        return Ok(());
    };
    let dir = tempfile::tempdir()?;
    let mut report = Report::new(dir.path());
    let rounds = if args.quick { 5 } else { 15 };
    for (journal, synchronous, batch) in [
        ("delete", "full", 25),
        ("delete", "off", 250),
        ("wal", "full", 50),
        ("wal", "normal", 500),
        ("wal", "off", 500),
    ] {
        let database = Database::new(&program, journal, synchronous)?;
        report.add(alone(&database, rounds, batch)?);
    }
    for journal in ["delete", "wal"] {
        let database = Database::new(&program, journal, "off")?;
        report.add(beside_a_writer(&database, rounds)?);
    }
    for journal in ["delete", "wal"] {
        let database = Database::new(&program, journal, "off")?;
        report.add(waits(&database, rounds, if args.quick { 20 } else { 40 })?);
    }
    println!("{}", report.summary());
    Ok(())
}

/// One writer at a time.
fn alone(database: &Database<'_>, rounds: usize, batch: u32) -> Result<Section> {
    let mut all = vec![NATIVE, COMPONENT];
    // The log takes shared memory, which these do not have.
    if database.journal != "wal" {
        all.extend([DOT_FILE, NO_LOCK]);
    }
    let mut contestants = Vec::new();
    for (name, side, vfs) in all {
        let mut session = Session::new(database, side, vfs, Patience::Queue)?;
        contestants.push(Contestant::new(name, move |samples| {
            samples.push(session.write(batch));
        }));
    }
    let title = format!("{database}, one writer: a transaction");
    Ok(compare(&title, rounds, contestants))
}

/// A writer, while a native process writes too, for a while.
fn beside_a_writer(database: &Database<'_>, rounds: usize) -> Result<Section> {
    const WHILE: Duration = Duration::from_millis(500);
    let stop = database.folder().join("stop");
    let other = Session::new(database, Side::Native, "unix", Patience::Poll)?;
    let other = RefCell::new((other, [Samples::default(), Samples::default()]));
    let mut contestants = Vec::new();
    for (index, (name, side, vfs)) in [NATIVE, COMPONENT].into_iter().enumerate() {
        let patience = [Patience::Poll, Patience::Queue][index];
        let mut session = Session::new(database, side, vfs, patience)?;
        let (stop, other) = (&stop, &other);
        contestants.push(Contestant::new(name, move |samples| {
            let (other, counts) = &mut *other.borrow_mut();
            other.send(&format!("until 0 {}", stop.display()));
            session.send(&format!("until 0 {}/stop", side.folder(database.folder())));
            std::thread::sleep(WHILE);
            fs::write(stop, "").expect("the folder can be written");
            let (written, others) = (session.number(), other.number());
            fs::remove_file(stop).expect("it is there");
            // One that had no turn takes at least as long.
            samples.push(WHILE.as_nanos() as f64 / written.max(1.0));
            counts[index].push(others / WHILE.as_secs_f64());
        }));
    }
    let title = format!("{database}, beside a native writer: a transaction");
    let mut section = compare(&title, rounds, contestants);
    let (_, counts) = other.into_inner();
    for (count, name) in counts.into_iter().zip(["native process", "component"]) {
        let name = format!("the native writer beside the {name}");
        section.rows.push(Row::new(&name, Unit::PerSecond, count));
    }
    Ok(section)
}

/// From the end of the holder's commit to the grant.
fn waits(database: &Database<'_>, rounds: usize, batch: u32) -> Result<Section> {
    let holder = Session::new(database, Side::Native, "unix", Patience::Poll)?;
    let holder = RefCell::new(holder);
    let mut contestants = Vec::new();
    for (name, (_, side, vfs), patience) in [
        (
            "native process, sqlite3_busy_timeout",
            NATIVE,
            Patience::Poll,
        ),
        ("component, sqlite3_busy_timeout", COMPONENT, Patience::Poll),
        (
            "component, sqlite3_setlk_timeout",
            COMPONENT,
            Patience::Queue,
        ),
    ] {
        // It is for the log alone; and on Unix, SQLite's own VFS has no lock that waits.
        if database.journal != "wal" && patience == Patience::Queue {
            continue;
        }
        let mut waiter = Session::new(database, side, vfs, patience)?;
        let holder = &holder;
        // The same times for all.
        let mut random = 1_u64;
        contestants.push(Contestant::new(name, move |samples| {
            let holder = &mut *holder.borrow_mut();
            for _ in 0..batch {
                holder.sql("begin immediate; update counter set n = n + 1");
                waiter.send("at 0 begin immediate");
                random = random
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                std::thread::sleep(Duration::from_micros((random >> 33) % 100_000));
                holder.send("at 0 commit");
                let waited = waiter.number() - holder.number();
                waiter.sql("rollback");
                samples.push(waited.max(0.0));
            }
        }));
    }
    let title = format!("{database}: from a commit to the grant, after 0 to 100 ms");
    Ok(compare(&title, rounds, contestants))
}
