//! A PostgreSQL server, its `psql`, and a pooler before it.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use rustix::process::{Pid, Signal, geteuid, kill_process};

use super::clock::Clock;
use super::{free_port, missing};
use crate::process::Process;
use crate::waits::{STUCK, eventually};

/// Whether a server and `psql` are there.
pub fn is_installed() -> bool {
    programs().is_some()
}

/// A server with an empty data directory of its own. It is killed, and what it wrote removed, when
/// this is dropped or this process ends, however it ends.
///
/// Its roles may do everything without a password, but for `guarded`, which needs one, and
/// `certified`, which needs a certificate. Neither exists at first.
#[derive(Debug)]
pub struct Postgres {
    /// In a mutex, so that threads can share the server.
    script: Mutex<Option<Process>>,
    programs: PathBuf,
    dir: PathBuf,
    port: u16,
    number: u32,
    /// The session of [`sql`](Self::sql).
    session: Mutex<Option<Psql>>,
}

/// The processes of a server, stopped. Dropping it continues them.
#[derive(Debug)]
#[must_use = "dropping it continues the server"]
pub struct Stopped(Vec<Pid>);

impl Postgres {
    /// Starts one with `settings`, each as `name=value`. `ssl=on` makes the certificates of [`dir`](Self::dir).
    ///
    /// `None`, and said aloud, if it is not installed.
    ///
    /// # Panics
    ///
    /// If it does not start. In CI also if it is not installed.
    pub fn start(settings: &[&str]) -> Option<Self> {
        Self::launch(settings, |_| {})
    }

    /// Starts one whose wall clock is `clock`.
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start).
    pub fn start_by(clock: &Clock) -> Option<Self> {
        Self::launch(&[], |command| clock.tell(command))
    }

    fn launch(settings: &[&str], prepare: impl FnOnce(&mut Command)) -> Option<Self> {
        let Some(programs) = programs() else {
            missing("a PostgreSQL server", "install Debian's `postgresql`");
            return None;
        };
        let port = free_port();
        let mut command = unprivileged();
        command
            .arg("-c")
            .arg(include_str!("postgres.sh"))
            .arg("postgres.sh");
        command.arg(&programs).arg(port.to_string()).args(settings);
        prepare(&mut command);
        let mut script = Process::spawn(&mut command);
        // To make its files takes a busy machine longer than any answer.
        let dir = script.answer_within(STUCK * 4);
        let dir = dir.expect("the server has its files");
        let mut server = Self {
            dir: dir.into(),
            script: Mutex::new(Some(script)),
            programs,
            port,
            number: 0,
            session: Mutex::default(),
        };
        server.restart();
        Some(server)
    }

    /// Starts it after it was shut down or crashed.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub fn restart(&mut self) {
        let number = self.script().ask("start");
        self.number = number.parse().expect("the script answers with a number");
    }

    /// Ends it as `pg_ctl stop -m fast` does.
    pub fn shut_down(&mut self) {
        self.script().ask("shut-down");
    }

    /// Kills all its processes at once.
    pub fn crash(&mut self) {
        self.script().ask("crash");
    }

    /// Makes it a standby, without a primary, from its next start on.
    ///
    /// # Panics
    ///
    /// If its data cannot be written to.
    pub fn become_standby(&mut self) {
        self.script().ask("standby");
    }

    fn script(&mut self) -> &mut Process {
        // It does not survive what the script does.
        self.session = Mutex::default();
        let script = self
            .script
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        script.as_mut().expect("the script runs until the end")
    }

    /// Stops all its processes with `SIGSTOP`.
    ///
    /// # Panics
    ///
    /// If the system does not let it.
    pub fn stop(&self) -> Stopped {
        let first = pid(self.number);
        let mut stopped = Stopped(vec![first]);
        // The first one first, so that no more come.
        kill_process(first, Signal::STOP).expect("the server can be stopped");
        eventually("the server is stopped", || is_stopped(first));
        for process in children(first) {
            if kill_process(process, Signal::STOP).is_ok() {
                stopped.0.push(process);
            }
        }
        eventually("the server is stopped", || {
            stopped.0.iter().all(|process| is_stopped(*process))
        });
        stopped
    }

    /// The URL of its database for a user, without parameters.
    pub fn url(&self, user: &str) -> String {
        format!("postgres://{user}@127.0.0.1:{}/postgres", self.port)
    }

    /// Its port on loopback.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The folder with its certificates: `root.crt`, which vouches for `localhost` and not for
    /// `127.0.0.1`, `other.crt`, which does not, and `client.crt` with `client.key` for `certified`.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// `psql` as a superuser.
    pub fn psql(&self) -> Psql {
        let mut command = self.psql_command();
        Psql(Process::spawn(command.args(["-v", "ON_ERROR_STOP=1"])))
    }

    /// `psql` as a superuser, with terse output and without the user's settings.
    pub fn psql_command(&self) -> Command {
        let mut command = Command::new(self.programs.join("psql"));
        command.args([
            "-X",
            "-q",
            "-A",
            "-t",
            "-h",
            "127.0.0.1",
            "-U",
            "postgres",
            "postgres",
        ]);
        command.arg("-p").arg(self.port.to_string());
        command
    }

    /// What a statement answers, in a session that is for this alone.
    ///
    /// # Panics
    ///
    /// If there is an error, or no answer for too long.
    #[track_caller]
    pub fn sql(&self, statement: &str) -> String {
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        session.get_or_insert_with(|| self.psql()).ask(statement)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let script = self
            .script
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(script) = script.take() {
            script.finish();
        }
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        for process in &self.0 {
            let _ = kill_process(*process, Signal::CONT);
        }
    }
}

