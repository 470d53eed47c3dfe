//! A database that components and native programs use at the same time. The native programs are SQLite
//! as it is, on its own VFS.

use locket::{Engine, Mode};
use locket_tests::harness::eventually;
use locket_tests::process::tool;
use polyglot::sqlite::{Target, VFS, build};
use polyglot::{Language, root};
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

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

/// Kills any of them, again and again: nothing that was acknowledged is missing.
#[test]
fn what_was_committed_survives_kills() -> Result {
    let Some(programs) = Programs::build()? else {
        return Ok(());
    };
    programs.init("wal")?;
    let seconds: u64 = std::env::var("SQLITE_SECONDS").map_or(6, |s| s.parse().unwrap());
    let end = Instant::now() + Duration::from_secs(seconds);
    let hows = ["guest", "unix", "guest", "unix"];
    let (mut kills, mut acknowledged) = (0, BTreeMap::new());
    let start = |number: usize| programs.start(hows[number], &number.to_string(), "1000000");
    let mut running = Vec::new();
    for number in 0..hows.len() {
        running.push(follow(start(number)?));
    }
    let mut random = 1_u64;
    while Instant::now() < end {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let pause = 50 + (random >> 33) % 250;
        #[expect(clippy::disallowed_methods, reason = "the time until the next kill")]
        std::thread::sleep(Duration::from_millis(pause));
        let number = usize::try_from((random >> 40) % hows.len() as u64)?;
        let again = follow(start(number)?);
        let killed = std::mem::replace(&mut running[number], again);
        kills += 1;
        note(&mut acknowledged, number, killed);
    }
    for (number, last) in running.into_iter().enumerate() {
        note(&mut acknowledged, number, last);
    }
    let mut total = 0;
    for (number, last) in &acknowledged {
        let rows = format!("select count(*) from log where writer = {number}");
        let rows: u64 = programs.ask(&rows)?.parse()?;
        // One that was killed had no time to say so.
        assert!(
            *last <= rows,
            "writer {number}: {last} acknowledged, {rows} there"
        );
        assert!(
            rows > 0,
            "writer {number}, {}, never got its turn",
            hows[*number]
        );
        total += rows;
    }
    println!("{kills} kills, {total} commits");
    assert!(kills > 0 && total > 0);
    programs.check("wal", total)
}

/// A writer, and the number that it has said last.
struct Followed {
    child: Child,
    said: std::thread::JoinHandle<u64>,
}

fn follow(mut child: Child) -> Followed {
    let output = BufReader::new(child.stdout.take().expect("it is piped"));
    let said = std::thread::spawn(move || {
        let numbers = output.lines().map_while(|line| line.ok()?.parse().ok());
        numbers.last().unwrap_or(0)
    });
    Followed { child, said }
}

/// Kills a writer, and notes the last number that it has acknowledged.
fn note(acknowledged: &mut BTreeMap<usize, u64>, number: usize, mut followed: Followed) {
    let _ = followed.child.kill();
    let _ = followed.child.wait();
    let said = followed.said.join().expect("the reader does not panic");
    let last = acknowledged.entry(number).or_default();
    *last = said.max(*last);
}

/// A native program that opens the database begins the index anew if no process says that it uses it.
#[test]
fn a_component_says_that_it_uses_the_index() -> Result {
    let Some(programs) = Programs::build()? else {
        return Ok(());
    };
    programs.init("wal")?;
    let index = programs.database().with_file_name("db-shm");
    let user = || -> Result<Option<Mode>> {
        let index = Engine::new().open_ranges(&index)?;
        Ok(index
            .query(Mode::Exclusive, 128..129)?
            .map(|held| held.mode))
    };
    assert_eq!(user()?, None);
    let mut component = programs.start("guest", "1", "1000000")?;
    eventually("it is seen", || {
        user().is_ok_and(|mode| mode == Some(Mode::Shared))
    });
    component.kill()?;
    component.wait()?;
    eventually("it is gone", || user().is_ok_and(|mode| mode.is_none()));
    Ok(())
}

/// Mistakes in the copy of the wal-index. Each of them has to show.
const MISTAKES: [(&str, &str, &str); 2] = [
    (
        "without a pull",
        "static int pull(wal_index *index) {\n",
        "static int pull(wal_index *index) {\n    if (index) return SQLITE_OK;\n",
    ),
    (
        "a push of whole regions",
        "if (r->live[from] == r->file[from]) continue;\n        int to = from;\n        \
         while (to < end && r->live[to] != r->file[to]) to++;",
        "int to = end;",
    ),
];

#[test]
fn mistakes_in_the_copy_of_the_index_show() -> Result {
    let Some(mut programs) = Programs::build()? else {
        return Ok(());
    };
    let vfs = root().join("guest/sqlite");
    for (what, right, wrong) in MISTAKES {
        let copy = tempfile::tempdir()?;
        for file in VFS.iter().chain(&["internal.h", "locket_sqlite.h"]) {
            fs::copy(vfs.join(file), copy.path().join(file))?;
        }
        let index = copy.path().join("wal_index.c");
        let source = fs::read_to_string(&index)?;
        assert!(source.contains(right), "{what}: the source has changed");
        fs::write(&index, source.replace(right, wrong))?;
        build(
            Target::Native,
            copy.path(),
            &programs.folder.path().join("count"),
        )?;
        let shows = (0..5).any(|_| shows(&mut programs).expect("it can be tried"));
        assert!(shows, "nothing shows: {what}");
    }
    Ok(())
}

/// Whether some programs with the VFS and some on SQLite's own get in each other's way.
fn shows(programs: &mut Programs) -> Result<bool> {
    programs.init("wal")?;
    let mut children = Vec::new();
    for (number, how) in ["native", "unix", "native", "unix"].iter().enumerate() {
        children.push(programs.start(how, &number.to_string(), "150")?);
    }
    children.push(programs.start("native", "read", "1")?);
    children.push(programs.start("unix", "read", "1")?);
    let deadline = Instant::now() + Duration::from_secs(15);
    let mut bad = false;
    for mut child in children {
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break Some(status);
            }
            if bad || Instant::now() > deadline {
                child.kill()?;
                child.wait()?;
                break None;
            }
            #[expect(clippy::disallowed_methods, reason = "a child has no other notice")]
            std::thread::sleep(Duration::from_millis(5));
        };
        bad |= !status.is_some_and(|status| status.success());
    }
    Ok(bad || programs_differ(&programs.database())?)
}

fn programs_differ(database: &Path) -> Result<bool> {
    let sql = "pragma integrity_check; select n, (select count(*) from log) from counter";
    let output = Command::new("sqlite3").arg(database).arg(sql).output()?;
    Ok(String::from_utf8_lossy(&output.stdout).trim_end() != "ok\n600|600")
}
