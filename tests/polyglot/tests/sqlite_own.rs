//! SQLite's own test programs, as they are: `speedtest1`, which works through most of SQL, and `mptest`,
//! whose processes share a database, crash, and check what each of them finds.

use locket_tests::harness::eventually;
use locket_tests::process::Process;
use polyglot::sqlite::program::{Program, Side};
use polyglot::sqlite::sources::sources;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

type Result<T = (), E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

fn program(source: &str) -> Result<Option<Program>> {
    let Some(sources) = sources() else {
        return Ok(None);
    };
    Ok(Program::of_sqlite(&sources.join(source))?)
}

/// Starts `speedtest1` on the database `db` in the folder.
fn start_speedtest(program: &Program, side: Side, data: &Path, journal: &str) -> Result<Child> {
    let mut command = side.command(program, data);
    command
        .args(["--vfs", side.vfs(), "--journal", journal])
        .args(["--size", "5", "--verify", "--nosync"])
        // Fewer pages than a big transaction changes, so that it spills.
        .args(["--cachesize", "100", "--testset", "main,orm,cte,fp"])
        .arg(format!("{}/db", side.folder(data)));
    Ok(command.stdout(Stdio::piped()).spawn()?)
}

/// What it has printed, less the times: its tests, and the sum of all results.
fn results(speedtest: Child) -> Result<Vec<String>> {
    let output = speedtest.wait_with_output()?;
    assert!(output.status.success(), "{output:?}");
    let output = String::from_utf8(output.stdout)?;
    let results: Vec<_> = output
        .lines()
        .map(|line| line.split("...").next().unwrap_or_default().to_owned())
        .collect();
    assert!(
        results.iter().any(|line| line.starts_with("Verification")),
        "{output}"
    );
    Ok(results)
}

fn speedtest_is_as_native(journal: &str) -> Result {
    let Some(program) = program("test/speedtest1.c")? else {
        return Ok(());
    };
    let (component, native) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let expected = start_speedtest(&program, Side::Native, native.path(), journal)?;
    let expected = results(expected)?;
    let found = start_speedtest(&program, Side::Component, component.path(), journal)?;
    let found = match journal {
        "wal" => beside_a_reader(found, component.path())?,
        _ => results(found)?,
    };
    assert_eq!(found, expected);
    Ok(())
}

/// The results, while a native process finds each of its snapshots unchanged. It keeps the first, so that
/// the log grows.
fn beside_a_reader(speedtest: Child, data: &Path) -> Result<Vec<String>> {
    const QUERY: &str = "select (select group_concat(name || rootpage) from sqlite_schema), \
                         (select count(*) || ' ' || sum(a) || ' ' || sum(length(c)) from z1)";
    let Some(steps) = Program::of_ours("steps.c")? else {
        return results(speedtest);
    };
    let log = data.join("db-wal");
    eventually("something is written", || {
        fs::metadata(&log).is_ok_and(|log| log.len() > 4096)
    });
    let mut reader = Process::spawn(Side::Native.command(&steps, data).arg("unix"));
    let worker = std::thread::spawn(move || results(speedtest));
    for number in [0, 1] {
        let open = format!("open {number} file:{}/db?mode=ro", data.display());
        assert_eq!(reader.ask(&open), "ok");
    }
    let first = format!("sql 0 {QUERY}");
    // A query that fails, as there is no such table yet, begins no snapshot.
    reader.ask("sql 0 begin; select count(*) from sqlite_schema");
    let kept = reader.ask(&first);
    let mut looks = 0;
    while !worker.is_finished() {
        reader.ask("sql 1 begin; select count(*) from sqlite_schema");
        let look = format!("sql 1 {QUERY}");
        let seen = reader.ask(&look);
        assert_eq!(reader.ask(&look), seen);
        reader.ask("sql 1 commit");
        assert_eq!(reader.ask(&first), kept);
        looks += 1;
    }
    assert!(looks > 0);
    worker.join().expect("it does not panic")
}

#[test]
fn speedtest1_has_the_same_results_with_a_rollback_journal() -> Result {
    speedtest_is_as_native("delete")
}

#[test]
fn speedtest1_has_the_same_results_with_a_long_write_ahead_log() -> Result {
    speedtest_is_as_native("wal")
}

/// Runs a script of `mptest`, whose supervisor is native; every second client is a component.
fn mptest(script: &str, journal: &str) -> Result {
    let Some(program) = program("mptest/mptest.c")? else {
        return Ok(());
    };
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("data");
    fs::create_dir(&data)?;
    // The supervisor starts itself by its name, for each client.
    let client = folder.path().join("client");
    let mut component = shell(&Side::Component.command(&program, &data));
    component.push_str(" /data/db \"$@\"");
    let native = shell(&Side::Native.command(&program, &data));
    fs::write(
        &client,
        format!(
            "#!/bin/sh\ncase $3 in\n*[13579]) shift; exec {component};;\n*) exec {native} \"$@\";;\nesac\n"
        ),
    )?;
    fs::set_permissions(&client, fs::Permissions::from_mode(0o755))?;
    let sources = sources().expect("they are there").join("mptest");
    fs::write(folder.path().join(script), shortened(&sources, script)?)?;
    let crash = "crash02.subtest";
    fs::copy(sources.join(crash), folder.path().join(crash))?;
    let output = program
        .native()
        .arg0(&client)
        .current_dir(&folder)
        .arg(data.join("db"))
        .args([script, "--journalmode", journal])
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    let summary = said.lines().find(|line| line.starts_with("Summary"));
    println!("{script}, {journal}: {summary:?}");
    assert!(output.status.success(), "{output:?}");
    assert!(said.contains("-DSQLITE_"), "{said}");
    Ok(())
}

/// The script, which crashes three times instead of nine.
fn shortened(sources: &Path, script: &str) -> Result<String> {
    let script = fs::read_to_string(sources.join(script))?;
    let mut crashes = 0;
    let lines = script.lines().filter(|line| {
        crashes += u32::from(line.contains("crash02.subtest"));
        !line.contains("crash02.subtest") || crashes <= 3
    });
    Ok(lines.collect::<Vec<_>>().join("\n"))
}

/// A command as a shell reads it.
fn shell(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(|word| format!("'{}'", word.display())).collect();
    words.join(" ")
}

#[test]
fn mptest_writes_from_processes_and_components() -> Result {
    for journal in ["delete", "truncate", "persist", "wal"] {
        mptest("multiwrite01.test", journal)?;
    }
    Ok(())
}

#[test]
fn mptest_recovers_after_crashes_with_a_rollback_journal() -> Result {
    mptest("crash01.test", "delete")
}

#[test]
fn mptest_recovers_after_crashes_with_a_write_ahead_log() -> Result {
    mptest("crash01.test", "wal")
}