/// A session of `psql`. Killed when dropped.
#[derive(Debug)]
pub struct Psql(Process);

impl Psql {
    /// Sends a statement. The answer is awaited by [`answer`](Self::answer).
    pub fn send(&mut self, statement: &str) {
        self.0.send(&format!("{statement};\n\\echo :end"));
    }

    /// What the statement that was sent answers: its lines without empty ones, joined.
    ///
    /// # Panics
    ///
    /// If there is an error, or no answer for too long.
    #[track_caller]
    pub fn answer(&mut self) -> String {
        let mut lines = Vec::new();
        loop {
            match self.0.answer() {
                line if line == ":end" => return lines.join("\n"),
                line if line.is_empty() => {}
                line => lines.push(line),
            }
        }
    }

    /// Sends a statement, and returns what it answers.
    ///
    /// # Panics
    ///
    /// If there is an error, or no answer for too long.
    #[track_caller]
    pub fn ask(&mut self, statement: &str) -> String {
        self.send(statement);
        self.answer()
    }

    /// Kills it with `SIGKILL`.
    pub fn kill(&mut self) {
        self.0.kill();
    }
}

/// PgBouncer. Killed when dropped.
#[derive(Debug)]
pub struct Pooler {
    script: Option<Process>,
    port: u16,
}

impl Pooler {
    /// Starts it before `server`; `mode` is `session`, `transaction` or `statement`. `round_robin`:
    /// sessions get the process that has been idle for longest, rather than for the shortest time.
    ///
    /// # Panics
    ///
    /// If it does not start. In CI also if it is not installed.
    pub fn start(server: &Postgres, mode: &str, round_robin: bool) -> Option<Self> {
        if !in_path("pgbouncer") {
            missing("PgBouncer", "install Debian's `pgbouncer`");
            return None;
        }
        let port = free_port();
        let mut command = unprivileged();
        command
            .arg("-c")
            .arg(include_str!("pgbouncer.sh"))
            .arg("pgbouncer.sh");
        command.arg(port.to_string()).arg(server.port.to_string());
        command.arg(mode).arg(u8::from(round_robin).to_string());
        let mut script = Process::spawn(&mut command);
        assert_eq!(script.answer(), "ok");
        Some(Self {
            script: Some(script),
            port,
        })
    }

    /// The URL of the database through it.
    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        if let Some(script) = self.script.take() {
            script.finish();
        }
    }
}

/// The folder of the newest server's programs, which Debian keeps out of the path.
fn programs() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok();
    let versions = versions.into_iter().flatten().flatten();
    let debian = versions.map(|version| version.path().join("bin"));
    let needed = ["initdb", "pg_isready", "postgres", "psql"];
    let has_all = |dir: &PathBuf| needed.iter().all(|name| dir.join(name).is_file());
    debian
        .filter(has_all)
        .max()
        .or_else(|| path().into_iter().find(has_all))
}

fn path() -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let also = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    env::split_paths(&path).chain(also).collect()
}

fn in_path(program: &str) -> bool {
    path().iter().any(|dir| dir.join(program).is_file())
}

/// A shell that is not root's, which PostgreSQL refuses.
fn unprivileged() -> Command {
    let mut command;
    if geteuid().is_root() {
        command = Command::new("setpriv");
        command.args([
            "--reuid=postgres",
            "--regid=postgres",
            "--clear-groups",
            "sh",
        ]);
    } else {
        command = Command::new("sh");
    }
    let path = env::join_paths(path()).expect("folders of the path have no colon");
    command.env("PATH", path).current_dir("/");
    command
}

fn pid(number: u32) -> Pid {
    let number = i32::try_from(number).ok();
    number
        .and_then(Pid::from_raw)
        .expect("it is a process number")
}

fn children(of: Pid) -> Vec<Pid> {
    let of = of.as_raw_nonzero();
    let path = format!("/proc/{of}/task/{of}/children");
    let children = fs::read_to_string(path).expect("the system lists the children");
    let numbers = children
        .split_whitespace()
        .filter_map(|number| number.parse().ok());
    numbers.map(pid).collect()
}

/// Whether it is stopped, or gone.
fn is_stopped(process: Pid) -> bool {
    let path = format!("/proc/{}/stat", process.as_raw_nonzero());
    let stat = fs::read_to_string(path).unwrap_or_default();
    let state = stat
        .rsplit(") ")
        .next()
        .and_then(|rest| rest.chars().next());
    matches!(state, Some('T' | 'Z') | None)
}
