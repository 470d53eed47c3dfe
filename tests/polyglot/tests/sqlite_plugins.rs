//! The examples in `guest/sqlite`: plugins that append to a database which native programs write at the
//! same time.

use locket_tests::process::{Dir, tool};
use polyglot::Language;
use polyglot::languages::{sqlite_c, sqlite_rust};
use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};

type Result<T = (), E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

const EACH: usize = 100;

/// Two components and two programs write at once: each number is there once, and none is missing.
fn appends_beside_native_programs(plugin: &Language) -> Result {
    if !plugin.is_ready() {
        return Ok(());
    }
    let plugin = plugin.built()?.path;
    let dir = Dir::new();
    // The first one begins the database.
    assert_eq!(said(start(&plugin, &dir, 1)?)?, "1");
    let append = "begin immediate;\n\
                  insert into log select max(number) + 1, 'native' from log;\n\
                  commit;\n";
    let script = format!(".timeout 60000\n{}", append.repeat(EACH));
    std::fs::write(dir.path().join("append.sql"), script)?;
    let writers = [
        start(&plugin, &dir, EACH)?,
        native(&dir)?,
        start(&plugin, &dir, EACH)?,
        native(&dir)?,
    ];
    let total = 1 + writers.len() * EACH;
    for writer in writers {
        said(writer)?;
    }
    let sql = "select count(*), max(number) from log; pragma integrity_check; pragma journal_mode";
    assert_eq!(ask(&dir, sql)?, format!("{total}|{total}\nok\nwal"));
    assert_eq!(said(start(&plugin, &dir, 0)?)?, total.to_string());
    Ok(())
}

/// The example, as a component.
fn start(plugin: &Path, dir: &Dir, rows: usize) -> Result<Child> {
    let grant = format!("{}::/data", dir.path().display());
    let mut run = Command::new(tool());
    run.args(["run", "--dir", &grant]).arg(plugin);
    run.args(["/data/app.db", &rows.to_string()]);
    Ok(run.stdout(Stdio::piped()).spawn()?)
}

/// The shell of SQLite, which does the same.
fn native(dir: &Dir) -> Result<Child> {
    let mut shell = Command::new("sqlite3");
    shell.arg("-bail").arg(dir.path().join("app.db"));
    shell
        .stdin(File::open(dir.path().join("append.sql"))?)
        .stdout(Stdio::piped());
    Ok(shell.spawn()?)
}

fn ask(dir: &Dir, sql: &str) -> Result<String> {
    let mut shell = Command::new("sqlite3");
    shell.arg(dir.path().join("app.db")).arg(sql);
    said(shell.stdout(Stdio::piped()).spawn()?)
}

/// What a program has printed when it ends.
fn said(program: Child) -> Result<String> {
    let output = program.wait_with_output()?;
    assert!(output.status.success(), "{output:?}");
    Ok(String::from_utf8(output.stdout)?.trim_end().to_owned())
}

#[test]
fn the_example_in_c_appends_beside_native_programs() -> Result {
    appends_beside_native_programs(&sqlite_c::LANGUAGE)
}

#[test]
fn the_example_in_rust_appends_beside_native_programs() -> Result {
    appends_beside_native_programs(&sqlite_rust::LANGUAGE)
}
