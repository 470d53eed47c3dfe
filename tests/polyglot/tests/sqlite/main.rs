//! A database that components and native programs use at the same time. The native programs are SQLite
//! as it is, on its own VFS.

mod kills;
mod mistakes;

use locket::{Engine, Mode};
use locket_tests::harness::eventually;
use locket_tests::process::{kernel_waiters, tool};
use polyglot::sqlite::{Target, build, demo};
use polyglot::{Language, root};
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

type Result<T = (), E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

struct Programs {
    folder: tempfile::TempDir,
}

impl Programs {
    fn build() -> Result<Option<Self>> {
        if !Language::named("c").expect("C").is_ready() {
            return Ok(None);
        }
        let folder = tempfile::tempdir()?;
        let vfs = root().join("guest/sqlite");
        build(Target::Native, &vfs, &folder.path().join("count"))?;
        build(Target::Component, &vfs, &folder.path().join("count.wasm"))?;
        fs::create_dir(folder.path().join("data"))?;
        let programs = Self { folder };
        // Its code is compiled now, and kept: later ones may not live long enough for that.
        programs.init("wal")?;
        assert!(programs.start("guest", "read", "0")?.wait()?.success());
        Ok(Some(programs))
    }

    fn database(&self) -> PathBuf {
        self.folder.path().join("data/db")
    }

    /// Starts the program: `unix` for SQLite as it is, `native` for the VFS without a component, and
    /// `guest` for a component.
    fn start(&self, how: &str, role: &str, amount: &str) -> Result<Child> {
        let program = self.folder.path().join("count");
        let mut command = match how {
            "guest" => {
                let mut run = Command::new(tool());
                let data = self.folder.path().join("data");
                run.args(["run", "--dir"])
                    .arg(format!("{}::/data", data.display()))
                    .arg(program.with_extension("wasm"))
                    .args(["/data/db", "locket"]);
                run
            }
            _ => {
                let mut command = Command::new(program);
                let vfs = if how == "unix" { "unix" } else { "locket" };
                command.arg(self.database()).arg(vfs);
                command
            }
        };
        command.args([role, amount]).stdout(Stdio::piped());
        Ok(command.spawn()?)
    }

    fn init(&self, mode: &str) -> Result {
        for file in fs::read_dir(self.folder.path().join("data"))? {
            fs::remove_file(file?.path())?;
        }
        let status = self.start("unix", "init", mode)?.wait()?;
        assert!(status.success());
        Ok(())
    }

    fn ask(&self, sql: &str) -> Result<String> {
        let output = Command::new("sqlite3")
            .arg(self.database())
            .arg(sql)
            .output()?;
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{error}");
        Ok(String::from_utf8(output.stdout)?.trim_end().to_owned())
    }

    /// Checks that the database is sound, and has each row once.
    fn check(&self, mode: &str, rows: u64) -> Result {
        assert_eq!(self.ask("pragma integrity_check")?, "ok");
        assert_eq!(self.ask("select n from counter")?, rows.to_string());
        assert_eq!(self.ask("select count(*) from log")?, rows.to_string());
        assert_eq!(self.ask("pragma journal_mode")?, mode);
        Ok(())
    }
}

fn count_together(mode: &str) -> Result {
    const EACH: u64 = 150;
    let Some(programs) = Programs::build()? else {
        return Ok(());
    };
    programs.init(mode)?;
    let each = EACH.to_string();
    let writers = ["guest", "unix", "guest", "unix", "native"];
    let mut children = Vec::new();
    for (number, how) in writers.iter().enumerate() {
        children.push(programs.start(how, &number.to_string(), &each)?);
    }
    for how in ["guest", "unix"] {
        children.push(programs.start(how, "read", "3")?);
    }
    for child in children {
        let output = child.wait_with_output()?;
        assert!(output.status.success(), "{output:?}");
    }
    programs.check(mode, writers.len() as u64 * EACH)
}

#[test]
fn components_and_native_programs_share_a_database_with_a_rollback_journal() -> Result {
    count_together("delete")
}

#[test]
fn components_and_native_programs_share_a_database_with_a_write_ahead_log() -> Result {
    count_together("wal")
}

/// Which lock the byte of the index has by which each process says that it uses the index.
fn use_of_the_index(programs: &Programs) -> Result<Option<Mode>> {
    let index = Engine::new().open_ranges(programs.database().with_file_name("db-shm"))?;
    let found = index.query(Mode::Exclusive, 128..129)?;
    Ok(found.map(|held| held.mode))
}

/// A native program that opens the database begins the index anew if no process says that it uses it.
#[test]
fn a_component_says_that_it_uses_the_index() -> Result {
    let Some(programs) = Programs::build()? else {
        return Ok(());
    };
    programs.init("wal")?;
    assert_eq!(use_of_the_index(&programs)?, None);
    let mut component = programs.start("guest", "1", "1000000")?;
    eventually("it is seen", || {
        use_of_the_index(&programs).is_ok_and(|mode| mode == Some(Mode::Shared))
    });
    component.kill()?;
    component.wait()?;
    eventually("it is gone", || {
        use_of_the_index(&programs).is_ok_and(|mode| mode.is_none())
    });
    Ok(())
}

/// A program that has begun to write. It commits when it is told to.
struct Holder(Child);

impl Holder {
    fn start(database: &Path) -> Result<Self> {
        let mut shell = Command::new("sqlite3");
        shell.arg(database).stdin(Stdio::piped());
        let mut shell = Self(shell.stdout(Stdio::piped()).spawn()?);
        shell.tell("begin immediate; update counter set n = n; select 'begun';")?;
        let mut said = String::new();
        let output = shell.0.stdout.as_mut().expect("it is piped");
        BufReader::new(output).read_line(&mut said)?;
        assert_eq!(said, "begun\n");
        Ok(shell)
    }

    fn tell(&mut self, sql: &str) -> Result {
        let input = self.0.stdin.as_mut().expect("it is piped");
        Ok(writeln!(input, "{sql}")?)
    }

    fn commit(mut self) -> Result {
        self.tell("commit;")?;
        drop(self.0.stdin.take());
        assert!(self.0.wait()?.success());
        Ok(())
    }
}

/// With either of SQLite's timeouts, a component waits in the kernel.
#[test]
fn a_component_waits_in_the_kernel_for_a_busy_database() -> Result {
    let Some(programs) = Programs::build()? else {
        return Ok(());
    };
    for mode in ["delete", "wal"] {
        programs.init(mode)?;
        let holder = Holder::start(&programs.database())?;
        let mut waiter = programs.start("guest", "1", "1")?;
        let files = ["db", "db-shm"].map(|name| programs.database().with_file_name(name));
        eventually("it waits", || {
            let mut files = files.iter().filter(|file| file.exists());
            files.any(|file| kernel_waiters(file) > 0)
        });
        holder.commit()?;
        assert!(waiter.wait()?.success());
        programs.check(mode, 1)?;
    }
    Ok(())
}

#[test]
fn the_component_of_the_demo_is_fresh() -> Result {
    let kept = fs::read_to_string(demo::kept_digest())?;
    assert_eq!(
        kept.trim(),
        demo::digest()?,
        "it is older than its sources: run `target/debug/polyglot demo`"
    );
    Ok(())
}
